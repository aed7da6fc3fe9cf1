"""Official data files in JSON, record by record: memory holds one record, whatever the size of the file.

    for record in read_records(path):                    # a list, a dict of dicts, or JSON lines: told apart by content
        record.place, record.key, record.value           # 0-based place; the dict's key or ""; the dict itself
    for record in read_records(path, at="annotations"):  # the list or dict that is this member of the top-level dict

Covers: OKVQA and VQA (`at="questions"`, `at="annotations"`), GQA's dict of questions and the release's list or lines,
TextVQA (`at="data"`), VizWiz, OCRBench and HallusionBench (lists), MathVista and ScienceQA (dicts), SEED-Bench
(`at="questions"`), LLaVA-Bench (lines).

Raises E706 (damaged), E707 (another shape), E703 (not UTF-8), E716 (cannot be read). The file knows no field names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from xverse_v.errors import XverseError, error

_CHUNK = 2**20  # characters read at a time; it doubles while one value does not fit
_SPACE = " \t\r\n\ufeff"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Record:
    """One record: its place from 0, its key where the file is a dict of records, its line where it is JSON lines."""

    place: int
    key: str
    value: dict[str, Any]
    line: int = 0


def read_records(path: Path, *, at: str = "") -> Iterator[Record]:
    """Every record of `path` in order. `at` names the member of a top-level dict that holds them."""
    try:
        with path.open(encoding="utf-8") as file:
            if not at and _is_lines(file):
                file.seek(0)
                yield from _lines(file, path)
                return
            file.seek(0)
            yield from _members(_Text(file, path), at)
    except UnicodeDecodeError as reason:
        raise error("E703", path=path, line="?", byte=reason.start) from reason
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason


def read_document(path: Path) -> Any:
    """A small JSON file as a whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as reason:
        raise error("E703", path=path, line="?", byte=reason.start) from reason
    except ValueError as reason:
        raise error("E706", path=path, problem=reason) from reason
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason


def _is_lines(file: TextIO) -> bool:
    """JSON lines: the first line is a whole dict, and it is not the file's only one or not a dict of dicts."""
    first = file.readline(_CHUNK)
    while first and not first.strip(_SPACE):
        first = file.readline(_CHUNK)
    if not first.lstrip(_SPACE).startswith("{") or len(first) >= _CHUNK:
        return False
    try:
        value = json.loads(first.lstrip("\ufeff"))
    except ValueError:
        return False
    alone = not any(line.strip() for line in iter(lambda: file.readline(_CHUNK), ""))
    return not (alone and all(isinstance(member, dict) for member in value.values()))


def _lines(file: TextIO, path: Path) -> Iterator[Record]:
    place = 0
    for line, text in enumerate(file, start=1):
        if not text.strip(_SPACE):
            continue
        try:
            value = json.loads(text.lstrip("\ufeff"))
        except ValueError as reason:
            raise error("E706", path=path, problem=f"line {line}: {reason}") from reason
        yield Record(place, "", _as_dict(value, path, f"line {line}"), line)
        place += 1


def _members(text: _Text, at: str) -> Iterator[Record]:
    opening = text.take()
    if at:
        if opening != "{":
            raise error("E707", path=text.path, got=_name_of(opening), expected=f'a dict with the member "{at}"')
        opening = _enter(text, at)
    if opening not in ("{", "["):
        raise error("E707", path=text.path, got=_name_of(opening), expected="a list or dict of records")
    closing = "}" if opening == "{" else "]"
    place = 0
    while text.peek() != closing:
        if place:
            text.expect(",")
        key = _key(text) if opening == "{" else ""
        where = f"member {key!r}" if key else f"record {place}"
        yield Record(place, key, _as_dict(text.value(), text.path, where))
        place += 1
    text.take()
    if not at and text.peek():
        raise text.damaged("text behind its end")


def _enter(text: _Text, at: str) -> str:
    """Go to the member `at` of the dict that has just been opened and return what opens it."""
    names: list[str] = []
    while text.peek() != "}":
        if names:
            text.expect(",")
        names.append(_key(text))
        if names[-1] == at:
            return text.take()
        text.value()
    shown = ", ".join(names[:8])
    raise error("E707", path=text.path, got=f"a dict with {shown}", expected=f'a dict with the member "{at}"')


def _key(text: _Text) -> str:
    key = text.value()
    if not isinstance(key, str):
        raise text.damaged("a member without a name")
    text.expect(":")
    return key


def _as_dict(value: Any, path: Path, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise error("E707", path=path, got=f"{type(value).__name__} as {where}", expected="a dict for each record")
    return value


def _name_of(opening: str) -> str:
    return {"{": "a dict", "[": "a list", "": "nothing"}.get(opening, "a single value")


class _Text:
    """The text of a file as a moving window: what has been taken is forgotten."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.path = path
        self._file = file
        self._window = ""
        self._at = 0
        self._forgotten = 0

    def peek(self) -> str:
        """The next character that is not space; "" at the end."""
        while True:
            while self._at < len(self._window) and self._window[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._read(_CHUNK):
                return ""

    def take(self) -> str:
        found = self.peek()
        self._at += len(found)
        return found

    def expect(self, character: str) -> None:
        found = self.take()
        if found != character:
            raise self.damaged(f"{character!r} expected, {found!r} found" if found else "it ends too early")

    def value(self) -> Any:
        """The next JSON value, read on until it is whole."""
        self.peek()
        size = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
            except ValueError as reason:
                if not self._read(size):
                    raise self.damaged(str(reason)) from None
                size *= 2
                continue
            # A number that touches the window's end may go on behind it.
            if end == len(self._window) and not isinstance(value, dict | list | str) and self._read(_CHUNK):
                continue
            self._at = end
            return value

    def damaged(self, problem: str) -> XverseError:
        return error("E706", path=self.path, problem=f"{problem}, near character {self._forgotten + self._at}")

    def _read(self, size: int) -> bool:
        more = self._file.read(size)
        self._forgotten += self._at
        self._window = self._window[self._at :] + more
        self._at = 0
        return bool(more)
