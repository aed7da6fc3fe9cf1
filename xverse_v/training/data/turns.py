"""The turns of a record: who says what, in which order, and where images are asked for.

What crosses: a decoded record in, a list of `Turn`s out; every departure is told to `report` with a finding code. Used
by formats.py alone, which gives the turns their images.

`<image>` marks an image only at the edges of a user's text; inside a text it is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .sample import ImageRef

Report = Callable[..., None]  # report("D303", turn=2, ...)

MARK = "<image>"
TURN_KEYS_OF = {"llava": ("conversations",), "sharegpt": ("conversations", "messages"), "messages": ("messages",)}

# Half of a UTF-16 pair: JSON can write it, but no UTF-8 text and no tokenizer can hold it.
SURROGATE = re.compile(r"[\ud800-\udfff]")

_EDGE = re.compile(r"^(?:\s*<image>)+\s*|\s*(?:<image>\s*)+$")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_TURN_KEYS = {"from", "value", "role", "content", "name", "id", "weight", "loss"}
_IMAGE_PARTS = {"image", "image_url", "input_image"}
_TEXT_PARTS = {"text", "input_text", "output_text"}


@dataclass
class Turn:
    """One turn. Its images are given to it by formats.py."""

    number: int  # from 1, as the file has them
    role: str
    text: str
    marks: int = 0  # images the turn asks for at its edges, or as bare image parts
    inside: int = 0  # marks inside its text
    images: tuple[ImageRef, ...] = ()


def kind_of_value(value: Any) -> str:
    """The JSON name of a value's type."""
    return {"NoneType": "null", "str": "string", "dict": "object", "list": "list"}.get(type(value).__name__) or "number"


def read_turns(record: Mapping[str, Any], format: str, report: Report) -> list[Turn] | None:
    raw = next((record[key] for key in TURN_KEYS_OF[format] if key in record), None)
    if raw is None:
        return None  # D113 was reported
    if not isinstance(raw, list):
        report("D114", found=kind_of_value(raw))
        return None
    turns = [turn for number, item in enumerate(raw, 1) if (turn := _turn(item, number, report))]
    if isinstance(record.get("system"), str) and record["system"]:
        turns.insert(0, Turn(0, "system", record["system"]))
    if not raw:
        report("D115")
        return None
    _check_order(turns, len(turns) < len(raw), report)
    return turns


def _turn(item: Any, number: int, report: Report) -> Turn | None:
    if not isinstance(item, dict):
        report("D116", turn=number, found=kind_of_value(item))
        return None
    for key in item:
        if key not in _TURN_KEYS:
            report("D117", turn=number, key=key)
    role = item.get("from", item.get("role"))
    if role is None:
        report("D201", turn=number)
        return None
    if role not in _ROLES:
        report("D202", turn=number, role=str(role), known=", ".join(_ROLES))
        return None
    if "value" not in item and "content" not in item:
        report("D203", turn=number)
        return None
    return _content(item.get("value", item.get("content")), number, _ROLES[role], report)


def _content(content: Any, number: int, role: str, report: Report) -> Turn | None:
    turn = Turn(number, role, "")
    if isinstance(content, str):
        turn.text = content
        if role == "user":
            _take_marks(turn)
        elif MARK in content:
            report("D311", turn=number, role=role)
    elif isinstance(content, list):
        _take_parts(turn, content, report)
    else:
        report("D204", turn=number, found=kind_of_value(content))
        return None
    if not turn.text.strip() and not (role == "user" and (turn.marks or turn.images)):
        report({"user": "D205", "assistant": "D206", "system": "D207"}[role], turn=number)
    elif role == "assistant" and turn.text != turn.text.strip():
        report("D208", turn=number)
    return turn


def _take_marks(turn: Turn) -> None:
    """Moves marks from the edges of the text into `marks`."""
    while found := _EDGE.search(turn.text):
        turn.marks += found[0].count(MARK)
        turn.text = turn.text[: found.start()] + turn.text[found.end() :]
    turn.inside = turn.text.count(MARK)


def _take_parts(turn: Turn, content: list[Any], report: Report) -> None:
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in _IMAGE_PARTS and turn.role != "user":
            report("D312", turn=turn.number, role=turn.role)
        elif kind in _IMAGE_PARTS:
            _take_image_part(turn, part, report)
        else:
            report("D209", turn=turn.number, found=str(kind) if kind else kind_of_value(part))
    turn.text = "\n".join(texts)


def _take_image_part(turn: Turn, part: Mapping[str, Any], report: Report) -> None:
    given = next((part[key] for key in ("image_url", "image", "url", "path") if part.get(key) is not None), None)
    if isinstance(given, dict):
        given = given.get("url")
    if given is None:
        turn.marks += 1  # the next of the record's own list
    elif isinstance(given, str | bytes):
        turn.images += (ImageRef(given),)
    else:
        report("D302", found=kind_of_value(given), at=f"turn {turn.number}")


def _check_order(turns: list[Turn], incomplete: bool, report: Report) -> None:
    """A system message first if at all, then user and assistant in turn, an answer last."""
    if incomplete:
        return  # what is missing was reported; the order of the rest says nothing
    expected = "user"
    for index, turn in enumerate(turns):
        if turn.role == "system":
            if index:
                report("D210", turn=turn.number)
                return
        elif turn.role != expected:
            report("D211", turn=turn.number, found=turn.role, expected=expected)
            return
        else:
            expected = "assistant" if expected == "user" else "user"
    if expected == "assistant" or all(turn.role == "system" for turn in turns):
        report("D212", turn=turns[-1].number if turns else 0)
