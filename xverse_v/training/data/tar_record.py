"""The members of one tar sample as a record that formats.py can parse.

What crosses: (member, content) pairs in, a mapping with `image` bytes and a caption, or a whole conversation, out. A
member's field (what follows the first dot of its name) is WebDataset's way to say what it is: `txt` and `json` hold
text, anything whose content is an image is one. The sample's key is its id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .tar import Member
from .turns import Report, kind_of_value

_TEXT = ("txt", "caption", "text")
_IMAGE = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "img", "image")


def tar_record(members: Sequence[tuple[Member, bytes]], report: Report) -> dict[str, Any] | None:
    """{"id", "image" or "images", "caption" or what the json member says}; None after an error was reported."""
    images, text, meta = [], None, None
    for member, content in members:
        field = member.field.rsplit(".", 1)[-1]
        if field in _TEXT:
            text = content
        elif field == "json":
            meta = content
        elif field in _IMAGE:
            images.append(content)
        else:
            report("D704", member=member.name)
    record: dict[str, Any] = {}
    try:
        if meta is not None:
            value = json.loads(meta)
            if not isinstance(value, dict):
                report("D110", found=kind_of_value(value))
                return None
            record = value
        if text is not None:
            record["caption"] = text.decode("utf-8").strip()
    except UnicodeDecodeError as reason:
        report("D102", byte=hex(reason.object[reason.start]), at=reason.start)
        return None
    except ValueError as reason:
        report("D101", reason=str(reason))
        return None
    if text is None and not any(key in record for key in ("caption", "text", "conversations", "messages")):
        report("D701", members=", ".join(member.name for member, _ in members))
        return None
    return _with_images(record, images, members[0][0].key, report)


def _with_images(record: dict[str, Any], images: list[bytes], key: str, report: Report) -> dict[str, Any]:
    conversation = "conversations" in record or "messages" in record
    # What a json member says of image files belongs to where the tar was made; the bytes here are the images.
    kept: dict[str, Any] = {name: record[name] for name in ("conversations", "messages", "system") if name in record}
    if not conversation:
        kept["caption"] = record.get("caption", record.get("text"))
        if len(images) > 1:
            report("D703", count=len(images))
    return {"id": key, **kept, "image": images}
