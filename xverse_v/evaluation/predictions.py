"""Answers on disk: append-only parts, one a process, and the one file that is made of them at the end.

A part is JSON lines, flushed to the disk before a line counts, locked by its process; all that a crash can leave is a
torn last line, which is cut off. Lines are keyed by row and by the digest of the settings. `merge` writes the rows in
the benchmark's order, so its bytes do not depend on batches, processes or crashes. The file knows no model.

A line: {"key", "settings", "asked", "prompt", "images", "text", "finish_reason", "facts"}. One whose finish reason is
`REFUSED` is asked again by the next start, because the image may be mended by then; an answer is never asked for twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from xverse_v import appending
from xverse_v.appending import AppendedFile
from xverse_v.errors import XverseError, error

from .contract import REFUSED
from .digests import canonical
from .sharing import Share

PARTS = "parts"
MERGED = "predictions.jsonl"
_FIELDS = {"key", "asked", "text", "finish_reason", "facts"}


@dataclass
class Answered:
    """What the parts of a run hold: where the line of each key is, and what was asked there."""

    at: dict[str, tuple[Path, int]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    torn_bytes: int = 0


def read_parts(folder: Path, settings: str) -> Answered:
    """All lines of all parts, whoever wrote them. A torn end is skipped: its process may be writing right now.

    Raises E718 (damaged), E720 (a line was made with other settings).
    """
    found = Answered()
    for path in sorted((folder / PARTS).glob("*.jsonl")):
        for offset, row in _lines_of(path, found):
            if row.get("settings") != settings:
                raise error("E720", path=path, got=row.get("settings"), expected=settings)
            key = str(row["key"])
            refused = row["finish_reason"] == REFUSED
            if key in found.at and key not in found.refused:
                continue
            found.at[key] = (path, offset)
            found.asked[key] = str(row["asked"])
            (found.refused.add if refused else found.refused.discard)(key)
    return found


def _lines_of(path: Path, found: Answered) -> Iterator[tuple[int, dict[str, Any]]]:
    offset = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                found.torn_bytes += len(raw)
                return
            yield offset, parse_line(raw, path, number)
            offset += len(raw)


def parse_line(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    """One prediction as it was written. Raises E718."""
    try:
        row = json.loads(raw)
    except ValueError as reason:
        raise _damaged(path, number, str(reason)) from reason
    if not isinstance(row, dict) or not row.keys() >= _FIELDS:
        raise _damaged(path, number, "not a prediction")
    return row


_SYNC_SECONDS = 1.0  # what a failing machine may lose is asked again; a killed process loses nothing


class Part:
    """This process's part. Use as a context manager; entering locks it and cuts off a torn end.

    Raises on entering: E719 (another process writes it), E721 (cannot be written).
    """

    def __init__(self, folder: Path, share: Share, settings: str) -> None:
        self.path = _part(folder, share.rank, share.world)
        self._settings = settings
        self._file = AppendedFile(self.path, _SYNC_SECONDS)

    def __enter__(self) -> Part:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file.open()
            self._file.mend()
        except BlockingIOError as reason:
            raise error("E719", path=self.path) from reason
        except OSError as reason:
            self.close()
            raise unwritable(self.path, reason) from reason
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock, with every line on the disk. Raises E721."""
        try:
            self._file.close()
        except OSError as reason:
            raise unwritable(self.path, reason) from reason

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line; a process that dies now leaves it there. Raises E721."""
        text = canonical({**line, "settings": self._settings}) + "\n"
        try:
            self._file.append(text.encode("utf-8", "surrogatepass"))
        except OSError as reason:
            raise unwritable(self.path, reason) from reason


def is_written(folder: Path, rank: int, world: int) -> bool:
    """Whether another process holds that part open right now."""
    return appending.is_written(_part(folder, rank, world))


def _part(folder: Path, rank: int, world: int) -> Path:
    return folder / PARTS / f"{rank}-of-{world}.jsonl"


def merge(folder: Path, answered: Answered, keys: Iterable[str]) -> Path:
    """The lines of `keys`, in that order, as one file, in one step. Every key must be answered or refused."""
    target = folder / MERGED
    draft = target.with_name(f"{MERGED}.{os.getpid()}.part")
    handles = {path: path.open("rb") for path in {path for path, _ in answered.at.values()}}
    try:
        with draft.open("wb") as out:
            for key in keys:
                path, offset = answered.at[key]
                handles[path].seek(offset)
                out.write(handles[path].readline())
            out.flush()
            os.fsync(out.fileno())
        draft.replace(target)
    except OSError as reason:
        raise unwritable(target, reason) from reason
    finally:
        draft.unlink(missing_ok=True)
        for handle in handles.values():
            handle.close()
    return target


def read_merged(path: Path) -> Iterator[dict[str, Any]]:
    """The predictions of a finished run, in order. Raises E718, E716."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield parse_line(raw, path, number)
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason


def unwritable(path: Path, reason: OSError) -> XverseError:
    """E721 for a failed write."""
    return error("E721", path=path, reason=reason.strerror or str(reason))


def _damaged(path: Path, line: int, reason: str) -> XverseError:
    return error("E718", path=path, line=line, reason=reason)
