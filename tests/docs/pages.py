"""Reading Markdown as a reader clicks it: headings with their anchors, links, images, code. No page is judged."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "xverse_v" / "nano" / "weights" / "README.md"],
)

_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fences(text: str) -> list[str]:
    """The contents of the fenced blocks."""
    return _FENCE.findall(text)


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    return _CODE.findall(prose(text))


def headings(text: str) -> list[tuple[int, str]]:
    """(level, title) of each heading."""
    return [(len(signs), title) for signs, title in _HEADING.findall(prose(text))]


def anchors(text: str) -> set[str]:
    """The anchor of each heading, as GitHub and the site both make it."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for _, title in headings(text)}


def links(text: str) -> list[tuple[bool, str]]:
    """(is an image, target) of each link outside of code."""
    plain = _CODE.sub("", prose(text)) if "](" in text else ""
    # A label may itself be code, which was taken out above; its brackets are still there.
    return [(bool(sign), target) for sign, _, target in _LINK.findall(plain)]
