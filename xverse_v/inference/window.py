"""What the rows of the KV cache hold: how long they are, which stored segments lie in them, which are only referred to.

What crosses: row numbers, lengths and `Segment`s. The keys and values themselves are in the buffers of `kv`; this file
moves none of them.

Letters: H key-value heads, K head width.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Segment:
    """Keys and values of consecutive tokens of one row, a tensor [H, tokens, K] a layer. Nobody writes to them
    again.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def tokens(self) -> int:
        return self.keys[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held. The tensors own their storage whole, so this is exact."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.keys + self.values)


class Window:
    """The books of one `RowCache`, shared by all its layers: what each row holds, and which rows the next forward
    writes, and where.
    """

    def __init__(self, rows: int) -> None:
        self.lengths = [0] * rows
        # Segments that lie in a row, at their places; also in one that was emptied, until it is written over. Held
        # weakly, because a buffer must not keep alive what a cache has forgotten.
        self.segments: list[dict[int, weakref.ref[Segment]]] = [{} for _ in range(rows)]
        # The segment that a row begins with while its columns of the buffer are not written.
        self.referenced: list[Segment | None] = [None] * rows
        self.rows = slice(0, rows)
        self.minimum_columns = 0
        self.counts: tuple[int, ...] = ()
        self.stop = 0  # columns in use once the forward has written
        self.scatter: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def longest(self) -> int:
        return max(self.lengths[self.rows], default=0)

    def beginning(self, row: int) -> list[Segment]:
        """The segments, one behind the other, that what ``row`` holds begins with."""
        found = [] if (first := self.referenced[row]) is None else [first]
        at = self.unwritten(row)
        while (kept := self.segments[row].get(at)) is not None and (segment := kept()) is not None:
            at += segment.tokens
            if at > self.lengths[row]:
                break
            found.append(segment)
        return found

    def unwritten(self, row: int) -> int:
        """Columns in front of ``row`` that are held by reference."""
        first = self.referenced[row]
        return 0 if first is None else first.tokens

    def extents(self) -> list[tuple[int, int]]:
        """Of each row, the columns of the buffer that hold something."""
        found = []
        for row, length in enumerate(self.lengths):
            alive = [(at, kept()) for at, kept in self.segments[row].items()]
            ends = [at + segment.tokens for at, segment in alive if segment is not None]
            found.append((self.unwritten(row), max([length, *ends])))
        return found

    def written(self, row: int) -> None:
        """Whatever lay behind what ``row`` holds is no more."""
        self.segments[row] = {at: kept for at, kept in self.segments[row].items() if at < self.lengths[row]}
