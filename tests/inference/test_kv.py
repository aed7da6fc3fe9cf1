"""The row cache against transformers' own, and what is stored against what is written later."""

import pytest
import torch
from transformers import DynamicCache

from tests.inference.small_model import small_model
from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill

LAYERS = 2


def assert_close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest value, whatever the number of threads."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def ids(length: int, seed: int) -> torch.Tensor:
    return torch.randint(4, 500, (length,), generator=torch.Generator().manual_seed(seed))


def full(tokens: torch.Tensor) -> torch.Tensor:
    """Logits of every position, without any cache."""
    with torch.no_grad():
        return small_model()(input_ids=tokens[None]).logits[0]


@pytest.mark.parametrize("cuts", [(40,), (1, 40), (7, 8, 30, 40)])
def test_prefill_in_parts_and_decode_equal_the_full_forward(cuts):
    tokens = ids(60, seed=1)
    expected, cache, start = full(tokens), RowCache(LAYERS, 1), 0
    for cut in cuts:
        logits = prefill(small_model(), cache, 0, tokens[start:cut])
        assert_close(logits, expected[cut - 1])
        start = cut
    for place in range(40, 60):
        assert_close(decode(small_model(), cache, tokens[place : place + 1])[0], expected[place])
    assert cache.length(0) == 60


def test_rows_of_different_lengths_decode_as_if_alone():
    rows = [ids(length, seed=length) for length in (5, 90, 33)]
    cache = RowCache(LAYERS, 3)
    for row, tokens in enumerate(rows):
        prefill(small_model(), cache, row, tokens[:-2])
    for place in (-2, -1):
        logits = decode(small_model(), cache, torch.stack([tokens[place] for tokens in rows]))
        for row, tokens in enumerate(rows):
            assert_close(logits[row], full(tokens)[place])


def test_keys_equal_those_of_a_dynamic_cache():
    tokens, ours, theirs = ids(50, seed=2), RowCache(LAYERS, 2), DynamicCache(config=small_model().config.text_config)
    prefill(small_model(), ours, 1, tokens)
    with torch.no_grad():
        small_model()(input_ids=tokens[None], past_key_values=theirs)
    segment = ours.copy_out(1, 0, 50)
    for layer in range(LAYERS):
        assert_close(segment.keys[layer], theirs.layers[layer].keys[0])
        assert_close(segment.values[layer], theirs.layers[layer].values[0])


def test_a_row_that_moves_goes_on_unchanged_and_its_old_place_is_free():
    tokens, other = ids(30, seed=3), ids(12, seed=4)
    cache = RowCache(LAYERS, 2)
    prefill(small_model(), cache, 0, other)
    prefill(small_model(), cache, 1, tokens[:-1])
    cache.move(1, 0)
    assert (cache.length(0), cache.length(1)) == (29, 0)
    assert_close(decode(small_model(), cache, tokens[-1:])[0], full(tokens)[-1])


def test_a_stored_segment_is_exact_and_nobody_writes_to_it():
    tokens = ids(30, seed=5)
    cache = RowCache(LAYERS, 1)
    prefill(small_model(), cache, 0, tokens[:20])
    segment = cache.copy_out(0, 0, 20)
    before = [tensor.clone() for tensor in segment.keys + segment.values]
    assert segment.tokens == 20
    assert segment.nbytes == 2 * LAYERS * 32 * 20 * 4

    again = RowCache(LAYERS, 1)
    again.append(0, segment)
    logits = prefill(small_model(), again, 0, tokens[20:])
    for place in range(200):  # far enough to make the buffer grow
        decode(small_model(), again, torch.tensor([place + 4]))
    assert all(torch.equal(a, b) for a, b in zip(before, segment.keys + segment.values, strict=True))
    assert torch.equal(logits, prefill(small_model(), cache, 0, tokens[20:])), "a copied part differs"


def test_an_emptied_row_leaves_nothing_behind():
    cache = RowCache(LAYERS, 1)
    prefill(small_model(), cache, 0, ids(50, seed=6))
    cache.empty(0)
    tokens = ids(10, seed=7)
    assert_close(prefill(small_model(), cache, 0, tokens), full(tokens)[-1])


def test_placeholders_without_image_tokens_are_refused():
    with pytest.raises(ValueError, match="3 placeholder tokens in this part, but 0 image tokens"):
        prefill(small_model(), RowCache(LAYERS, 1), 0, torch.tensor([512, 512, 512, 9]))
