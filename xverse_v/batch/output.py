"""The answers: an append-only JSONL file that is whole after any crash.

One writer (a lock that dies with its process), one set of settings (each row carries its digest), each id once, each
append flushed to the disk before it counts. A torn last line, all that a crash can leave, is cut off and counted;
damage anywhere else is refused, not guessed at. The file refuses to know questions and models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from xverse_v.appending import AppendedFile, NotRegular
from xverse_v.errors import XverseError, error

SETTINGS_SUFFIX = ".settings.json"


def settings_digest(settings: Mapping[str, Any]) -> str:
    """12 hex digits that stand for all settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


class OutputFile:
    """Use as a context manager; entering locks, checks and mends the file.

    After entering: `done` maps the key of each finished row (16 bytes over its id) to the fingerprint of what was
    asked, `skipped` lists (id, error code) of rows that were given up, `torn_bytes` were cut off its end.

    Raises on entering: E828 cannot be opened, E822 locked, E824 damaged, E821 written with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # as they will be read back: no tuples
        self.digest = settings_digest(settings)
        self.done: dict[bytes, str] = {}
        self.skipped: list[tuple[str | int, str]] = []
        self.torn_bytes = 0
        self._file = AppendedFile(path)

    @property
    def settings_path(self) -> Path:
        """A readable copy of the settings beside the file; the digests in the rows decide, not this copy."""
        return self.path.with_name(self.path.name + SETTINGS_SUFFIX)

    def __enter__(self) -> OutputFile:
        try:
            self._file.open()
        except BlockingIOError as reason:
            raise error("E822", path=self.path) from reason
        except OSError as reason:
            raise _unwritable(self.path, reason) from reason
        try:
            self._read_rows()
            self._write_settings()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock. Everything appended is on the disk already."""
        self._file.close()

    def _read_rows(self) -> None:
        other = [number for number, raw in self._file.lines() if self._read_row(raw, number) != self.digest]
        if other:
            differences, differences_zh = self._differences()
            raise error(
                "E821",
                path=self.path,
                rows=len(other),
                line=other[0],
                differences=differences,
                differences_zh=differences_zh,
                settings_file=self.settings_path,
            )
        self.torn_bytes = self._file.mend()

    def _read_row(self, raw: bytes, number: int) -> str:
        try:
            row = json.loads(raw)
            identity, settings, asked = row["id"], row["settings"], row["input"]
        except (ValueError, KeyError, TypeError) as reason:
            raise self._damaged(number, f"{type(reason).__name__}: {reason}") from reason
        key = row_key(identity)
        if key in self.done:
            raise self._damaged(number, f"the id {identity!r} stands in it twice", f"id {identity!r} 出现了两次")
        self.done[key] = asked
        if "error" in row:
            self.skipped.append((identity, row["error"]["code"]))
        return str(settings)

    def _damaged(self, line: int, reason: str, reason_zh: str = "") -> XverseError:
        return error("E824", path=self.path, line=line, reason=reason, reason_zh=reason_zh or reason)

    def _differences(self) -> tuple[str, str]:
        """What changed, in both languages."""
        try:
            before = json.loads(self.settings_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return f"digest {self.digest} now, another one there", f"当前摘要为 {self.digest}，文件中的与此不同"
        names = sorted(n for n in before.keys() | self.settings.keys() if before.get(n) != self.settings.get(n))
        pairs = [(name, before.get(name), self.settings.get(name)) for name in names]
        return (
            ", ".join(f"{name} {was!r} there, {now!r} now" for name, was, now in pairs) or "unknown ones",
            "，".join(f"{name} 文件中为 {was!r}，现在为 {now!r}" for name, was, now in pairs) or "不明",
        )

    def _write_settings(self) -> None:
        """Before the first row, in one step, so that no row ever stands there without a readable account of it."""
        if self.done and self.settings_path.exists():
            return
        draft = self.settings_path.with_name(self.settings_path.name + ".part")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(self.settings, file, ensure_ascii=False, indent=2, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.settings_path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as reason:
            raise _unwritable(self.settings_path, reason) from reason

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows and wait until they are on the disk. Each gets the settings digest. Raises E828 (disk full)."""
        lines = [json.dumps({**row, "settings": self.digest}, ensure_ascii=False) + "\n" for row in rows]
        try:
            self._file.append("".join(lines).encode())
        except OSError as reason:
            raise _unwritable(self.path, reason) from reason


def row_key(identity: str | int) -> bytes:
    """16 bytes that stand for an id; 1 and "1" differ."""
    return hashlib.sha256(json.dumps(identity, ensure_ascii=False).encode()).digest()[:16]


def _unwritable(path: Path, reason: OSError) -> XverseError:
    said = reason.strerror or str(reason)
    said_zh = "它不是普通文件" if isinstance(reason, NotRegular) else said
    return error("E828", path=path, reason=said, reason_zh=said_zh)
