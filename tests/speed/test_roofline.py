"""The counts against torch's own counter, operation by operation, on a tiny network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.speed.roofline import (
    Work,
    adapter_work,
    all_pairs,
    answer_work,
    decode_work,
    first_token_work,
    pairs_flops,
    prefill_work,
    projector_work,
    seen_pairs,
    vision_work,
)
from xverse_v.weights.plan_time import Rates
from xverse_v.weights.shapes import PUBLISHED, DecoderShape, ModelShape, VisionShape, config_from_shape

# Every width differs, so a count that takes one for another cannot come out right; keys are narrower than queries.
VISION = VisionShape(width=48, layers=2, heads=3, feed_forward=80, image_size=56, patch_size=14)
DECODER = DecoderShape(
    width=64, layers=3, heads=4, kv_heads=2, head_width=24, feed_forward=112, vocabulary=90, context=512
)
SHAPE = ModelShape("counted", VISION, DECODER, dtype="float32")


@pytest.fixture(scope="module")
def network() -> XverseVForConditionalGeneration:
    torch.manual_seed(3)
    config = config_from_shape(SHAPE)
    # Eager attention is two products that the counter sees; the CPU's fused kernel counts as nothing.
    model = XverseVForConditionalGeneration._from_config(config, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def rotary(tokens: int) -> int:
    """The table of angles, which older versions of transformers make by a product; no floor needs one."""
    layer = LlamaRotaryEmbedding(config_from_shape(SHAPE).text_config)
    return counted(lambda: layer(torch.zeros(1, tokens, DECODER.width), torch.arange(tokens)[None]))


def unseen(tokens: int, cached: int = 0) -> float:
    """What eager attention computes and then masks; a pass that knows its mask need not, so it is in no floor."""
    return pairs_flops(DECODER, all_pairs(tokens, cached) - seen_pairs(tokens, cached))


def test_vision_tower_and_projector_are_counted_exactly(network):
    pixels = torch.zeros(5, 3, 56, 56)
    with torch.inference_mode():
        tower = counted(lambda: network.model.vision_tower(pixels))
        patches = torch.zeros(5, VISION.patches, VISION.width)
        projector = counted(lambda: network.model.multi_modal_projector(patches))
    assert vision_work(SHAPE, 5).flops == tower
    assert projector_work(SHAPE, 5).flops == projector


@pytest.mark.parametrize(("cached", "tokens"), [(0, 1), (0, 37), (20, 17)])
def test_prefill_is_counted_exactly_but_for_what_the_mask_hides(network, cached, tokens):
    cache = RowCache(DECODER.layers, 1)
    if cached:
        prefill(network, cache, 0, torch.arange(cached))
    found = counted(lambda: prefill(network, cache, 0, torch.arange(tokens)))
    assert found - rotary(tokens) == prefill_work(SHAPE, tokens, cached=cached).flops + unseen(tokens, cached)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_decode_step_is_counted_exactly(network, rows):
    cache = RowCache(DECODER.layers, rows)
    for row in range(rows):
        prefill(network, cache, row, torch.arange(11))
    found = counted(lambda: decode(network, cache, torch.zeros(rows, dtype=torch.int64)))
    assert found - rotary(rows) == decode_work(SHAPE, 11, rows=rows).flops


def test_an_answer_is_the_sum_of_its_steps(network):
    steps = [decode_work(SHAPE, 30 + step) for step in range(7)]
    answer = answer_work(SHAPE, 30, 8)
    assert answer.flops == pytest.approx(sum(step.flops for step in steps), rel=1e-12)
    assert answer.bytes == pytest.approx(sum(step.bytes for step in steps), rel=1e-12)


def test_an_unmerged_adapter_is_counted_exactly(network):
    from copy import deepcopy

    import peft

    adapted = deepcopy(network)
    targets = list(DECODER.linears)
    config = peft.LoraConfig(r=4, target_modules=rf".*language_model.*({'|'.join(targets)})", bias="none")
    peft.inject_adapter_in_model(config, adapted)

    def asked(model: XverseVForConditionalGeneration) -> int:
        return counted(lambda: prefill(model, RowCache(DECODER.layers, 1), 0, torch.arange(9)))

    assert asked(adapted) - asked(network) == adapter_work(SHAPE, 9, rank=4).flops
    whole = first_token_work(SHAPE, 2, 9, adapter_rank=4).flops - first_token_work(SHAPE, 2, 9).flops
    assert whole == adapter_work(SHAPE, 2 * VISION.patches + 9, rank=4).flops


def test_bytes_of_a_decode_step_are_the_weights_it_reads_and_the_cache(network):
    core = network.model
    read = [*core.language_model.layers.parameters(), *core.language_model.norm.parameters(), network.lm_head.weight]
    weights = sum(parameter.nbytes for parameter in read)
    cache = 2 * DECODER.layers * DECODER.key_width * 4
    for rows in (1, 4):
        wanted = weights + rows * (12 * cache + DECODER.width * 4)  # one embedding a row besides
        assert decode_work(SHAPE, 11, rows=rows).bytes == wanted


def test_fewer_bits_make_fewer_bytes_and_no_fewer_products():
    shape = PUBLISHED["13b"]
    full, half, eight, four = (decode_work(shape, 2000, dtype=name) for name in ("float32", "bfloat16", "int8", "int4"))
    assert full.flops == half.flops == eight.flops == four.flops
    assert full.bytes == pytest.approx(2 * half.bytes)
    assert half.bytes - eight.bytes > 0.9 * shape.decoder.linear_parameters
    assert eight.bytes - four.bytes > 0.4 * shape.decoder.linear_parameters
    assert (full.dtype, eight.dtype) == ("float32", "bfloat16")


def test_the_slower_of_two_rates_sets_the_time():
    rates = Rates(flops=100.0, bandwidth=10.0, source="made up")
    assert Work("compute", 1000.0, 10.0).on(rates).bound == "matrix rate"
    assert Work("compute", 1000.0, 10.0).seconds(rates) == 10.0
    assert Work("memory", 10.0, 1000.0).on(rates).bound == "bandwidth"
    assert Work("memory", 10.0, 1000.0).seconds(rates) == 100.0


def test_works_of_two_dtypes_do_not_add_up():
    with pytest.raises(ValueError, match="bfloat16"):
        Work("a", 1, 1) + Work("b", 1, 1, "bfloat16")
