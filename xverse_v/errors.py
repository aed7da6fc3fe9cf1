"""Error codes and their texts, in English and Chinese.

Every failure a user can meet has a stable code (``E301``), a fact with numbers, a cause and the next command. The texts
live in ``catalogue/*.toml``, one file a room; this module only looks them up and fills in the numbers. It imports
nothing of the package and reads the catalogue only when an error is built or explained, so importing it costs
nothing.
"""

from __future__ import annotations

import locale
import os
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Language = Literal["en", "zh"]

LANGUAGE_VARIABLE = "XVERSE_V_LANG"


@cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """All entries by code. A code defined twice is a mistake of ours and raises ``ValueError``."""
    entries: dict[str, Mapping[str, Any]] = {}
    for path in sorted(files("xverse_v").joinpath("catalogue").iterdir(), key=lambda p: p.name):
        if not path.name.endswith(".toml"):
            continue
        for code, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if code in entries:
                raise ValueError(f"error code {code} is defined twice, the second time in {path.name}")
            entries[code] = entry
    return dict(sorted(entries.items()))


def user_language() -> Language:
    """``XVERSE_V_LANG`` if it is set to en or zh, else Chinese for a Chinese locale, else English."""
    chosen = os.environ.get(LANGUAGE_VARIABLE, "").lower()[:2]
    if chosen in ("en", "zh"):
        return "zh" if chosen == "zh" else "en"
    spoken = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if (spoken or locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


class XverseError(Exception):
    """A failure with a code. ``str(e)`` is the text in the user's language, code first.

    Attributes: ``code`` ("E301"), ``name`` ("missing_tensors", stable, for programs), ``exit_code`` (1 failed, 2
    usage), ``facts`` (the values that fill the text).
    """

    def __init__(self, code: str, **facts: Any) -> None:
        entry = catalogue()[code]
        self.code = code
        self.name: str = entry["name"]
        self.exit_code: int = entry.get("exit_code", 1)
        self.facts = facts
        super().__init__(code)

    def parts(self, language: Language | None = None) -> dict[str, str]:
        """The filled ``fact``, ``cause`` and ``next`` in one language."""
        texts = catalogue()[self.code][language or user_language()]
        return {part: texts[part].format(**self.facts) for part in ("fact", "cause", "next")}

    def text(self, language: Language | None = None) -> str:
        """Three lines: code and fact, cause, next command."""
        parts = self.parts(language)
        return f"{self.code} {parts['fact']}\n{parts['cause']}\n{parts['next']}"

    def as_dict(self) -> dict[str, str]:
        """For ``--json`` and HTTP bodies."""
        return {"code": self.code, "name": self.name, **self.parts()}

    def __str__(self) -> str:
        return self.text()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.code, self.facts))


def _rebuild(code: str, facts: dict[str, Any]) -> XverseError:
    return XverseError(code, **facts)


def error(code: str, **facts: Any) -> XverseError:
    """Build the error for ``code``; every ``{name}`` in its texts must be in ``facts`` (checked here)."""
    problem = XverseError(code, **facts)
    problem.text("en")
    problem.text("zh")
    return problem
