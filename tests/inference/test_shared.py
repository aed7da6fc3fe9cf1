"""Rows that begin alike: found as such, read once, and decoded as if each were alone."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from tests.inference.small_model import noise, small_assistant, small_model
from tests.inference.test_kv import LAYERS, assert_close, full, ids
from xverse_v.inference import passes, shared
from xverse_v.inference.assistant import Request
from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill, prefill_together
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.inference.shared import Group, shared_attention, worth_sharing


@pytest.fixture
def shared_passes(monkeypatch) -> list[list[Group]]:
    """The groups of each decode step whose attention was shared."""
    seen: list[list[Group]] = []

    def noted(config):
        seen.append(config)
        return sharing(config)

    sharing = passes.sharing
    monkeypatch.setattr(passes, "sharing", noted)
    return seen


def rows_behind(*beginnings: torch.Tensor, ends: list[torch.Tensor]) -> RowCache:
    """A row for each end, behind the beginnings in turn."""
    cache = RowCache(LAYERS, len(ends))
    segments = []
    for beginning in beginnings:
        held = RowCache(LAYERS, 1)
        prefill(small_model(), held, 0, beginning)
        segments.append(held.copy_out(0, 0, len(beginning)))
    for row, end in enumerate(ends):
        cache.append(row, segments[row % len(segments)])
        prefill(small_model(), cache, row, end)
    cache.kept = segments  # a cache holds them; a row does not
    return cache


@pytest.mark.parametrize("lengths", [(3, 3, 3, 3), (2, 9, 4, 7, 1)])
@pytest.mark.parametrize("count", [1, 2])
@torch.inference_mode()
def test_decode_behind_common_beginnings_equals_the_full_forward(shared_passes, lengths, count):
    lengths = lengths * count
    beginnings = [ids(50 + 9 * number, seed=number) for number in range(count)]
    rows = [ids(length + 3, seed=20 + place) for place, length in enumerate(lengths)]
    cache = rows_behind(*beginnings, ends=[row[:-3] for row in rows])
    for place in (-3, -2, -1):
        logits = decode(small_model(), cache, torch.stack([row[place] for row in rows]))
        for row, tokens in enumerate(rows):
            whole = torch.cat([beginnings[row % count], tokens])
            assert_close(logits[row], full(whole)[len(whole) + place])
    assert len(shared_passes) == 3
    assert small_model().config.text_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("heads", [4, 2, 1])
def test_the_kernel_equals_the_plain_one(heads, monkeypatch):
    dice = torch.Generator().manual_seed(0)
    query = torch.randn(6, 4, 1, 8, generator=dice)
    key, value = torch.randn(2, 6, heads, 30, 8, generator=dice)
    rows = {0: (0, 3, 4), 1: (1, 2, 5)}
    columns = {0: 20, 1: 11}
    for kind, alike in rows.items():
        for held in (key, value):
            held[list(alike), :, : columns[kind]] = held[alike[0], :, : columns[kind]].clone()
    mask = torch.zeros(6, 1, 1, 30).masked_fill_(
        torch.arange(30) > torch.tensor([29, 25, 22, 28, 20, 11])[:, None, None, None], torch.finfo(torch.float32).min
    )
    wide_key, wide_value = (held.repeat_interleave(4 // heads, 1) for held in (key, value))
    expected = scaled_dot_product_attention(query, wide_key, wide_value, attn_mask=mask, scale=0.3).transpose(1, 2)
    groups = [
        Group(alike, *((held[alike[0], :, : columns[kind]].clone(),) for held in (key, value)))
        for kind, alike in rows.items()
    ]
    for kind, alike in rows.items():
        for held in (key, value):
            held[list(alike), :, : columns[kind]] = torch.nan  # held by reference: nobody reads this
    module = torch.nn.Module()
    module.layer_idx = 0
    found, _ = shared_attention(module, query, key, value, mask, scaling=0.3, groups=groups)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for block in (1, 10**9):
        monkeypatch.setattr(shared, "_MOST_BYTES", block)
        again, _ = shared_attention(module, query, key, value, mask, scaling=0.3, groups=groups)
        torch.testing.assert_close(again, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_to_read_a_common_beginning_are_one(dtype):
    dice = torch.Generator().manual_seed(1)
    query = torch.randn(2, 37, 8, generator=dice).to(dtype)
    keys, values = torch.randn(2, 2, 90, 8, generator=dice).to(dtype)
    close = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 0.05}
    scores = query.float() @ keys.float().transpose(1, 2)
    expected = scores.softmax(-1) @ values.float(), scores.logsumexp(-1)
    for way in (shared._whole, shared._written):
        found, log_sum = way(query, keys, values)
        assert (found.dtype, log_sum.dtype) == (dtype, torch.float32)
        torch.testing.assert_close(found.float(), expected[0], **close)
        torch.testing.assert_close(log_sum, expected[1], **close)


def rows_and_columns(cache: RowCache) -> list[tuple[tuple[int, ...], int]]:
    return [(group.rows, group.columns) for group in cache.groups()]


@torch.inference_mode()
def test_rows_are_grouped_by_the_segment_that_they_begin_with():
    one, two, end = ids(30, seed=1), ids(12, seed=2), ids(4, seed=3)
    cache = RowCache(LAYERS, 5)
    prefill(small_model(), cache, 4, torch.cat([one, two]))
    first, second = cache.copy_out(4, 0, 30), cache.copy_out(4, 30, 42)
    for row in range(3):
        cache.append(row, first)
    cache.append(1, second)
    prefill(small_model(), cache, 3, end)
    cache.open_rows(0, [1] * 5, torch.device("cpu"))
    assert rows_and_columns(cache) == [((0, 1, 2, 4), 30), ((3,), 0)]
    del first, second
    assert rows_and_columns(cache) == [((0, 1, 2, 4), 30), ((3,), 0)], "rows that hold it by reference keep it"
    for row in range(3):
        cache.empty(row)
    assert rows_and_columns(cache)[-1] == ((4,), 0), "nobody vouches for what was forgotten"


@torch.inference_mode()
def test_ends_are_prefilled_together_behind_what_is_nowhere_copied(shared_passes):
    beginning = ids(200, seed=1)
    ends = [ids(length, seed=length) for length in (3, 9, 9, 1, 14)]
    held = RowCache(LAYERS, 1)
    prefill(small_model(), held, 0, beginning)
    segment = held.copy_out(0, 0, 200)
    for some in (ends, ends[1:3] * 2):
        cache = RowCache(LAYERS, len(some))
        for row in range(len(some)):
            cache.append(row, segment)
        logits = prefill_together(small_model(), cache, 0, [end.tolist() for end in some])
        for row, end in enumerate(some):
            assert_close(logits[row], full(torch.cat([beginning, end]))[-1])
        assert not cache.layers[0].keys[:, :, :200].any()
    assert len(shared_passes) == 2


@torch.inference_mode()
def test_a_row_that_takes_the_place_of_its_like_copies_only_what_differs():
    beginning, ends = ids(40, seed=1), [ids(3, seed=4), ids(6, seed=5)]
    cache = rows_behind(beginning, ends=ends)  # one by one, so that the beginning is written in each
    cache.layers[0].keys[0, :, 7] = 7.0  # would be put right if it were copied
    cache.move(1, 0)
    assert bool((cache.layers[0].keys[0, :, 7] == 7.0).all())
    cache.layers[0].keys[0, :, 7] = cache.layers[0].keys[1, :, 7]
    expected = full(torch.cat([beginning, ends[1], torch.tensor([9])]))[-1]
    assert_close(decode(small_model(), cache, torch.tensor([9]))[0], expected)


def test_few_rows_or_short_beginnings_take_the_plain_kernel():
    def groups(*sizes_and_columns):
        start, made = 0, []
        for size, columns in sizes_and_columns:
            shared = (torch.empty(2, columns, 4),)
            made.append(Group(tuple(range(start, start + size)), shared, shared))
            start += size
        return made

    assert worth_sharing(groups((4, 80)), 100)
    assert not worth_sharing(groups((3, 80)), 100)
    assert not worth_sharing(groups((8, 50)), 100)
    assert worth_sharing(groups((5, 90), (3, 80)), 100)
    assert not worth_sharing(groups((4, 90), (2, 80), (1, 0)), 100)


def test_questions_about_one_image_decode_behind_it_and_answer_as_alone(shared_passes):
    settings = SamplingSettings(max_new_tokens=6)
    requests = [Request(f"a {'b ' * n}", (noise(80, 80, n // 9),), settings=settings) for n in range(18)]
    alone = [small_assistant().batch([request])[0] for request in requests]
    assert not shared_passes
    answers = small_assistant().batch(requests, batch_size=6)
    assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in alone]
    assert shared_passes
    assert {answer.receipt.shared_passes for answer in alone} == {0}
    assert max(answer.receipt.shared_passes for answer in answers) > 1
