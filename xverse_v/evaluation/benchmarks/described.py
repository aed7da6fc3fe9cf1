"""What every benchmark says of itself: the plain facts of the contract, and how it treats the words for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xverse_v.errors import error

from ..contract import Profile
from ..scoring.harness import of_april_2024
from ..tsv import NaPolicy

HOST = "opencompass.openxlab.space/utils"
"""Where VLMEvalKit's own table says its files lie; nothing here downloads them."""
_LONGEST_LINE = 2**16  # a record of one question is far shorter; a record with an image is not needed whole


@dataclass(kw_only=True)
class Described:
    """The attributes of the contract's `Benchmark`.

    `na_policy`: what happens to a cell such as "None". Left at ``None`` the profile decides: the rules of April 2024
    lose such cells, every other profile keeps them.
    """

    name: str
    file: str
    source: str
    metric: str
    citation: str
    md5: str = ""
    judge: Literal["none", "optional", "required"] = "none"
    na_policy: NaPolicy | None = None

    def na(self, profile: Profile) -> NaPolicy:
        return self.na_policy or ("vlmevalkit" if of_april_2024(profile) else "fixed")


def is_json(path: Path) -> bool:
    """True if the file begins as JSON does: the official files are told from TSV files by content, not by name."""
    return first_line(path)[:1] in ("{", "[")


def first_line(path: Path) -> str:
    """The first line of a data file that is not blank, cut at 65,536 characters. Raises E716 if it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            while (line := file.readline(_LONGEST_LINE)) and not line.strip():
                pass
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason
    return line.strip()


def folder_of(path: Path, image_root: Path | None, *names: str) -> Path:
    """Where a data file's images lie: the first of the folders `names` that exists below `image_root` (or beside the
    file), else that root itself.
    """
    root = image_root or path.parent
    return next((root / name for name in names if (root / name).is_dir()), root)
