"""Rows of a JSON array or a JSON-lines file, one after another, with their place in the file.

What crosses: a path in, `Row`s out: byte offset, byte size, line number and either the value or what is wrong. The file
is read in pieces: memory is bounded by the longest row (at most `MAX_ROW` bytes), not by the file. A broken row costs
itself alone; the scan goes on behind it. Which of the two a file is, is read from its first character.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

MAX_ROW = 128 << 20  # bytes; a data URL of the largest accepted image takes 27 MB
CHUNK = 1 << 20
BOM = b"\xef\xbb\xbf"

_SPACE = re.compile(r"[ \t\r\n]*")
_NEXT_ROW = re.compile(r"\}\s*,\s*(?=\{)")
_SURROUND = "surrogateescape"

Container = Literal["array", "lines"]


@dataclass(frozen=True)
class Row:
    """`problem` is a finding code of findings.toml ("D101", ...) with its facts; then `value` is None."""

    offset: int
    size: int
    line: int
    value: Any = None
    problem: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()  # keys that one object holds twice; JSON keeps only the last


def container_of(path: Path) -> Container | None:
    """ "array" if the first character is `[`, "lines" if it is `{`, else None."""
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(BOM).lstrip()
    return {b"[": "array", b"{": "lines"}.get(head[:1])  # type: ignore[return-value]


def scan(path: Path, container: Container, *, strict: bool = True) -> Iterator[Row]:
    """All rows. `strict` also looks for keys that appear twice (slower)."""
    yield from _scan_array(path, strict) if container == "array" else _scan_lines(path, strict)


def decode_row(raw: bytes, *, strict: bool = False) -> tuple[Any, tuple[str, ...]]:
    """One row's value and its repeated keys. Raises `ValueError` (`UnicodeDecodeError`, `JSONDecodeError`)."""
    repeated: list[str] = []
    decoder = _decoder(repeated if strict else None)
    return decoder.decode(raw.decode("utf-8")), tuple(dict.fromkeys(repeated))


def _decoder(repeated: list[str] | None) -> json.JSONDecoder:
    if repeated is None:
        return json.JSONDecoder()

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) < len(items):
            seen: set[str] = set()
            repeated.extend(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return value

    return json.JSONDecoder(object_pairs_hook=pairs)


# JSON lines -----------------------------------------------------------------------------------------------------------


def _scan_lines(path: Path, strict: bool) -> Iterator[Row]:
    with path.open("rb") as file:
        offset, line = 0, 0
        while raw := file.readline(MAX_ROW):
            line += 1
            size = len(raw)
            if size == MAX_ROW and not raw.endswith(b"\n"):
                size += _skip_line(file)
                yield Row(offset, 0, line, problem="D107", facts={"bytes": size, "limit": MAX_ROW})
            else:
                yield _line_row(raw, offset, line, strict)
            offset += size


def _line_row(raw: bytes, offset: int, line: int, strict: bool) -> Row:
    if line == 1 and raw.startswith(BOM):
        raw, offset = raw[len(BOM) :], offset + len(BOM)
    if not raw.strip():
        return Row(offset, 0, line, problem="D104")
    try:
        value, repeated = decode_row(raw, strict=strict)
    except UnicodeDecodeError as reason:
        return Row(offset, len(raw), line, problem="D102", facts={"byte": hex(raw[reason.start]), "at": reason.start})
    except (ValueError, RecursionError) as reason:
        return Row(offset, len(raw), line, problem="D101", facts={"reason": str(reason)})
    return Row(offset, len(raw), line, value, repeated=repeated)


def _skip_line(file: BinaryIO) -> int:
    skipped = 0
    while raw := file.readline(CHUNK):
        skipped += len(raw)
        if raw.endswith(b"\n"):
            break
    return skipped


# JSON array -----------------------------------------------------------------------------------------------------------


class _Window:
    """A sliding piece of the file as text. Bytes that are not UTF-8 become lone surrogates and so keep their count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")(_SURROUND).decode
        self.text, self.at, self.offset, self.line, self.ended = "", 0, 0, 1, False

    def more(self) -> bool:
        """Reads on; false at the end of the file. What lies before `at` is dropped."""
        if self.ended:
            return False
        # A long row doubles the piece each time, so that parsing it again and again stays linear.
        raw = self._file.read(max(CHUNK, len(self.text) - self.at))
        self.ended = not raw
        self.text = self.text[self.at :] + self._decode(raw, self.ended)
        self.at = 0
        return bool(raw)

    def advance(self, end: int) -> tuple[int, int]:
        """Moves to `end`; returns the offset and the size in bytes of what was passed."""
        passed = self.text[self.at : end]
        size = len(passed) if passed.isascii() else len(passed.encode("utf-8", _SURROUND))
        start = self.offset
        self.offset += size
        self.line += passed.count("\n")
        self.at = end
        return start, size

    def skip(self, characters: str) -> str:
        """Passes whitespace and `characters`; returns the character after them, "" at the end of the file."""
        while True:
            end = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            self.advance(end)
            if end < len(self.text):
                if self.text[end] not in characters:
                    return self.text[end]
                self.advance(end + 1)
            elif not self.more():
                return ""


def _scan_array(path: Path, strict: bool) -> Iterator[Row]:
    repeated: list[str] = []
    decoder = _decoder(repeated if strict else None)
    with path.open("rb") as file:
        window = _Window(file)
        keys: frozenset[str] = frozenset()
        window.more()
        if window.text.startswith("\ufeff"):
            window.advance(1)
        window.skip("[")
        while character := window.skip(","):
            if character == "]":
                window.advance(window.at + 1)
                if window.skip(""):
                    yield Row(window.offset, 0, window.line, problem="D106")
                return
            repeated.clear()
            row = _array_row(window, decoder, repeated, keys)
            keys = frozenset(row.value) if isinstance(row.value, dict) else keys
            yield row
        yield Row(window.offset, 0, window.line, problem="D105")


def _array_row(window: _Window, decoder: json.JSONDecoder, repeated: list[str], keys: frozenset[str]) -> Row:
    line = window.line
    while True:
        try:
            value, end = decoder.raw_decode(window.text, window.at)
            if end == len(window.text) and not isinstance(value, dict | list | str) and window.more():
                continue  # a number may go on in the next piece
        except (ValueError, RecursionError) as reason:
            if _may_go_on(reason, window) and window.more():
                repeated.clear()
                continue
            return _broken_row(window, decoder, keys, str(reason))
        raw_text = window.text[window.at : end]
        offset, size = window.advance(end)
        if not raw_text.isascii() and (found := re.search(r"[\udc80-\udcff]", raw_text)):
            facts = {
                "byte": hex(ord(found[0]) - 0xDC00),
                "at": len(raw_text[: found.start()].encode("utf-8", _SURROUND)),
            }
            return Row(offset, size, line, problem="D102", facts=facts)
        return Row(offset, size, line, value, repeated=tuple(dict.fromkeys(repeated)))


def _may_go_on(reason: Exception, window: _Window) -> bool:
    """Whether the row could be whole with more of the file: the parser stopped at the end, or inside a string."""
    if len(window.text) - window.at > MAX_ROW or not isinstance(reason, json.JSONDecodeError):
        return False
    return reason.pos >= len(window.text) - 16 or reason.msg.startswith("Unterminated string")


def _broken_row(window: _Window, decoder: json.JSONDecoder, keys: frozenset[str], reason: str) -> Row:
    """The row from here to where the next one begins: the next object that shares a key with the last sound row, which
    the objects inside a row do not. Without such an object the rest of the file is one broken row."""
    line, tried = window.line, 0
    while True:
        found = _NEXT_ROW.search(window.text, window.at + tried)
        if found is None:
            if len(window.text) - window.at > MAX_ROW or not window.more():
                break
            continue
        try:
            value, _ = decoder.raw_decode(window.text, found.end())
            if not keys or keys & value.keys():
                break
        except (ValueError, RecursionError) as problem:
            if _may_go_on(problem, window) and window.more():
                continue
        tried = found.end() - window.at
    offset, size = window.advance(found.start() + 1 if found else len(window.text))
    return Row(offset, size, line, problem="D101", facts={"reason": reason})
