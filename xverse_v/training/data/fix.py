"""`data check --fix`: a clean copy, and a list of everything it changed.

What crosses: a JSON or JSON-lines file in, a file of the same container with the rows that can be trained on, and
`OUT.changes.jsonl` with one line for each change: mended in place, or left out and why. Mended is only what has one
reading (findings.toml, fix_en); any other error costs the row. Both files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from xverse_v.errors import error

from .check import CheckedRow, CheckReport, CheckSettings, RowChecker, check
from .check_text import mended
from .findings import finding_texts
from .formats import RecordFormat
from .repeats import Repeats
from .sources import kind_of
from .turns import MARK

_ROUNDS = 4  # mending one thing can bring another to light
_REMOVED, _CHANGED = "removed", "changed"


@dataclass
class FixReport:
    """What a fix did. `kept` rows are in the copy; `changed` counts mends by code, `removed` lost rows by code."""

    check: CheckReport
    out: Path
    changes: Path
    image_root: Path
    kept: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        def named(counts: Counter[str]) -> dict[str, int]:
            return {finding_texts()[code]["name"]: n for code, n in sorted(counts.items())}

        return {
            "out": str(self.out),
            "changes": str(self.changes),
            "image_root": str(self.image_root),
            "kept": self.kept,
            "changed": named(self.changed),
            "removed": named(self.removed),
        }


def fix(path: Path, out: Path, settings: CheckSettings, progress: Callable[[int], None] | None = None) -> FixReport:
    """Writes the clean copy. Raises E218 for a tar, parquet or several files, E219 if `out` exists, and what check
    raises."""
    kind = kind_of(path) if path.is_file() else None
    if kind not in ("array", "lines"):
        raise error("E218", path=path, kind=kind or "a folder or pattern")
    changes = out.with_name(out.name + ".changes.jsonl")
    for there in (out, changes):
        if there.exists():
            other = out.with_name(f"{out.stem}-2{out.suffix}")
            raise error("E219", path=there, other=other)
    report = FixReport(CheckReport(), out, changes, settings.image_root or path.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fix-") as folder:
        work = Path(folder)
        with (work / "rows").open("w", encoding="utf-8") as rows, (work / "changes").open("w", encoding="utf-8") as log:
            fixer = _Fixer(report, rows, log)
            report.check = check([path], settings, progress=progress, visit=fixer.visit)
            repeated = fixer.repeated()
        with (work / "changes").open("a", encoding="utf-8") as log:
            _write_copy(work, kind == "array", repeated, report, log)
        os.replace(work / "copy", out)
        os.replace(work / "changes", changes)
    return report


class _Fixer:
    def __init__(self, report: FixReport, rows: IO[str], log: IO[str]) -> None:
        self._report, self._rows, self._log = report, rows, log
        self._contents = Repeats()

    def visit(self, row: CheckedRow, format: RecordFormat | None, checker: RowChecker) -> None:
        """Mends a row as far as it can be, and keeps it if nothing wrong is left."""
        for finding in row.findings:
            if not row.raw.counts:
                self._note(row, finding.code, _CHANGED)  # a blank line, a byte-order mark, an open array
        if not row.raw.counts:
            return
        start = row
        for _ in range(_ROUNDS):
            codes = [f.code for f in row.findings if "fix_en" in finding_texts()[f.code]]
            if row.raw.value is None or not codes:
                break
            value = deepcopy(row.raw.value)
            done = [code for code in dict.fromkeys(codes) if code in _MENDS and _MENDS[code](value, row)]
            if not done:
                break
            for code in done:
                self._note(row, code, _CHANGED)
            row = checker.check(replace(row.raw, value=value, problems=()), format)
        first = next((f for f in row.findings if f.severity == "error"), None) or _unmendable(start)
        if first is not None:
            self._note(start, first.code, _REMOVED, first.text("en"))
            return
        assert row.content is not None
        self._contents.add(row.content, row.raw.origin.line)
        self._rows.write(f"{row.raw.origin.line}\t{json.dumps(row.raw.value, ensure_ascii=False)}\n")

    def repeated(self) -> dict[int, int]:
        """Lines that repeat an earlier one that is kept."""
        found = dict(self._contents.found())
        self._contents.close()
        return found

    def _note(self, row: CheckedRow, code: str, action: str, why: str = "") -> None:
        if "fix_en" not in finding_texts()[code] and action == _CHANGED:
            return
        (self._report.removed if action == _REMOVED else self._report.changed)[code] += 1
        _log(self._log, row.raw.origin.line, row.sample.id if row.sample else "", code, action, why)


def _unmendable(row: CheckedRow) -> Any:
    """An error of reading that a second look at the value cannot see."""
    return next((f for f in row.findings if f.code == "D108"), None)


def _log(log: IO[str], line: int, identity: str, code: str, action: str, why: str = "") -> None:
    texts = finding_texts()[code]
    what = why if action == _REMOVED else texts["fix_en"]
    entry = {"line": line, "id": identity, "code": code, "name": texts["name"], "action": action, "what": what}
    log.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _write_copy(work: Path, array: bool, repeated: dict[int, int], report: FixReport, log: IO[str]) -> None:
    with (work / "rows").open(encoding="utf-8") as rows, (work / "copy").open("w", encoding="utf-8") as copy:
        copy.write("[\n" if array else "")
        for text in rows:
            line, _, value = text.rstrip("\n").partition("\t")
            if int(line) in repeated:
                report.removed["D601"] += 1
                _log(log, int(line), "", "D601", _REMOVED, f"same text and images as line {repeated[int(line)]}")
                continue
            copy.write((",\n" if array and report.kept else "") + value + ("" if array else "\n"))
            report.kept += 1
        copy.write("\n]\n" if array else "")
        copy.flush()
        os.fsync(copy.fileno())


# Mends: each changes `value` in place and says whether it did
# ----------------------------------------------------------


def _turns(value: dict[str, Any]) -> list[dict[str, Any]]:
    turns = value.get("conversations", value.get("messages"))
    return [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []


def _text_key(turn: dict[str, Any]) -> str:
    return "value" if "value" in turn else "content"


def _each_text(value: dict[str, Any], change: Callable[[str], str], answers_only: bool = False) -> bool:
    """Applies `change` to every text of the record; true if one became another."""
    changed = False
    for turn in _turns(value):
        if answers_only and turn.get("from", turn.get("role")) not in ("gpt", "assistant"):
            continue
        places: list[tuple[dict[str, Any], str]] = [(turn, _text_key(turn))]
        if isinstance(turn.get("content"), list):
            places = [(part, "text") for part in turn["content"] if isinstance(part, dict)]
        for holder, key in places:
            if isinstance(text := holder.get(key), str) and (new := change(text)) != text:
                holder[key], changed = new, True
    for key in () if _turns(value) else ("caption", "text"):
        if isinstance(text := value.get(key), str) and (new := change(text)) != text:
            value[key], changed = new, True
    return changed


def _rename_key(value: dict[str, Any], row: CheckedRow) -> bool:
    done = False
    for finding in row.findings:
        wrong, right = finding.facts.get("key"), finding.facts.get("near")
        if finding.code == "D111" and wrong in value and right not in value:
            value[str(right)] = value.pop(str(wrong))
            done = True
    return done


def _image_list(value: dict[str, Any], row: CheckedRow) -> bool:
    value["images"] = [value["images"]]
    return True


def _drop_empty_image(value: dict[str, Any], row: CheckedRow) -> bool:
    if any(MARK in json.dumps(turn, ensure_ascii=False) for turn in _turns(value)):
        return False
    key = "images" if value.get("images") is not None else "image"
    given = value[key]
    left = [item for item in given if item] if isinstance(given, list) else []
    if left:
        value[key] = left
    else:
        del value[key]
    return True


def _drop_unanswered(value: dict[str, Any], row: CheckedRow) -> bool:
    turns = value.get("conversations", value.get("messages"))
    if not isinstance(turns, list) or len(turns) < 3:
        return False
    text = turns[-1].get(_text_key(turns[-1]))
    if not isinstance(text, str) or MARK in text:
        return False  # its image would be left over
    turns.pop()
    return True


def _first_mark(value: dict[str, Any], row: CheckedRow) -> bool:
    question = next((t for t in _turns(value) if t.get("from", t.get("role")) in ("human", "user")), None)
    if question is None or not isinstance(question.get(_text_key(question)), str) or row.sample is None:
        return False
    count = next(f.facts["images"] for f in row.findings if f.code == "D309")
    question[_text_key(question)] = f"{MARK}\n" * count + question[_text_key(question)]
    return True


def _marks_to_front(value: dict[str, Any], row: CheckedRow) -> bool:
    facts = next(f.facts for f in row.findings if f.code == "D314")
    if facts["marks"] + facts["inside"] != facts["images"]:
        return False

    def moved(text: str) -> str:
        count = text.count(MARK)
        words = " ".join(piece.strip() for piece in text.split(MARK) if piece.strip())
        return f"{MARK}\n" * count + words if count else text

    for turn in _turns(value):
        if turn.get("from", turn.get("role")) in ("human", "user") and isinstance(turn.get(_text_key(turn)), str):
            turn[_text_key(turn)] = moved(turn[_text_key(turn)])
    return True


def _each_path(value: dict[str, Any], change: Callable[[str], str]) -> bool:
    changed = False
    for key in ("images", "image"):
        given = value.get(key)
        if isinstance(given, str):
            value[key] = change(given)
            changed |= value[key] != given
        elif isinstance(given, list):
            value[key] = [change(item) if isinstance(item, str) else item for item in given]
            changed |= value[key] != given
    return changed


def _relative(value: dict[str, Any], row: CheckedRow) -> bool:
    root = row.raw.origin.root
    if root is None:
        return False
    whole = root.resolve()

    def change(path: str) -> str:
        inside = os.path.isabs(path) and Path(path).resolve().is_relative_to(whole)
        return Path(path).resolve().relative_to(whole).as_posix() if inside else path

    return _each_path(value, change)


_MENDS: dict[str, Callable[[dict[str, Any], CheckedRow], bool]] = {
    "D111": _rename_key,
    "D208": lambda value, row: _each_text(value, str.strip, answers_only=True),
    "D212": _drop_unanswered,
    "D301": _image_list,
    "D303": _drop_empty_image,
    "D309": _first_mark,
    "D314": _marks_to_front,
    "D321": lambda value, row: _each_path(value, lambda path: path.replace("\\", "/")),
    "D323": _relative,
    "D401": lambda value, row: _each_text(value, mended),
    "D404": lambda value, row: _each_text(value, mended),
    "D407": lambda value, row: _each_text(value, mended),
}
