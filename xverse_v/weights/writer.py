"""Writing safetensors without holding a file, or even a tensor, in memory.

What crosses: names, dtypes and shapes first (they make the header), then the rows of each tensor in that order. The
hash is taken on the way out, so that no byte is read twice. This file knows no model. Format: 8 bytes little-endian
header length, a JSON header padded with spaces to a multiple of 8, then the tensors without gaps.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from .parts import DTYPES

_CODES = {getattr(torch, name): code for code, name in DTYPES.items() if hasattr(torch, name)}

# Memory that one block of rows may take in the dtype it is computed in. Small, so that a conversion's peak stays the
# mapped input; large enough that numpy and the disk do not notice.
BLOCK_BYTES = 4 * 2**20

Entry = tuple[str, torch.dtype, tuple[int, ...]]


@dataclass(frozen=True)
class FileRecord:
    """What a manifest says of a file."""

    sha256: str
    bytes: int

    @staticmethod
    def of(path: Path) -> FileRecord:
        """Read and hash a file, in blocks."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return FileRecord(digest.hexdigest(), path.stat().st_size)


def blocks(shape: Sequence[int], itemsize: int) -> Iterator[tuple[int, int]]:
    """Row ranges (start, stop) that cover the first dimension, each about `BLOCK_BYTES`; a scalar is one row."""
    rows = shape[0] if shape else 1
    row_bytes = itemsize
    for side in shape[1:]:
        row_bytes *= side
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def tensor_bytes(dtype: torch.dtype, shape: Sequence[int]) -> int:
    """Bytes of a tensor on disk."""
    count = dtype.itemsize
    for side in shape:
        count *= side
    return count


class ShardWriter:
    """One safetensors file. `write` takes the tensors in the order of `entries`, each as blocks of its rows."""

    def __init__(self, path: Path, entries: Sequence[Entry]) -> None:
        self._pending = list(reversed(entries))
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._file = path.open("wb")
        self._put(_header(entries))

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                assert not self._pending, f"tensors announced but not written: {self._pending[-1][0]}"
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def write(self, name: str, rows: Iterable[torch.Tensor]) -> None:
        """The next tensor, whole or in blocks of its first dimension, already in its dtype."""
        expected, dtype, shape = self._pending.pop()
        assert name == expected, f"{name} written where the header says {expected}"
        start = self._bytes
        for block in rows:
            assert block.dtype == dtype, f"{name}: {block.dtype} where the header says {dtype}"
            self._put(block.contiguous().flatten().view(torch.uint8).numpy().data)
        assert self._bytes - start == tensor_bytes(dtype, shape), f"{name}: size differs from the header"

    @property
    def record(self) -> FileRecord:
        """Hash and size of what was written."""
        return FileRecord(self._digest.hexdigest(), self._bytes)

    def _put(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)
        self._bytes += len(data)


def _header(entries: Sequence[Entry]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, shape in entries:
        end = offset + tensor_bytes(dtype, shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def shard_names(count: int) -> list[str]:
    """`model.safetensors`, or `model-0000i-of-0000n.safetensors`, as the ecosystem expects."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def plan_shards(entries: Sequence[Entry], max_bytes: int) -> list[list[Entry]]:
    """Entries in their order, split so that no shard passes `max_bytes` (a larger tensor gets a shard of its own)."""
    shards: list[list[Entry]] = [[]]
    used = 0
    for entry in entries:
        size = tensor_bytes(entry[1], entry[2])
        if shards[-1] and used + size > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append(entry)
        used += size
    return shards
