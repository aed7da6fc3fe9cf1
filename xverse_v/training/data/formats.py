"""Records as people store them, to samples: LLaVA `conversations`, ShareGPT, OpenAI-style `messages`, image-text pairs.

What crosses: one decoded record in, a `Sample` out, and every departure from the format told to `report` with a finding
code of findings.toml. Which format a record has is read from its keys, or named by the user. Training and `data check`
use this one parser. It opens no file.

`<image>` marks an image only at the edges of a user's text; inside a text it is text. Images stand before the text of
their message, as in the release's prompt.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .sample import ImageRef, Sample
from .turns import SURROGATE, TURN_KEYS_OF, Report, Turn, kind_of_value, read_turns

RecordFormat = Literal["llava", "sharegpt", "messages", "jsonl-pairs"]

_CAPTIONS = ("caption", "text")
_IMAGES = ("images", "image")
_MISSPELT = ("conversations", "messages", "images", "image", "caption")
# Keys whose meaning is known, used or not: they are never a finding.
_KNOWN = {"id", "system", "conversations", "messages", "source", "model", "metadata", "meta", "width", "height"}
_KNOWN |= {*_IMAGES, *_CAPTIONS, "question_id", "data_source", "dataset", "task", "type", "category", "language", "url"}


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
        report("D110", found=kind_of_value(record))
        return None
    _check_keys(record, format, report)
    top = _top_images(record, origin, report)
    if format == "jsonl-pairs":
        turns = _pair_turns(record, len(top), origin, report)
    else:
        turns = read_turns(record, format, report)
    if turns is None:
        return None
    for turn in turns:
        if half := SURROGATE.search(turn.text):
            report("D404", turn=turn.number, character=f"U+{ord(half[0]):04X}")
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


def _parts(turn: Turn) -> list[dict[str, str]]:
    return [{"type": "image"} for _ in turn.images] + [{"type": "text", "text": turn.text}]


# Keys -----------------------------------------------------------------------------------------------------------------


def _check_keys(record: Mapping[str, Any], format: str, report: Report) -> None:
    for key in record:
        if key not in _KNOWN:
            near = difflib.get_close_matches(key, _MISSPELT, n=1, cutoff=0.75)
            if near:
                report("D111", key=key, near=near[0])
            else:
                report("D112", key=key)
    if format in TURN_KEYS_OF and not any(key in record for key in TURN_KEYS_OF[format]):
        report("D113", format=format, expected=" / ".join(TURN_KEYS_OF[format]), found=", ".join(record) or "-")


# Pairs ----------------------------------------------------------------------------------------------------------------


def _pair_turns(record: Mapping[str, Any], images: int, origin: Origin, report: Report) -> list[Turn] | None:
    key = next((key for key in _CAPTIONS if key in record), None)
    if key is None:
        report("D120", expected=" / ".join(_CAPTIONS), found=", ".join(record) or "-")
        return None
    caption = record[key]
    if not isinstance(caption, str):
        report("D204", turn=1, found=kind_of_value(caption))
        return None
    if not caption.strip():
        report("D206", turn=1)
    elif caption != caption.strip():
        report("D208", turn=1)
    if not images:
        report("D121")
    question = origin.questions[origin.line % len(origin.questions)]
    return [Turn(1, "user", question, marks=images), Turn(1, "assistant", caption)]


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
        report("D302", found=kind_of_value(given), at=key)
        return []
    found = []
    for place, item in enumerate(given, 1):
        if isinstance(item, dict):  # parquet files of image data sets
            item = item.get("bytes") or item.get("path")
        if not isinstance(item, str | bytes):
            report("D302", found=kind_of_value(item), at=f"{key}[{place - 1}]")
        elif not item:
            report("D303", at=f"{key}[{place - 1}]")
        else:
            found.append(ImageRef(item, origin.root))
    names = [image.source for image in found]
    for twice in dict.fromkeys(name for name in names if names.count(name) > 1):
        report("D304", image=ImageRef(twice).name)
    return found


def _place_images(turns: list[Turn], top: list[ImageRef], origin: Origin, report: Report) -> list[Turn]:
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


def _report_counts(marks: int, inside: int, images: int, own: int, turns: list[Turn], report: Report) -> None:
    if inside:
        turn = next(turn.number for turn in turns if turn.inside)
        report("D313" if marks == images else "D314", turn=turn, marks=marks, inside=inside, images=images)
    elif marks and not images:
        report("D310", marks=marks)
    elif images and not marks:
        report("D309" if not own else "D308", marks=marks, images=images)
    else:
        report("D308", marks=marks, images=images)
