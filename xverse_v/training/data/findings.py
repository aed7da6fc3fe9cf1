"""What can be wrong with data: codes D101 to D799, their severity and their texts in English and Chinese.

What crosses: a code and its facts in, a `Finding` that can say itself out. Texts live in findings.toml. An error would
stop training or teach something wrong; a warning is accepted but hardly meant; a note is handled well and said once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NoReturn

from xverse_v.errors import Language, error, user_language

from .formats import Origin
from .turns import Report

Severity = Literal["error", "warning", "note"]


@cache
def finding_texts() -> Mapping[str, Mapping[str, str]]:
    """code -> name, severity, en, zh, and where `--fix` mends it instead of leaving the row out: fix_en, fix_zh."""
    return tomllib.loads(files(__package__).joinpath("findings.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Finding:
    """One thing found at one line. `facts` fill the text."""

    code: str
    source: str
    line: int
    id: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return finding_texts()[self.code]["name"]

    @property
    def severity(self) -> Severity:
        return finding_texts()[self.code]["severity"]  # type: ignore[return-value]

    def text(self, language: Language | None = None) -> str:
        return finding_text(self.code, self.facts, language)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "code": self.code,
            "name": self.name,
            "severity": self.severity,
            "source": self.source,
            "line": self.line,
            "id": self.id,
            "text": self.text(),
        }


def finding_text(code: str, facts: Mapping[str, Any], language: Language | None = None) -> str:
    return finding_texts()[code][language or user_language()].format(**facts)


def refusing(origin: Origin) -> Report:
    """A `report` for training: an error becomes E203 with the row's place; warnings and notes are `data check`'s."""

    def report(code: str, **facts: Any) -> None:
        if finding_texts()[code]["severity"] == "error":
            refuse(origin, code, facts)

    return report


def refuse(origin: Origin, code: str, facts: Mapping[str, Any]) -> NoReturn:
    """Raises E203 for a row that cannot be trained on."""
    en, zh = (finding_text(code, facts, language) for language in ("en", "zh"))
    place = origin.where or f"{origin.source}:{origin.line}"
    raise error("E203", place=place, finding=code, reason=en, reason_zh=zh, path=origin.source)
