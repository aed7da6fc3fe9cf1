"""The working KV cache: rows of different lengths in one buffer, written in place.

What crosses: key and value states in from the decoder's attention layers, the filled part of the buffer out.
transformers' own `DynamicCache` copies everything it holds for each new token and needs rows of equal length. Here a
row starts at column 0 and is as long as it is: rows join and leave a batch without the others moving, nothing is
padded on the left, and a new token costs the write of one column. The stored segment that a row begins with is held by
reference until a pass needs it in the buffer (`settle`): rows that ask about one image do not copy it. The file knows
no tokens, no images and no requests.

Letters: R rows there is room for, B rows of one forward, S tokens of each, H key-value heads, C columns, K head width.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from .shared import Group
from .window import Segment, Window

_COLUMN_BLOCK = 64
_WORTH_MAPPING = 2**22  # bytes of one layer's keys


class _RowLayer(DynamicLayer):
    """Keys and values of one decoder layer, [R, H, C, K] each."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self._window = window

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_zeros(0, key_states.shape[1], 0, key_states.shape[3])
        self.values = value_states.new_zeros(0, value_states.shape[1], 0, value_states.shape[3])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """[B, H, S, K] in; the window's rows, all columns up to the longest one's end, out (a view)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self._window
        self.reserve(window.rows.stop, window.stop)
        if window.scatter is None:
            start = window.stop - key_states.shape[2]
            self.keys[window.rows, :, start : window.stop] = key_states
            self.values[window.rows, :, start : window.stop] = value_states
        else:
            rows, columns, kept = window.scatter
            self.keys[rows, :, columns] = key_states.transpose(1, 2).flatten(0, 1)[kept]
            self.values[rows, :, columns] = value_states.transpose(1, 2).flatten(0, 1)[kept]
        return self.keys[window.rows, :, : window.stop], self.values[window.rows, :, : window.stop]

    def reserve(self, rows: int, columns: int) -> None:
        """Room for so many ``rows`` and ``columns``. Columns grow by half at least, so a long answer copies its past
        only now and then; rows are doubled, so a server that could answer many but has one request holds one row.
        """
        have_rows, have = self.keys.shape[0], self.keys.shape[2]
        if rows > have_rows:
            have_rows = min(max(rows, 2 * have_rows), len(self._window.lengths))
        if columns > have:
            wanted = max(columns, self._window.minimum_columns, have + have // 2)
            have = -(-wanted // _COLUMN_BLOCK) * _COLUMN_BLOCK
        if (have_rows, have) != (self.keys.shape[0], self.keys.shape[2]):
            extents = self._window.extents()
            self.keys = _widened(self.keys, have_rows, have, extents)
            self.values = _widened(self.values, have_rows, have, extents)

    def get_seq_length(self) -> int:
        return self._window.longest


class RowCache(Cache):
    """KV cache of up to ``rows`` requests for a decoder of ``layers`` layers.

    A forward is framed by `open_rows` and `close`.
    """

    def __init__(self, layers: int, rows: int) -> None:
        self._window = Window(rows)
        self.shared = False  # whether the rows of the last forward read their common beginnings once
        super().__init__(layers=[_RowLayer(self._window) for _ in range(layers)])

    def length(self, row: int) -> int:
        """Tokens held by ``row``."""
        return self._window.lengths[row]

    @property
    def columns(self) -> int:
        """Columns that the open forward sees: the longest row's with its new tokens."""
        return self._window.stop

    @property
    def uneven(self) -> bool:
        """Whether the open rows differ in length, before the forward or by it, so that it needs a mask of ours."""
        return self._window.scatter is not None

    def expect(self, columns: int) -> None:
        """Say how long a row is going to be, so that the buffer is made in one go."""
        self._window.minimum_columns = max(self._window.minimum_columns, columns)

    def open_rows(self, first: int, counts: Sequence[int], device: torch.device) -> Tensor:
        """The next forward appends ``counts[b]`` tokens to row ``first + b``.

        It is given S = max(counts) tokens of each row, a row's own at the end; those in front of them fill up and are
        not kept. Returns the places in their rows, int64[B, S]; of what fills up, some place that is there.
        """
        window, width = self._window, max(counts)
        window.rows = slice(first, first + len(counts))
        for row in range(first, first + len(counts)):
            window.written(row)
        lengths = torch.tensor(window.lengths[window.rows])
        ends = lengths + torch.tensor(counts)
        window.stop = int(ends.max())
        places = ends[:, None] - width + torch.arange(width)
        window.scatter = None
        if len(set(zip(window.lengths[window.rows], counts, strict=True))) > 1:
            kept = (places >= lengths[:, None]).flatten().nonzero().squeeze(-1)
            rows, columns = first + kept // width, places.flatten()[kept]
            window.scatter = (rows.to(device), columns.to(device), kept.to(device))
        window.counts = tuple(counts)
        return places.clamp(min=0).to(device)

    def groups(self) -> list[Group]:
        """The open rows by the segment they begin with; one of its own for each row without any."""
        if not self.layers:
            return []  # keys and values that are kept elsewhere are shared there, or not at all
        window = self._window
        alike: dict[int, tuple[Segment | None, list[int]]] = {}
        for row in range(window.rows.start, window.rows.stop):
            first = next(iter(window.beginning(row)), None)
            alike.setdefault(-1 - row if first is None else id(first), (first, []))[1].append(row - window.rows.start)
        return [
            Group(tuple(rows)) if first is None else Group(tuple(rows), first.keys, first.values)
            for first, rows in alike.values()
        ]

    @torch.inference_mode()
    def settle(self) -> None:
        """Write into the buffer what the open rows hold by reference: a plain kernel reads nothing else."""
        window = self._window
        for row in range(window.rows.start, window.rows.stop):
            if (segment := window.referenced[row]) is not None:
                self._write(row, 0, segment)
                window.referenced[row] = None

    def _write(self, row: int, start: int, segment: Segment) -> None:
        stop = start + segment.tokens
        for layer, keys, values in zip(self.layers, segment.keys, segment.values, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            layer.reserve(row + 1, stop)
            layer.keys[row, :, start:stop] = keys
            layer.values[row, :, start:stop] = values
        self._window.segments[row][start] = weakref.ref(segment)

    def _alike(self, rows: Sequence[int]) -> int:
        """Columns in which all of these rows hold the same segments, from the first column on."""
        columns = 0
        for segments in zip(*(self._window.beginning(row) for row in rows), strict=False):
            if any(segment is not segments[0] for segment in segments):
                break
            columns += segments[0].tokens
        return columns

    def close(self) -> None:
        """The forward is done: the open rows are longer by what was announced."""
        for row, new in enumerate(self._window.counts, self._window.rows.start):
            self._window.lengths[row] += new

    def empty(self, row: int) -> None:
        """Forget ``row``; its columns are written over by whoever comes next."""
        self._window.lengths[row] = 0
        self._window.referenced[row] = None

    @torch.inference_mode()
    def move(self, source: int, target: int, *, scrub: bool = False) -> None:
        """Put row ``source`` in place of row ``target``, so that the rows in use stay the first ones.

        ``scrub``: the target failed and may hold NaN, which a mask does not stop (0 x NaN), so its row is zeroed first.
        """
        window = self._window
        if scrub:
            window.segments[target], window.referenced[target] = {}, None
            for layer in self.layers if self.length(target) else ():
                layer.keys[target].zero_()
                layer.values[target].zero_()
        if source != target:
            # What lies there already stays.
            start = window.unwritten(source) or (0 if window.referenced[target] else self._alike((source, target)))
            stop = self.length(source)
            for layer in self.layers if start < stop else ():  # of an empty row there may be no buffer
                layer.keys[target, :, start:stop] = layer.keys[source, :, start:stop]
                layer.values[target, :, start:stop] = layer.values[source, :, start:stop]
            window.lengths[target] = stop
            window.segments[target] = dict(window.segments[source])
            window.referenced[target] = window.referenced[source]
            window.written(target)
        self.empty(source)

    @torch.inference_mode()
    def append(self, row: int, segment: Segment) -> None:
        """Put a stored segment behind what ``row`` holds, as if it had just been prefilled: the first one by reference,
        others as a copy. The segment is only read. If it lies there still, from who had the row before, it stays.
        """
        window, start, stop = self._window, self.length(row), self.length(row) + segment.tokens
        there = window.segments[row].get(start)
        if there is None or there() is not segment:
            window.written(row)
            if start:
                self._write(row, start, segment)
            else:
                window.referenced[row] = segment
        window.lengths[row] = stop

    @torch.inference_mode()
    def copy_out(self, row: int, start: int, stop: int) -> Segment:
        """A segment of its own with the tokens ``start`` to ``stop`` of ``row``. It lies there, too, from now on."""

        def owned(held: Tensor) -> Tensor:
            return held[row, :, start:stop].clone(memory_format=torch.contiguous_format)

        found = Segment(tuple(owned(n.keys) for n in self.layers), tuple(owned(n.values) for n in self.layers))
        self._window.segments[row][start] = weakref.ref(found)
        return found


def _widened(held: Tensor, rows: int, columns: int, extents: Iterable[tuple[int, int]]) -> Tensor:
    """[rows, H, columns, K] with what ``held`` holds in the ``extents`` of its rows. Zeros elsewhere, because a masked
    column still takes part in 0 x value: it must not hold NaN.
    """
    wider = _zeros((rows, held.shape[1], columns, held.shape[3]), held)
    for row, (start, stop) in zip(range(held.shape[0]), extents, strict=False):
        wider[row, :, start:stop] = held[row, :, start:stop]
    return wider


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """On the CPU, memory that the system hands out page by page as it is written: nothing is written twice, and columns
    that a row holds by reference cost nothing. Large pages would defeat that where one spans several rows.
    """
    size = math.prod(shape) * like.itemsize
    if like.device.type != "cpu" or size < _WORTH_MAPPING or not hasattr(mmap, "MAP_ANONYMOUS"):
        return like.new_zeros(shape)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if shape[0] > 1 and hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)
