"""The row cache against transformers' own, and what is stored against what is written later."""

import gc
import weakref

import pytest
import torch
from transformers import DynamicCache

from tests.inference.small_model import small_model
from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill, prefill_together

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


@pytest.mark.parametrize("starts", [(0, 0, 0), (5, 90, 33), (7, 7, 7), (40, 0, 3)])
@pytest.mark.parametrize("counts", [(1, 9, 4), (6, 6, 6), (12, 1, 1)])
def test_ends_of_any_lengths_behind_any_beginnings_are_prefilled_together(starts, counts):
    rows = [ids(start + count + 1, seed=start + count) for start, count in zip(starts, counts, strict=True)]
    cache = RowCache(LAYERS, 4)
    prefill(small_model(), cache, 0, ids(20, seed=9))  # a row in front that takes no part
    for row, (tokens, start) in enumerate(zip(rows, starts, strict=True), 1):
        if start:
            prefill(small_model(), cache, row, tokens[:start])
    parts = [tokens[start:-1].tolist() for tokens, start in zip(rows, starts, strict=True)]
    logits = prefill_together(small_model(), cache, 1, parts)
    assert [cache.length(row) for row in range(4)] == [20, *(len(tokens) - 1 for tokens in rows)]
    after = decode(small_model(), cache, torch.stack([ids(1, seed=8)[0], *(tokens[-1] for tokens in rows)]))
    for row, tokens in enumerate(rows):
        assert_close(logits[row], full(tokens)[-2])
        assert_close(after[row + 1], full(tokens)[-1])


def test_what_fills_up_is_never_kept():
    cache = RowCache(LAYERS, 2)
    prefill_together(small_model(), cache, 0, [ids(9, seed=1).tolist(), ids(2, seed=2).tolist()])
    assert not cache.layers[0].keys[1, :, 2:].any()


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


@torch.inference_mode()
def test_a_segment_that_still_lies_in_a_row_is_not_copied_again():
    tokens, more = ids(40, seed=5), ids(8, seed=6)
    expected = full(torch.cat([tokens, more]))[-1]
    cache = RowCache(LAYERS, 2)
    prefill(small_model(), cache, 1, tokens)
    one, two = cache.copy_out(1, 0, 25), cache.copy_out(1, 25, 40)

    def copied(row: int) -> tuple[bool, bool]:
        """Which of the two segments are copied into the emptied row: a copy puts right what is spoilt before it."""
        keys = cache.layers[0].keys
        right = keys[row, :, [3, 30]].clone()
        keys[row, :, [3, 30]] = 7.0
        cache.empty(row)
        cache.append(row, one)
        cache.append(row, two)
        cache.open_rows(row, [1], keys.device)
        cache.settle()
        done = (bool((keys[row, :, 3] != 7.0).all()), bool((keys[row, :, 30] != 7.0).all()))
        for place, (column, was_copied) in enumerate(zip((3, 30), done, strict=True)):
            if not was_copied:
                keys[row, :, column] = right[:, place]
        assert_close(prefill(small_model(), cache, row, more), expected)
        return done

    assert copied(1) == (False, False), "they were taken from there"
    assert copied(0) == (True, True)
    assert copied(0) == (False, False)
    cache.empty(1)
    prefill(small_model(), cache, 1, more)
    assert copied(1) == (True, True), "the first segment was written over"
    cache.empty(1)
    cache.append(1, one)
    prefill(small_model(), cache, 1, more)
    assert copied(1) == (False, True), "only the second segment was written over"
    cache.move(1, 0)
    assert copied(0) == (False, False)
    assert copied(1) == (False, False), "the row it came from still has them, too"
    cache.empty(0)
    cache.empty(1)
    prefill_together(small_model(), cache, 0, [[5], [6, 7]])
    assert copied(0) == copied(1) == (True, True)


def test_a_buffer_keeps_no_forgotten_segment_alive():
    cache = RowCache(LAYERS, 1)
    prefill(small_model(), cache, 0, ids(10, seed=1))
    segment = cache.copy_out(0, 0, 10)
    cache.empty(0)
    cache.append(0, segment)
    held = weakref.ref(segment)
    del segment
    gc.collect()
    assert held() is None


def test_an_emptied_row_leaves_nothing_behind():
    cache = RowCache(LAYERS, 1)
    prefill(small_model(), cache, 0, ids(50, seed=6))
    cache.empty(0)
    tokens = ids(10, seed=7)
    assert_close(prefill(small_model(), cache, 0, tokens), full(tokens)[-1])


def test_placeholders_without_image_tokens_are_refused():
    with pytest.raises(ValueError, match="3 placeholder tokens in this part, but 0 image tokens"):
        prefill(small_model(), RowCache(LAYERS, 1), 0, torch.tensor([512, 512, 512, 9]))


@pytest.mark.parametrize("scrub", [False, True])
def test_what_a_failed_row_leaves_behind_is_not_numbers_and_must_be_scrubbed(scrub):
    long, poisoned, short = ids(60, seed=1), ids(50, seed=2), ids(10, seed=3)
    cache = RowCache(LAYERS, 2)
    prefill(small_model(), cache, 0, long[:-1])
    prefill(small_model(), cache, 1, poisoned)
    with torch.inference_mode():
        for layer in cache.layers:
            layer.keys[1].fill_(float("nan"))
            layer.values[1].fill_(float("nan"))
    cache.move(1, 1, scrub=scrub)  # it leaves as the last row does
    cache.empty(1)
    prefill(small_model(), cache, 1, short[:-1])
    logits = decode(small_model(), cache, torch.stack([long[-1], short[-1]]))
    assert_close(logits[0], full(long)[-1])
    assert torch.isfinite(logits[1]).all() == scrub
    if scrub:
        assert_close(logits[1], full(short)[-1])
