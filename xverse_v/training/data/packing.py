"""Samples to rows: several in one row without seeing each other, or one a row with padding behind it.

What crosses: `Encoded` samples in, `MicroBatch`es out. In both forms no attention mask is needed and none is made:
- packed: one row, `position_ids` begin again at 0 with every sample. transformers reads the borders of samples off them
  (block mask for sdpa, eager and flex, variable lengths for flash attention) as long as it gets **no 2-D mask and
  `use_cache=False`**: an all-ones mask, or a cache, makes samples see each other, silently.
- padded: one row a sample, padding on the right. No token looks to its right, so none sees padding.
Letters: B rows, S tokens of a row, V views, P patches, E vision width. This file knows no files and no ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from .encode import IGNORED, Encoded

PADDING = -1  # segment of a padding token


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes.

    input_ids, labels, position_ids: int64[B, S]; labels are -100 or the token itself (the model shifts).
    segment_ids: int32[B, S], 0, 1, ... for the samples of a row from left to right, -1 for padding.
    pixel_values: float32[V, 3, T, T] | None. image_features: [V, P, E] from a feature store | None. Both None: text
    only.
    sample_ids: row after row, left to right. supervised: tokens the loss is taken over.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    segment_ids: torch.Tensor
    pixel_values: torch.Tensor | None
    image_features: torch.Tensor | None
    sample_ids: tuple[str, ...]
    supervised: int

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same on a device; copies from pinned memory do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> MicroBatch:
        """The same in page-locked memory; the data loader calls it."""
        return self._each(torch.Tensor.pin_memory)

    def model_inputs(self) -> dict[str, Any]:
        """Arguments of the model's forward pass that keep packed samples apart (not for stored features)."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "pixel_values": self.pixel_values,
            "use_cache": False,
        }

    def _each(self, change: Any) -> MicroBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: change(v) for k, v in tensors.items() if isinstance(v, torch.Tensor)})


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indexes in rows of at most `capacity`: longest first, each into the first row with room. Same input, same rows.

    Uses at most 11/9 of the fewest possible rows, and 6/9 of one (Dosa, 2007). Raises `ValueError` for a length above
    the capacity.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"a sample of {length} tokens does not fit a row of {capacity}")
        row = next((row for row, left in enumerate(room) if left >= length), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= length
    return rows


def packed(samples: Sequence[Encoded], capacity: int) -> list[MicroBatch]:
    """One micro-batch a row, each of at most `capacity` tokens and without padding."""
    rows = first_fit_decreasing([len(sample) for sample in samples], capacity)
    return [_packed_row([samples[index] for index in row]) for row in rows]


def _packed_row(samples: Sequence[Encoded]) -> MicroBatch:
    lengths = [len(sample) for sample in samples]
    return MicroBatch(
        input_ids=torch.cat([sample.input_ids for sample in samples])[None],
        labels=torch.cat([sample.labels for sample in samples])[None],
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        segment_ids=torch.repeat_interleave(torch.arange(len(samples), dtype=torch.int32), torch.tensor(lengths))[None],
        **_shared(samples),
    )


def padded(samples: Sequence[Encoded], rows: int, pad_id: int) -> list[MicroBatch]:
    """`rows` samples a micro-batch in their order, each row padded on the right to the longest of its micro-batch."""
    return [_padded_rows(samples[start : start + rows], pad_id) for start in range(0, len(samples), rows)]


def _padded_rows(samples: Sequence[Encoded], pad_id: int) -> MicroBatch:
    shape = len(samples), max(len(sample) for sample in samples)
    ids, labels = torch.full(shape, pad_id), torch.full(shape, IGNORED)
    segments = torch.full(shape, PADDING, dtype=torch.int32)
    for row, sample in enumerate(samples):
        ids[row, : len(sample)] = sample.input_ids
        labels[row, : len(sample)] = sample.labels
        segments[row, : len(sample)] = 0
    # Counting on through the padding: a position that begins again would mean another sample.
    positions = torch.arange(shape[1]).expand(shape).contiguous()
    return MicroBatch(input_ids=ids, labels=labels, position_ids=positions, segment_ids=segments, **_shared(samples))


def _shared(samples: Sequence[Encoded]) -> dict[str, Any]:
    pixels = [sample.pixel_values for sample in samples if sample.pixel_values is not None]
    features = [sample.image_features for sample in samples if sample.image_features is not None]
    return {
        "pixel_values": torch.cat(pixels) if pixels else None,
        "image_features": torch.cat(features) if features else None,
        "sample_ids": tuple(sample.id for sample in samples),
        "supervised": sum(sample.supervised for sample in samples),
    }
