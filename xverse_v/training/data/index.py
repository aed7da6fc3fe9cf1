"""Where each row of a file starts, on disk and memory-mapped: 16 bytes a row, no Python object a row.

What crosses: a cache folder, the files and a generator of rows in, a read-only array of `ROW` out. An index is made
once: its name holds the path, size and time of every file, so a changed file gets a new one. It is written beside and
then renamed, so processes that build the same index at the same time do no harm. This file knows no format.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

VERSION = 1
ROW = np.dtype([("offset", "<u8"), ("size", "<u4"), ("extra", "<u4")])

_PACK = struct.Struct("<QII").pack
_FLUSH = 1 << 20


def open_index(
    cache: Path, kind: str, files: Sequence[Path], rows: Callable[[], Iterable[tuple[int, int, int]]]
) -> np.ndarray:
    """`ROW`[n], memory-mapped from `cache`, built with `rows()` (offset, size, extra) if it is not there yet.

    kind: names what `rows` does, such as "json-array"; part of the index's name. Raises what `rows` raises.
    """
    path = cache / f"{index_name(kind, files)}.rows"
    if not path.is_file():
        _write(path, rows())
    if not path.stat().st_size:
        return np.zeros(0, ROW)
    return np.memmap(path, ROW, mode="r")


def index_name(kind: str, files: Sequence[Path]) -> str:
    """24 hex digits of kind, paths, sizes and times."""
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([VERSION, kind, facts]).encode()).hexdigest()[:24]


def _write(path: Path, rows: Iterable[tuple[int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            buffer = bytearray()
            for row in rows:
                buffer += _PACK(*row)
                if len(buffer) >= _FLUSH:
                    file.write(buffer)
                    buffer.clear()
            file.write(buffer)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
