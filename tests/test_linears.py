"""Large linears on the CPU: the same numbers up to rounding, and everything else as it was."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from xverse_v.linears import LEAST_WIDTH, SOME_ROWS, FastLinear, use_fast_linears

WIDTH, OUTPUTS = 1100, 960  # a little more than the least


@pytest.fixture(scope="module")
def layer() -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(WIDTH, OUTPUTS, bias=False).requires_grad_(False)
    use_fast_linears(made)
    return made


@pytest.mark.parametrize(
    "shape", [(WIDTH,), (1, 1, WIDTH), (1, WIDTH), (2, 1, WIDTH), (3, 5, WIDTH), (40, 1, WIDTH), (300, WIDTH)]
)
@pytest.mark.parametrize("biased", [False, True])
def test_the_product_is_that_of_torch_up_to_rounding(shape, biased):
    torch.manual_seed(1)
    layer, x = nn.Linear(WIDTH, OUTPUTS, bias=biased).requires_grad_(False), torch.randn(shape)
    exact = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double() if biased else None)
    use_fast_linears(layer)
    assert type(layer) is FastLinear
    found = layer(x)
    assert found.shape == exact.shape and found.dtype is torch.float32 and found.is_contiguous()
    assert float((found - exact).abs().max() / exact.abs().max()) < 5e-6


def test_a_row_is_the_same_up_to_rounding_with_any_number_of_threads(layer):
    x, before = torch.randn(1, 1, WIDTH), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 7):  # 960 is no multiple of 7
            torch.set_num_threads(threads)
            found.append(layer(x))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_some_rows_give_what_they_give_among_more():
    """Which side of the product a weight stands on changes the speed, and the numbers by rounding at most."""
    wide = nn.Linear(LEAST_WIDTH, 530, bias=False).requires_grad_(False)
    use_fast_linears(wide)
    x = torch.randn(max(SOME_ROWS) + 1, 1, LEAST_WIDTH)
    whole = wide(x)
    for rows in (min(SOME_ROWS), max(SOME_ROWS)):
        found = wide(x[:rows])
        assert found.is_contiguous()  # what comes after would take slow ways
        torch.testing.assert_close(found, whole[:rows], rtol=1e-5, atol=1e-5)


def test_the_same_call_gives_the_same_bits(layer):
    x = torch.randn(37, WIDTH)
    assert torch.equal(layer(x), layer(x.clone()))


def test_gradients_other_number_formats_and_compilers_are_left_to_torch():
    layer = nn.Linear(WIDTH, OUTPUTS)
    use_fast_linears(layer)
    layer(torch.randn(3, WIDTH)).sum().backward()
    assert layer.weight.grad is not None
    halves = nn.Linear(WIDTH, OUTPUTS).bfloat16().requires_grad_(False)
    use_fast_linears(halves)
    assert halves(torch.randn(3, WIDTH, dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert halves.to("meta")(torch.empty(2, WIDTH, dtype=torch.bfloat16, device="meta")).shape == (2, OUTPUTS)


def test_small_layers_and_subclasses_stay_what_they_are():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(64, 64), Own(WIDTH, OUTPUTS), nn.Linear(WIDTH, OUTPUTS))
    names = list(model.state_dict())
    use_fast_linears(model)
    assert [type(layer) for layer in model] == [nn.Linear, Own, FastLinear]
    assert list(model.state_dict()) == names


PROGRAM = """
import json, sys, torch
from xverse_v.linears import use_fast_linears
layer = torch.nn.Linear(1024, 1024, bias=False).requires_grad_(False)
use_fast_linears(layer)
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
sizes = []
for first in range(2, 602, 100):
    for rows in range(first, first + 100):
        layer(torch.randn(rows, 1024))
    sizes.append(held())
json.dump(sizes, sys.stdout)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="asks Linux how much memory the process holds")
def test_kernels_of_many_sizes_are_not_all_kept():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    sizes = json.loads(done.stdout)
    assert sizes[-1] - sizes[0] < 250e6, sizes  # all 500 kept take 0.5 to 0.9 GB, by the version of torch
