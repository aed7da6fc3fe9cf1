"""Tar shards as WebDataset writes them: neighbouring members that share a name up to the first dot are one sample.

What crosses: open binary files or bytes in, spans of samples and their members out. Only headers are read to find the
spans, so indexing costs one seek a member. Understands ustar, GNU long names and pax paths and sizes. Nothing is ever
extracted to disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

BLOCK = 512
_LONG_NAME, _PAX, _PAX_GLOBAL = b"L", b"x", b"g"
_FILE_TYPES = (b"0", b"\0", b"7")
_LONGEST_META = 1 << 20  # bytes of a long-name or pax record; real ones take a few hundred


class TarDamaged(ValueError):
    """The file ends inside a member or a header's checksum is wrong; `offset` says where."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


@dataclass(frozen=True)
class Member:
    """A regular file in a tar: `start` is its first header's offset, `data` its content's, `end` the next header's."""

    name: str
    start: int
    data: int
    size: int
    end: int

    @property
    def key(self) -> str:
        """The path up to the first dot of the file name."""
        path = PurePosixPath(self.name)
        return str(path.with_name(path.name.split(".", 1)[0] or path.name))

    @property
    def field(self) -> str:
        """What follows that dot, in lower case: "jpg", "txt", "seg.png"."""
        return PurePosixPath(self.name).name.partition(".")[2].lower()


def is_tar(head: bytes) -> bool:
    """Whether these first 512 bytes are a tar header."""
    return len(head) >= BLOCK and _checksum_right(head[:BLOCK])


def members(file: BinaryIO) -> Iterator[Member]:
    """Regular files in order. Raises `TarDamaged`."""
    file.seek(0, io.SEEK_END)
    length = file.tell()
    at, start, name = 0, 0, ""
    pax: dict[str, str] = {}
    while True:
        file.seek(at)
        header = file.read(BLOCK)
        if not header or not header.strip(b"\0"):
            return  # the end, with or without the two empty blocks
        if len(header) < BLOCK or not _checksum_right(header):
            raise TarDamaged(at, "a header is cut short" if len(header) < BLOCK else "a header's checksum is wrong")
        kind, data = header[156:157], at + BLOCK
        size = int(pax.get("size", 0)) or _number(header[124:136])
        end = data + -(-size // BLOCK) * BLOCK
        if data + size > length:
            raise TarDamaged(at, f"the last member needs {data + size} bytes and the file has {length}")
        if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
            meta = file.read(min(size, _LONGEST_META))
            if kind == _LONG_NAME:
                name = _text(meta)
            elif kind == _PAX:
                pax = _pax_records(meta)
        else:
            if kind in _FILE_TYPES:
                yield Member(pax.get("path") or name or _plain_name(header), start, data, size, end)
            name, pax, start = "", {}, end
        at = end


def samples(file: BinaryIO) -> Iterator[list[Member]]:
    """Neighbouring members with the same key. Raises `TarDamaged` after the last whole sample."""
    group: list[Member] = []
    try:
        for member in members(file):
            if group and member.key != group[0].key:
                yield group
                group = []
            group.append(member)
    except TarDamaged:
        # The last group may lack a member that lies behind the damage: it is not handed out.
        raise
    if group:
        yield group


def read_members(span: bytes) -> list[tuple[Member, bytes]]:
    """Members and contents of one sample's bytes, as `samples` found them: from its first `start` to its last `end`."""
    return [(member, span[member.data : member.data + member.size]) for member in members(io.BytesIO(span))]


def _checksum_right(header: bytes) -> bool:
    stored = _number(header[148:156], broken=-1)
    return stored == sum(header[:148]) + 8 * 32 + sum(header[156:])


def _number(field: bytes, broken: int = 0) -> int:
    if field[:1] in (b"\x80", b"\xff"):  # base 256, for sizes of 8 GiB and more
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return broken


def _plain_name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _pax_records(meta: bytes) -> dict[str, str]:
    records: dict[str, str] = {}
    while meta:
        length = meta.partition(b" ")[0]
        if not length.isdigit() or not 0 < int(length) <= len(meta):
            break
        key, _, value = meta[len(length) + 1 : int(length) - 1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        meta = meta[int(length) :]
    return records
