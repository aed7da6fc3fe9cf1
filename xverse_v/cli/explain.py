"""`xverse-v explain`: what an error code means, from the catalogue. Parses and prints."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any

import typer

from xverse_v.errors import catalogue, error, user_language

from .common import Json, show, show_json


def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="An error code or name, such as E301. None lists them all.")
    ] = None,
    json_: Json = False,
) -> None:
    """Say what an error code means and what to do about it. Words in capitals stand for what a real error names.

    \b
    Examples
      xverse-v explain E120
      xverse-v explain
      xverse-v --lang zh explain E120
    """
    entries = catalogue()
    if code is None:
        if json_:
            show_json([_document(each, entry) for each, entry in entries.items()])
        else:
            for each, entry in entries.items():
                show(f"{each}  {_worded(entry[user_language()]['fact'])}")
        return
    found = _find(code)
    if json_:
        show_json(_document(found, entries[found]))
    else:
        texts = entries[found][user_language()]
        show(f"{found} ({entries[found]['name']})")
        for part in ("fact", "cause", "next"):
            show(_worded(texts[part]))


def _worded(template: str) -> str:
    """The text with its fields as words: "after {bytes:,} bytes" -> "after BYTES bytes"."""
    return "".join(literal + (field or "").upper() for literal, field, _, _ in Formatter().parse(template))


def _document(code: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    texts = entry[user_language()]
    return {"code": code, "name": entry["name"], "exit_code": entry.get("exit_code", 1), **texts}


def _find(asked: str) -> str:
    """E301, e301, 301 or missing_tensors. Raises E805 with the nearest code or name."""
    entries = catalogue()
    names = {entry["name"]: code for code, entry in entries.items()}
    wanted = asked.strip()
    for code in (wanted.upper(), f"E{wanted}", names.get(wanted.lower(), "")):
        if code in entries:
            return code
    near = difflib.get_close_matches(wanted.upper(), entries, n=1) or difflib.get_close_matches(
        wanted.lower(), names, n=1
    )
    raise error(
        "E805",
        asked=asked,
        count=len(entries),
        suggestion=f"; did you mean {near[0]}?" if near else ".",
        suggestion_zh=f"；您是否想找 {near[0]}？" if near else "。",
    )
