"""JSON of this room's files, and how values turn into names: one spelling a value, on every machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xverse_v.errors import error


def canonical(value: Any) -> str:
    """JSON on one line, keys sorted, text readable. Raises `ValueError` for NaN, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """sha256 in hex of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def short_digest(data: bytes) -> str:
    """32 hex digits for bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 in hex of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """A file that is there as a whole or not at all, and on the disk when this returns. Raises `OSError`."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def pretty(document: Mapping[str, Any]) -> str:
    """JSON for people, keys sorted."""
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises E716, E718."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason
    except ValueError as reason:
        raise error("E718", path=path, line="?", reason=str(reason)) from reason
    if not isinstance(document, dict):
        raise error("E718", path=path, line=1, reason="not a dict")
    return document


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The dicts of a JSON-lines file of a run. Raises E716, E718."""
    try:
        file = path.open("rb")
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason
    with file:
        for number, raw in enumerate(file, start=1):
            try:
                yield json.loads(raw)
            except ValueError as reason:
                raise error("E718", path=path, line=number, reason=str(reason)) from reason
