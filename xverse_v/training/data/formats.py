"""Records as people store them, to samples: LLaVA `conversations`, ShareGPT, OpenAI-style `messages`, image-text pairs.

What crosses: one decoded record in, a `Sample` out, and every departure from the format told to `report` with a finding
code of findings.toml. Which format a record has is read from its keys, or named by the user. Training and `data check`
use this one parser. It opens no file.

`<image>` marks an image only at the edges of a user's text; inside a text it is text. Images stand before the text of
their message, as in the release's prompt.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .sample import ImageRef, Sample

RecordFormat = Literal["llava", "sharegpt", "messages", "jsonl-pairs"]
Report = Callable[..., None]  # report("D303", turn=2, ...)

MARK = "<image>"
_EDGE = re.compile(r"^(?:\s*<image>)+\s*|\s*(?:<image>\s*)+$")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_TURNS = {"llava": ("conversations",), "sharegpt": ("conversations", "messages"), "messages": ("messages",)}
_CAPTIONS = ("caption", "text")
_IMAGES = ("images", "image")
# Keys whose meaning is known, used or not: they are never a finding.
_KNOWN = {"id", "system", "conversations", "messages", "source", "model", "metadata", "meta", "width", "height"}
_KNOWN |= {*_IMAGES, *_CAPTIONS, "question_id", "data_source", "dataset", "task", "type", "category", "language", "url"}
_TURN_KEYS = {"from", "value", "role", "content", "name", "id", "weight", "loss"}
_IMAGE_PARTS = {"image", "image_url", "input_image"}
_TEXT_PARTS = {"text", "input_text", "output_text"}


@dataclass(frozen=True)
class Origin:
    """Where a record comes from: its file's name, its line, and where its image paths start."""

    source: str
    line: int
    root: Path | None = None
    where: str = ""
    questions: tuple[str, ...] = ("",)  # for image-text pairs


def detect(record: Any) -> RecordFormat | None:
    """The format of a record, from its keys."""
    if not isinstance(record, dict):
        return None
    if "conversations" in record:
        return "sharegpt" if "images" in record else "llava"
    if "messages" in record:
        contents = [turn.get("content") for turn in record["messages"] or () if isinstance(turn, dict)]
        return "sharegpt" if "images" in record and all(isinstance(c, str) for c in contents) else "messages"
    has_image = any(key in record for key in _IMAGES)
    return "jsonl-pairs" if has_image and any(key in record for key in _CAPTIONS) else None


def parse(record: Any, format: RecordFormat, origin: Origin, report: Report) -> Sample | None:
    """The sample, or None if there is too little to build one; `report` has then heard an error."""
    if not isinstance(record, dict):
        report("D110", found=_kind(record))
        return None
    _check_keys(record, format, report)
    top = _top_images(record, origin, report)
    if format == "jsonl-pairs":
        turns = _pair_turns(record, len(top), origin, report)
    else:
        turns = _turns(record, format, report)
    if turns is None:
        return None
    placed = _place_images(turns, top, origin, report)
    messages = tuple({"role": turn.role, "content": _parts(turn)} for turn in placed)
    identity = record.get("id")
    return Sample(
        id=str(identity) if identity not in (None, "") else f"{origin.source}:{origin.line}",
        messages=messages,
        images=tuple(image for turn in placed for image in turn.images),
        source=origin.source,
        line=origin.line,
        where=origin.where,
    )


@dataclass
class _Turn:
    number: int  # from 1, as the file has them
    role: str
    text: str
    marks: int = 0  # images the turn asks for at its edges, or as bare image parts
    inside: int = 0  # marks inside its text
    images: tuple[ImageRef, ...] = ()


def _parts(turn: _Turn) -> list[dict[str, str]]:
    return [{"type": "image"} for _ in turn.images] + [{"type": "text", "text": turn.text}]


# Keys -----------------------------------------------------------------------------------------------------------------


def _check_keys(record: Mapping[str, Any], format: str, report: Report) -> None:
    for key in record:
        if key not in _KNOWN:
            near = difflib.get_close_matches(key, ("conversations", "messages", "images", "image", "caption"), n=1, cutoff=0.75)
            if near:
                report("D111", key=key, near=near[0])
            else:
                report("D112", key=key)
    if format in _TURNS and not any(key in record for key in _TURNS[format]):
        report("D113", format=format, expected=" / ".join(_TURNS[format]), found=", ".join(record) or "-")


def _kind(value: Any) -> str:
    return {"NoneType": "null", "str": "string", "dict": "object", "list": "list"}.get(type(value).__name__) or "number"


# Turns ----------------------------------------------------------------------------------------------------------------


def _turns(record: Mapping[str, Any], format: str, report: Report) -> list[_Turn] | None:
    raw = next((record[key] for key in _TURNS[format] if key in record), None)
    if raw is None:
        return None  # D113 was reported
    if not isinstance(raw, list):
        report("D114", found=_kind(raw))
        return None
    turns = [turn for number, item in enumerate(raw, 1) if (turn := _turn(item, number, report))]
    if isinstance(record.get("system"), str) and record["system"]:
        turns.insert(0, _Turn(0, "system", record["system"]))
    if not raw:
        report("D115")
        return None
    _check_order(turns, len(turns) < len(raw), report)
    return turns


def _turn(item: Any, number: int, report: Report) -> _Turn | None:
    if not isinstance(item, dict):
        report("D116", turn=number, found=_kind(item))
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


def _content(content: Any, number: int, role: str, report: Report) -> _Turn | None:
    turn = _Turn(number, role, "")
    if isinstance(content, str):
        turn.text = content
        if role == "user":
            _take_marks(turn)
        elif MARK in content:
            report("D311", turn=number, role=role)
    elif isinstance(content, list):
        _take_parts(turn, content, report)
    else:
        report("D204", turn=number, found=_kind(content))
        return None
    if not turn.text.strip() and not (role == "user" and (turn.marks or turn.images)):
        report({"user": "D205", "assistant": "D206", "system": "D207"}[role], turn=number)
    elif role == "assistant" and turn.text != turn.text.strip():
        report("D208", turn=number)
    return turn


def _take_marks(turn: _Turn) -> None:
    """Moves marks from the edges of the text into `marks`."""
    while found := _EDGE.search(turn.text):
        turn.marks += found[0].count(MARK)
        turn.text = turn.text[: found.start()] + turn.text[found.end() :]
    turn.inside = turn.text.count(MARK)


def _take_parts(turn: _Turn, content: list[Any], report: Report) -> None:
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
            report("D209", turn=turn.number, found=str(kind) if kind else _kind(part))
    turn.text = "\n".join(texts)


def _take_image_part(turn: _Turn, part: Mapping[str, Any], report: Report) -> None:
    given = next((part[key] for key in ("image_url", "image", "url", "path") if part.get(key) is not None), None)
    if isinstance(given, dict):
        given = given.get("url")
    if given is None:
        turn.marks += 1  # the next of the record's own list
    elif isinstance(given, str | bytes):
        turn.images += (ImageRef(given),)
    else:
        report("D302", found=_kind(given), at=f"turn {turn.number}")


def _check_order(turns: list[_Turn], incomplete: bool, report: Report) -> None:
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


# Pairs ----------------------------------------------------------------------------------------------------------------


def _pair_turns(record: Mapping[str, Any], images: int, origin: Origin, report: Report) -> list[_Turn] | None:
    key = next((key for key in _CAPTIONS if key in record), None)
    if key is None:
        report("D120", expected=" / ".join(_CAPTIONS), found=", ".join(record) or "-")
        return None
    caption = record[key]
    if not isinstance(caption, str):
        report("D204", turn=1, found=_kind(caption))
        return None
    if not caption.strip():
        report("D206", turn=1)
    elif caption != caption.strip():
        report("D208", turn=1)
    if not images:
        report("D121")
    question = origin.questions[origin.line % len(origin.questions)]
    return [_Turn(1, "user", question, marks=images), _Turn(1, "assistant", caption)]


# Images ---------------------------------------------------------------------------------------------------------------


def _top_images(record: Mapping[str, Any], origin: Origin, report: Report) -> list[ImageRef]:
    key = next((key for key in _IMAGES if record.get(key) is not None), None)
    if key is None:
        return []
    given = record[key]
    if isinstance(given, str) and key == "images":
        report("D301", given=given[:80])
    if isinstance(given, str | bytes | dict):
        given = [given]
    if not isinstance(given, list):
        report("D302", found=_kind(given), at=key)
        return []
    found = []
    for place, item in enumerate(given, 1):
        if isinstance(item, dict):  # parquet files of image data sets
            item = item.get("bytes") or item.get("path")
        if not isinstance(item, str | bytes):
            report("D302", found=_kind(item), at=f"{key}[{place - 1}]")
        elif not item:
            report("D303", at=f"{key}[{place - 1}]")
        else:
            found.append(ImageRef(item, origin.root))
    names = [image.source for image in found]
    for twice in dict.fromkeys(name for name in names if names.count(name) > 1):
        report("D304", image=ImageRef(twice).name)
    return found


def _place_images(turns: list[_Turn], top: list[ImageRef], origin: Origin, report: Report) -> list[_Turn]:
    """Gives the record's images to the turns that ask for them, in order."""
    marks, inside = sum(turn.marks for turn in turns), sum(turn.inside for turn in turns)
    own = sum(len(turn.images) for turn in turns)
    if marks != len(top) or inside:
        _report_counts(marks, inside, len(top), own, turns, report)
    left = list(top)
    for turn in turns:
        mine = tuple(ImageRef(image.source, origin.root) for image in turn.images)
        turn.images = mine + tuple(left[: turn.marks])
        del left[: turn.marks]
    return turns


def _report_counts(marks: int, inside: int, images: int, own: int, turns: list[_Turn], report: Report) -> None:
    if inside:
        turn = next(turn.number for turn in turns if turn.inside)
        report("D313" if marks == images else "D314", turn=turn, marks=marks, inside=inside, images=images)
    elif marks and not images:
        report("D310", marks=marks)
    elif images and not marks:
        report("D309" if not own else "D308", marks=marks, images=images)
    else:
        report("D308", marks=marks, images=images)
