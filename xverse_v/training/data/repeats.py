"""What was seen before, for files of any length: digests go to disk and are compared at the end.

What crosses: (digest, number) pairs in, (number, first number) of every repetition out. Memory holds one of 64 buckets
at a time: for a million rows about half a megabyte.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("number", "<u8")])
_BUCKETS = 64
_HELD = 1 << 14  # entries in memory before they go to disk


class Repeats:
    """Collects digests of rows; `found` names those that came before. 128 bits: two different rows never meet."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="xverse-v-check-")
        self._held = np.zeros(_HELD, _ENTRY)
        self._count = 0

    def add(self, content: bytes, number: int) -> None:
        """`number` is the row's place in the order of the data."""
        digest = hashlib.blake2b(content, digest_size=16).digest()
        entry = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"), number)
        self._held[self._count] = entry
        self._count += 1
        if self._count == _HELD:
            self._spill()

    def found(self) -> Iterator[tuple[int, int]]:
        """(number, number of the first with the same content), bucket by bucket."""
        self._spill()
        for path in sorted(Path(self._folder.name).iterdir()):
            entries = np.fromfile(path, _ENTRY)
            entries.sort(order=("high", "low", "number"))
            same = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
            first = 0
            for place in range(1, len(entries)) if same.any() else ():
                if not same[place - 1]:
                    first = place
                else:
                    yield int(entries["number"][place]), int(entries["number"][first])

    def close(self) -> None:
        """Deletes what is on disk."""
        self._folder.cleanup()

    def _spill(self) -> None:
        held = self._held[: self._count]
        buckets = held["high"] % _BUCKETS
        for bucket in np.unique(buckets):
            with (Path(self._folder.name) / f"{bucket:02}").open("ab") as file:
                held[buckets == bucket].tofile(file)
        self._count = 0
