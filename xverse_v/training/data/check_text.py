"""What can be wrong with the text of a turn: characters that do not belong, lost or wrongly decoded ones, glued turns.

What crosses: a text in, (code, facts) pairs out, and the text with mendable characters taken out. No files, no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .turns import SURROGATE

# Tab, line feed and carriage return are ordinary; zero-width joiners belong to emoji, Persian and Indic scripts.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
INVISIBLE = re.compile(r"[\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\u00ad]")
_REPLACEMENT = "\ufffd"
# UTF-8 read as Windows-1252: a lead byte's character and then those of continuation bytes.
_WRONG_DECODING = re.compile(
    r"[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{1,3}"
)
_LOST_IN_GBK = "锟斤拷"  # U+FFFD in UTF-8, read as GBK
_ROLE = re.compile(r"^(?:Human|Assistant|USER|ASSISTANT|<\|im_start\|>\w*): ?", re.MULTILINE)
SPECIAL = ("<|endoftext|>", "<|startoftext|>", "<|image|>", "<ImageHere>", "<pad>", "<unk>")


def text_problems(text: str, special: tuple[str, ...] = SPECIAL) -> Iterator[tuple[str, dict[str, Any]]]:
    """(finding code, facts) for one turn's text, each code at most once. special: strings a tokenizer treats apart."""
    if text.isascii() and text.isprintable():
        pass  # nothing but letters a keyboard has
    else:
        for code, pattern in (("D401", CONTROL), ("D407", INVISIBLE)):
            if found := pattern.search(text):
                yield code, {"character": f"U+{ord(found[0]):04X}"}
        if _REPLACEMENT in text:
            yield "D402", {}
        if wrong := _wrong_decoding(text):
            yield "D403", wrong
    for string in special:
        if string in text:
            yield "D405", {"found": string}
            break
    if found := _ROLE.search(text):
        yield "D406", {"found": found[0].strip()}


def mended(text: str) -> str:
    """The text without control, invisible and half characters."""
    return SURROGATE.sub("", INVISIBLE.sub("", CONTROL.sub("", text)))


def _wrong_decoding(text: str) -> dict[str, str] | None:
    if _LOST_IN_GBK in text:
        return {"found": _LOST_IN_GBK, "meant": _REPLACEMENT * 2}
    for found in _WRONG_DECODING.finditer(text):
        for encoding in ("cp1252", "latin-1"):
            try:
                return {"found": found[0], "meant": found[0].encode(encoding).decode("utf-8")}
            except UnicodeError:
                continue
    return None
