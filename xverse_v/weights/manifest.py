"""`manifest.json`: what a finished model folder consists of, byte for byte, and where it came from.

What crosses: a folder in; sizes and SHA-256 of every file out, or the list of files that differ. Written last, so a
folder with a manifest was finished. This file knows no tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xverse_v import __version__
from xverse_v.errors import XverseError, error

from .parts import read_json
from .writer import FileRecord

MANIFEST = "manifest.json"
PARITY_FILE = "parity.json"
FORMAT = 1


@dataclass(frozen=True)
class ManifestReport:
    """A folder compared with its manifest. `changed` lists (file, found, expected); `unlisted` is no fault."""

    present: bool
    hashed: bool
    files: int
    changed: tuple[tuple[str, str, str], ...]
    unlisted: tuple[str, ...]
    tiler: str | None
    source: Mapping[str, Any]

    def problem(self, folder: Path) -> XverseError | None:
        """E309 if something differs."""
        if not self.changed:
            return None
        name, found, expected = self.changed[0]
        return error(
            "E309", folder=folder, count=len(self.changed), files=self.files, name=name, found=found, expected=expected
        )


def folder_files(folder: Path) -> list[str]:
    """The files a manifest covers: all but itself and hidden ones, by path inside the folder."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix() for path in paths if str(path) != MANIFEST and not any(p.startswith(".") for p in path.parts)
    )


def write_manifest(
    folder: Path, *, tiler: str, source: Mapping[str, Any], records: Mapping[str, FileRecord] | None = None
) -> None:
    """Write `manifest.json`. `records` are hashes already taken while writing; every other file is read once."""
    known = records or {}
    files = {name: known.get(name) or FileRecord.of(folder / name) for name in folder_files(folder)}
    document = {
        "format": FORMAT,
        "created_by": f"xverse-v {__version__}",
        "tiler": tiler,
        "source": source,
        "files": {name: {"sha256": record.sha256, "bytes": record.bytes} for name, record in files.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read_records(folder: Path) -> dict[str, FileRecord]:
    """The files of a manifest. Raises E300 without one, E317 if it cannot be read."""
    path = folder / MANIFEST
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise error("E317", path=path, problem=f"format {document.get('format')!r}, expected {FORMAT}")
    try:
        return {str(name): FileRecord(str(f["sha256"]), int(f["bytes"])) for name, f in document["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise error("E317", path=path, problem=f"files: {problem!r}") from None


def check_manifest(folder: Path, *, hashes: bool = False) -> ManifestReport:
    """Compare sizes, and with `hashes` every byte. A folder without a manifest gives `present=False` and no fault."""
    if not (folder / MANIFEST).is_file():
        return ManifestReport(False, False, 0, (), tuple(folder_files(folder)), None, {})
    records = read_records(folder)
    changed = []
    for name, record in records.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != record.bytes:
            changed.append((name, "-" if size is None else f"{size} bytes", f"{record.bytes} bytes"))
        elif hashes and (found := FileRecord.of(path).sha256) != record.sha256:
            changed.append((name, f"sha256 {found[:12]}…", f"{record.sha256[:12]}…"))
    document = read_json(folder / MANIFEST)
    unlisted = tuple(name for name in folder_files(folder) if name not in records)
    return ManifestReport(
        True, hashes, len(records), tuple(changed), unlisted, document.get("tiler"), document.get("source", {})
    )


def weights_id(folder: Path) -> str:
    """12 hex digits that name the contents of a folder; its own name does not enter. Hashes the files if no manifest
    does.

    The parity record is left out: its last digits depend on the machine that computed them.
    """
    if (folder / MANIFEST).is_file():
        records = read_records(folder)
    else:
        records = {name: FileRecord.of(folder / name) for name in folder_files(folder)}
    lines = "\n".join(f"{name} {records[name].sha256}" for name in sorted(records) if name != PARITY_FILE)
    return hashlib.sha256(lines.encode()).hexdigest()[:12]
