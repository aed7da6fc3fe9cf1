"""Where the data files are, and what exactly was found there. Nothing is ever downloaded.

The root is `--data-root`, else the variable LMUData, else `~/LMUData` (source: VLMEvalKit `LMUDataRoot`). A variable
whose folder is missing is an error here, where VLMEvalKit goes to the home folder in silence. A file is known by its
content: md5 against the published one, sha256 for the bundle, both in one pass of constant memory. This file never
looks into the data.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xverse_v.errors import error

from .contract import Benchmark

ROOT_VARIABLE = "LMUData"
_CHUNK = 4 * 2**20


@dataclass(frozen=True)
class DataFile:
    """A data file that is there. `known_md5` is the published one, "" where none is."""

    path: Path
    bytes: int
    md5: str
    sha256: str
    known_md5: str = ""

    @property
    def differs(self) -> bool:
        """A published md5 exists and is another one."""
        return bool(self.known_md5) and self.md5 != self.known_md5

    def as_dict(self) -> dict[str, Any]:
        """For the bundle: the file's name and content, not where this machine keeps it."""
        return {**asdict(self), "path": self.path.name}


def data_root(given: Path | None = None) -> Path:
    """The folder of data files. Raises E701 for one that was named and does not exist."""
    named = os.environ.get(ROOT_VARIABLE, "")
    for origin, folder in (("--data-root", given), (f"the variable {ROOT_VARIABLE}", Path(named) if named else None)):
        if folder is not None:
            if not folder.expanduser().is_dir():
                raise error("E701", origin=origin, folder=folder)
            return folder.expanduser()
    return Path.home() / ROOT_VARIABLE


def find_data(benchmark: Benchmark, root: Path | None = None, *, strict_md5: bool = False) -> DataFile:
    """The benchmark's data below `root`, read once for its digests. Raises E700 missing, E702 md5, E701."""
    folder = data_root(root)
    path = folder / benchmark.file
    if not path.exists():
        raise error(
            "E700",
            benchmark=benchmark.name,
            file=benchmark.file,
            folder=folder,
            path=path,
            md5=benchmark.md5 or "-",
            source=benchmark.source,
        )
    return describe(path, benchmark.name, benchmark.md5, strict_md5=strict_md5)


def describe(path: Path, name: str = "", known_md5: str = "", *, strict_md5: bool = False) -> DataFile:
    """Digests of a file, or of the data files directly in a folder. Raises E702 with `strict_md5`, E716."""
    try:
        parts = [path] if path.is_file() else _files_in(path)
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        for part in parts:
            if part != path:  # a folder: names count too, so that two files cannot change places
                sha256.update(f"{part.name}\0".encode())
            with part.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    md5.update(chunk)
                    sha256.update(chunk)
                    size += len(chunk)
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason
    found = DataFile(path, size, md5.hexdigest(), sha256.hexdigest(), known_md5 if path.is_file() else "")
    if strict_md5 and found.differs:
        raise error("E702", path=path, got=found.md5, expected=known_md5, benchmark=name)
    return found


def _files_in(folder: Path) -> list[Path]:
    return sorted(part for part in folder.iterdir() if part.suffix in (".json", ".jsonl", ".tsv") and part.is_file())
