"""GGUF files on disk: written one tensor at a time and checked before they get their name; read back, mapped.

What crosses: entries, tensor names and a way to read a tensor in; a finished file out. A file that has its name is
complete. Memory holds one tensor as stored and a few rows in float32. The only file that imports the package `gguf`
(extra ``gguf``), and it does so when it is needed. It knows no model.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xverse_v.errors import error
from xverse_v.weights.writer import blocks

from .metadata import Entry
from .names import Stored, rotary_order

Read = Callable[[str], Tensor]

_LARGEST_FLOAT16 = 65504.0
_ENDS = 64  # bytes at both ends of a tensor that are compared after writing
_KINDS = {
    "string": "STRING",
    "uint32": "UINT32",
    "int32": "INT32",
    "float32": "FLOAT32",
    "bool": "BOOL",
    "strings": "ARRAY",
    "int32s": "ARRAY",
    "float32s": "ARRAY",
}


@dataclass(frozen=True)
class FileReport:
    """A finished file. ``types``: how many tensors have which type."""

    path: str
    bytes: int
    tensors: int
    types: Mapping[str, int]


@dataclass(frozen=True)
class _Planned:
    stored: Stored
    kind: Any  # gguf.GGMLQuantizationType
    row_bytes: int

    @property
    def rows(self) -> int:
        return self.stored.shape[0] if len(self.stored.shape) > 1 else 1

    @property
    def bytes(self) -> int:
        return self.rows * self.row_bytes


def library() -> Any:
    """The package `gguf`. Raises E831 without it."""
    try:
        return importlib.import_module("gguf")
    except ImportError as reason:
        raise error("E831", reason=reason) from reason


def write_file(
    out: Path,
    architecture: str,
    entries: Sequence[Entry],
    tensors: Sequence[Stored],
    read: Read,
    kind: str,
    progress: Callable[[str], None] = lambda step: None,
) -> FileReport:
    """Write ``out`` with its weights in ``kind``, "F16", "BF16" or "Q8_0" in llama.cpp's words.

    Raises E831 (no `gguf`), E833 (disk), E834 (a value beyond float16), E835 (read back and not the same), E836 (there
    is something at ``out``).
    """
    gguf = library()
    planned = [_planned(gguf, stored, kind) for stored in tensors]
    check_room(out, sum(entry.bytes for entry in planned))
    with partial_file(out) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        for entry in entries:
            value = list(entry.value) if isinstance(entry.value, tuple) else entry.value
            writer.add_key_value(entry.key, value, getattr(gguf.GGUFValueType, _KINDS[entry.kind]))
        for item in planned:
            shape = (*item.stored.shape[:-1], item.row_bytes) if len(item.stored.shape) == 2 else item.stored.shape
            numbers = np.uint8 if len(item.stored.shape) == 2 else np.float32
            writer.add_tensor_info(item.stored.name, shape, np.dtype(numbers), item.bytes, raw_dtype=item.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        ends: dict[str, tuple[bytes, bytes]] = {}
        for place, item in enumerate(planned, start=1):
            progress(f"{place} of {len(planned)}: {item.stored.name}")
            data = _data(gguf, item, read)
            ends[item.stored.name] = (data[:_ENDS].tobytes(), data[-_ENDS:].tobytes())
            writer.write_tensor_data(data)
        writer.close()
        _compare(partial, planned, ends)
    return describe(out)


def check_room(out: Path, needed: int) -> None:
    """Raises E836 if ``out`` exists, E833 if its disk has less than ``needed`` bytes left."""
    if out.exists():
        raise error("E836", path=out)
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise error("E833", path=out.parent, needed=f"{needed / 2**30:.1f}", free=f"{free / 2**30:.1f}")


@contextmanager
def partial_file(out: Path, suffix: str = "") -> Iterator[Path]:
    """A name beside ``out`` to write to; it becomes ``out`` when the block is done, and is deleted if it fails."""
    partial = out.with_name(f".{out.name}{suffix}.partial-{os.getpid()}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # so that after a power cut the name does not stand for an empty file
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)


def describe(path: Path) -> FileReport:
    """What a file holds. Raises E831 and E839."""
    found = open_file(path)
    types = Counter(tensor.tensor_type.name for tensor in found.tensors)
    return FileReport(str(path), path.stat().st_size, len(found.tensors), dict(types))


def open_file(path: Path) -> Any:
    """A `gguf.GGUFReader` of a file: its keys read, its tensors mapped. Raises E831, and E839 if it is no GGUF file."""
    gguf = library()
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as reason:
        raise error("E839", path=path, problem=f"{type(reason).__name__}: {reason}") from reason


def value(file: Any, key: str) -> Any:
    """The value of a key of an opened file; None if it has no such key."""
    field = file.get_field(key)
    return None if field is None else field.contents()


def _planned(gguf: Any, stored: Stored, kind: str) -> _Planned:
    columns = int(np.prod(stored.shape[1:])) if len(stored.shape) > 1 else stored.shape[0]
    chosen = gguf.GGMLQuantizationType["F32" if stored.wide else kind]
    if columns % gguf.GGML_QUANT_SIZES[chosen][0]:
        chosen = gguf.GGMLQuantizationType.F16  # as llama.cpp itself does with rows that a block does not fill
    block, size = gguf.GGML_QUANT_SIZES[chosen]
    return _Planned(stored, chosen, columns // block * size)


def _data(gguf: Any, item: _Planned, read: Read) -> Any:
    """uint8[bytes] of one tensor, converted a few rows at a time."""
    found = np.zeros((item.rows, item.row_bytes), np.uint8)
    stored = item.stored
    if stored.source is None:
        return found.reshape(-1)
    tensor = read(stored.source).reshape(item.rows, -1)
    order = torch.tensor(rotary_order(item.rows, stored.heads)) if stored.heads else None
    for start, stop in blocks(tensor.shape, 4):
        rows = (tensor[start:stop] if order is None else tensor[order[start:stop]]).float()
        if item.kind == gguf.GGMLQuantizationType.F16 and not bool((rows.abs() <= _LARGEST_FLOAT16).all()):
            raise error("E834", name=stored.source, largest=f"{float(rows.abs().max()):.4g}", limit=_LARGEST_FLOAT16)
        quantised = gguf.quants.quantize(rows.numpy(), item.kind)
        found[start:stop] = np.ascontiguousarray(quantised).view(np.uint8).reshape(stop - start, -1)
    return found.reshape(-1)


def _compare(path: Path, planned: Sequence[_Planned], ends: Mapping[str, tuple[bytes, bytes]]) -> None:
    """The file as a reader sees it against what was meant. Raises E835."""
    found = {tensor.name: tensor for tensor in open_file(path).tensors}
    if list(found) != [item.stored.name for item in planned]:
        raise error("E835", path=path, problem=f"{len(found)} tensors, expected {len(planned)}")
    for item in planned:
        tensor, name = found[item.stored.name], item.stored.name
        shape = tuple(int(side) for side in reversed(tensor.shape))
        if (shape, tensor.tensor_type, tensor.n_bytes) != (item.stored.shape, item.kind, item.bytes):
            raise error("E835", path=path, problem=f"{name}: {shape} {tensor.tensor_type.name}")
        data = tensor.data.reshape(-1).view(np.uint8)
        if (data[:_ENDS].tobytes(), data[-_ENDS:].tobytes()) != ends[name]:
            raise error("E835", path=path, problem=f"{name}: other bytes than were written")
