"""The engine's rows in llama.cpp's memory: the same rows as `inference.kv.RowCache` keeps, in sequences of a `Context`.

What crosses: the engine's calls in, bookkeeping out; keys and values never leave llama.cpp. A row is a sequence, a
kept beginning is another that shares its cells.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xverse_v.inference.kv import RowCache
from xverse_v.inference.window import Segment

from .context import Append, Context, Floats


@dataclass(frozen=True, eq=False)
class SharedSegment(Segment):
    """Places of a row that stay in llama.cpp's memory while anybody holds this."""

    sequence: int
    start: int
    count: int
    bytes: int

    @property
    def tokens(self) -> int:
        return self.count

    @property
    def nbytes(self) -> int:
        return self.bytes


class LlamaRows(RowCache):
    """Up to ``rows`` requests in one `Context`."""

    def __init__(self, context: Context, rows: int, bytes_per_token: int) -> None:
        super().__init__(0, rows)
        self._context = context
        self._bytes_per_token = bytes_per_token
        self._sequences = [context.new_sequence() for _ in range(rows)]
        self._opened: tuple[int, tuple[int, ...]] = (0, ())
        for sequence in self._sequences:
            weakref.finalize(self, context.drop_sequence, sequence)

    def open_rows(self, first: int, counts: Sequence[int], device: torch.device) -> Tensor:
        self._opened = (first, tuple(counts))
        return super().open_rows(first, counts, device)

    def append_vectors(self, vectors: Tensor) -> Tensor:
        """The forward of the open rows: float[B, S, D], of each row the last of its tokens -> logits float32[B, N]."""
        first, counts = self._opened
        given: Floats = vectors.float().numpy()
        parts = [
            Append(self._sequences[first + b], self.length(first + b), given[b, given.shape[1] - count :])
            for b, count in enumerate(counts)
        ]
        return torch.from_numpy(self._context.append(parts))

    def empty(self, row: int) -> None:
        self._context.forget(self._sequences[row])
        super().empty(row)

    def move(self, source: int, target: int, *, scrub: bool = False) -> None:
        """Rows change places by name only; nothing that failed stays, so there is nothing to scrub."""
        if source != target:
            held = self._sequences
            held[source], held[target] = held[target], held[source]
            self._window.lengths[target] = self.length(source)
        self.empty(source)

    def append(self, row: int, segment: Segment) -> None:
        assert isinstance(segment, SharedSegment)
        start = self.length(row)
        assert start == segment.start, f"a segment of place {segment.start} at place {start}"
        self._context.share(segment.sequence, self._sequences[row], start, start + segment.tokens)
        self._window.lengths[row] = start + segment.tokens

    def copy_out(self, row: int, start: int, stop: int) -> SharedSegment:
        """Raises MemoryError if no sequence is free to hold it."""
        sequence = self._context.new_sequence()
        self._context.share(self._sequences[row], sequence, start, stop)
        count = stop - start
        kept = SharedSegment((), (), sequence, start, count, count * self._bytes_per_token)
        weakref.finalize(kept, self._context.drop_sequence, sequence)
        return kept
