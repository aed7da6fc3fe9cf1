"""Rows that come, share beginnings, grow, move and leave in any order, each decoded as if it were alone."""

import random

import pytest
import torch

from tests.inference.small_model import small_model
from tests.inference.test_kv import LAYERS, assert_close, full, ids
from xverse_v.inference import kv
from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill, prefill_together
from xverse_v.inference.window import Segment

ROWS = 12


def stored(tokens: torch.Tensor) -> Segment:
    cache = RowCache(LAYERS, 1)
    prefill(small_model(), cache, 0, tokens)
    return cache.copy_out(0, 0, len(tokens))


@pytest.mark.parametrize("seed", range(6))
@torch.inference_mode()
def test_any_order_of_joining_growing_moving_and_leaving(seed, monkeypatch):
    dice = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(kv, "_WORTH_MAPPING", 1)  # as buffers of a large model are made
    beginnings = [ids(length, seed=length) for length in (70, 31, 90)]
    segments = [stored(beginning) for beginning in beginnings]
    cache, rows = RowCache(LAYERS, ROWS), list[torch.Tensor]()
    shared = 0
    for step in range(90):
        joining = dice.randint(0, ROWS - len(rows)) if step % 3 == 0 else 0
        fresh = []
        for place in range(len(rows), len(rows) + joining):
            kind = dice.choice((step // 30,) * 14 + (0, 1, 2, None))
            if kind is None:
                fresh.append(ids(0, seed=0))
            else:
                cache.append(place, segments[kind])
                fresh.append(beginnings[kind])
        if fresh:
            ends = [ids(dice.randint(1, 12), seed=100 * step + place) for place in range(joining)]
            logits = prefill_together(small_model(), cache, len(rows), [end.tolist() for end in ends])
            fresh = [torch.cat(pair) for pair in zip(fresh, ends, strict=True)]
            for tokens, row in zip(fresh, logits, strict=True):
                assert_close(row, full(tokens)[-1])
            rows += fresh
        if not rows:
            continue
        new = ids(len(rows), seed=step)
        logits = decode(small_model(), cache, new)
        rows = [torch.cat([row, token[None]]) for row, token in zip(rows, new, strict=True)]
        shared += any(cache._window.referenced)
        for tokens, row in zip(rows, logits, strict=True):
            assert_close(row, full(tokens)[-1])
        for place in reversed(range(len(rows))):
            if dice.random() < 0.25:
                cache.move(len(rows) - 1, place, scrub=dice.random() < 0.2)
                rows[place] = rows[-1]
                rows.pop()
    assert shared > 2, "hardly anything was held by reference"
