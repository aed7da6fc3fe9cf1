"""The rounding and its bounds, the kernels against plain products of the rounded weights, and the choice of one."""

from __future__ import annotations

import pytest
import torch

from xverse_v.quantisation import choice, kernels
from xverse_v.quantisation.choice import Timing

INT8 = [kernels.INT8_WEIGHTS, kernels.INT8_DYNAMIC]


def random_weight(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05
    weight[1] = 0.0  # a row of zeros must not divide by zero
    weight[2, 5] = 3.0  # an outlier takes the whole range of its row, and of no other
    return weight


def random_rows(count: int, columns: int) -> torch.Tensor:
    rows = torch.randn(count, columns, generator=torch.Generator().manual_seed(9))
    return rows * torch.logspace(-2, 2, count)[:, None]  # rows of very different size


def test_eight_bits_are_off_by_half_a_step_at_most_and_clip_nothing():
    weight = random_weight(24, 100)
    values, scale = kernels.quantise_rows(weight)
    assert values.dtype == torch.int8 and values.min() >= -127
    error = (values.float() * scale[:, None] - weight).abs()
    assert (error <= scale[:, None] * 0.5001).all()
    assert torch.equal(values[2, 5], torch.tensor(127, dtype=torch.int8))
    assert not values[1].any()
    exact = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]])
    assert kernels.quantise_rows(exact)[0].tolist() == [[127, 0, 2, 2, 0, -2]]  # half to even, no drift upwards


def test_eight_bits_in_blocks_are_those_of_the_whole(monkeypatch):
    weight = random_weight(24, 100)
    whole = kernels.quantise_rows(weight)
    monkeypatch.setattr(kernels, "_BLOCK", 700)
    assert all(torch.equal(one, other) for one, other in zip(whole, kernels.quantise_rows(weight), strict=True))


def test_half_precision_weights_are_rounded_from_their_own_values():
    weight = random_weight(16, 64).half()
    values, scale = kernels.quantise_rows(weight)
    wanted, wanted_scale = kernels.quantise_rows(weight.float())
    assert torch.equal(values, wanted) and torch.equal(scale, wanted_scale)


def test_four_bits_are_off_by_half_a_step_of_their_group():
    weight = random_weight(64, 256)
    values, scales = kernels.quantise_groups(weight)
    assert scales.shape == (2, 64, 2) and values.min() >= 0 and values.max() <= 15
    error = (kernels.dequantise_groups(values, scales) - weight).abs().view(64, 2, 128)
    step = scales[..., 0].T.float()[..., None]
    # Scale and zero are rounded to bfloat16 (8 bits), which moves the ends of the range by up to 15 steps x 2**-8.
    assert (error <= step * (0.5 + 15 * 2**-8) + 2**-8 * weight.abs().view(64, 2, 128).amax(-1, True)).all()
    plain = weight.view(64, 2, 128)[[0, 5, 9]]
    relative = error[[0, 5, 9]].square().mean().sqrt() / plain.square().mean().sqrt()
    assert 0.05 < relative < 0.13  # 15 steps over some five standard deviations


@pytest.mark.parametrize("kernel", [*INT8, kernels.INT4_WEIGHTS], ids=lambda kernel: kernel.name)
def test_a_kernel_computes_the_product_of_its_rounded_weights(kernel):
    weight, x = random_weight(128, 256), random_rows(5, 256)
    if kernel.kind == "int8":
        values, scale = kernels.quantise_rows(weight)
        stored = values.float() * scale[:, None]
    else:
        stored = kernels.dequantise_groups(*kernels.quantise_groups(weight))
    found, wanted = kernel.prepare(weight)(x), x @ stored.T
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    if kernel.name == "int8-dynamic":
        # Each activation is off by half a step of its row's own largest at most.
        step = x.abs().amax(-1, keepdim=True) / kernels.activation_levels()
        bound = step / 2 * stored.abs().sum(1)
    else:
        # bfloat16: activation, scale and result are each off by 2**-9 of themselves.
        bound = 3 * 2**-8 * (x.abs() @ stored.abs().T)
    assert ((found - wanted).abs() <= bound * 1.01 + 1e-6).all()
    assert (found - wanted).abs().max() > 0  # it is not the float product under another name


@pytest.mark.parametrize("kernel", [*INT8, kernels.INT4_WEIGHTS], ids=lambda kernel: kernel.name)
def test_a_row_does_not_depend_on_its_neighbours(kernel):
    product, x = kernel.prepare(random_weight(64, 256)), random_rows(7, 256)
    together = product(x)
    for row in range(7):
        alone = product(x[row : row + 1])[0]
        assert torch.allclose(together[row], alone, rtol=2**-7, atol=float(alone.abs().max()) * 2**-7)
    if kernel.name == "int8-dynamic":  # whole numbers: not even the last bit
        assert all(torch.equal(together[row], product(x[row])) for row in range(7))
    assert product(x.view(1, 7, 256)).shape == (1, 7, 64)


def test_what_is_no_number_stays_none():
    product = kernels.INT8_DYNAMIC.prepare(random_weight(64, 128))
    x = torch.ones(2, 128)
    x[0, 3] = torch.nan
    found = product(x)
    assert found[0].isnan().all() and found[1].isfinite().all()
    assert not product(torch.zeros(1, 128)).any()


def test_the_levels_of_activations_are_those_that_do_not_overflow():
    levels = kernels.activation_levels()
    assert levels in (127, 63)
    worst = kernels._dynamic(torch.full((64, 512), 1.0), levels)
    assert torch.allclose(worst(torch.ones(3, 512)), torch.tensor(512.0), rtol=1e-4)


def test_the_engine_of_torch_is_left_as_it_was():
    before = torch.backends.quantized.engine
    kernels.INT8_DYNAMIC.prepare(random_weight(8, 64))
    assert torch.backends.quantized.engine == before


def order_of(timings: dict[str, float], plain: float) -> list[str]:
    known = [kernels.INT8_WEIGHTS, kernels.INT8_DYNAMIC]
    measured = [Timing(name, spent, spent) for name, spent in timings.items()]
    return [kernel.name for kernel in choice._order(known, measured, Timing("float32", plain, plain))]


def test_the_fastest_is_chosen_but_the_more_exact_if_nearly_as_fast():
    assert order_of({"int8-weights": 3.0, "int8-dynamic": 1.0}, 5.0) == ["int8-dynamic", "int8-weights"]
    assert order_of({"int8-weights": 1.2, "int8-dynamic": 1.0}, 5.0) == ["int8-weights", "int8-dynamic"]
    assert order_of({"int8-weights": 6.0, "int8-dynamic": 1.0}, 5.0) == ["int8-dynamic"]
    assert order_of({"int8-weights": 6.0, "int8-dynamic": 5.0}, 5.0) == []


def test_measuring_says_what_was_measured():
    found = choice.choose(random_weight(128, 256), INT8, cold=False)
    assert [timing.name for timing in (*found.timings, found.plain)] == ["int8-weights", "int8-dynamic", "float32"]
    assert found.shape == (128, 256) and found.threads == 1
    assert all(name in found.text() for name in ("int8-weights", "float32", "256 -> 128"))
