"""From the records of a data file to rows: cells to answers and options, what makes a row unusable, what only warns.

Rows pass through one at a time. What is odd without being unusable (an option named "None", a gap in the letters) is
counted and logged once a file; what cannot be asked or scored comes out as a `BadRow` with its reason.
"""

from __future__ import annotations

import ast
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xverse_v.errors import error

from ..contract import REFUSED, BadRow, ImageRef, Prediction, Row
from ..official import Record
from ..tsv import IMAGELESS, NaPolicy, TsvRow, bad_row, columns_of, read_rows

log = logging.getLogger(__name__)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Pairs = list[tuple[Row, Prediction]]


def table_rows(
    path: Path,
    make: Callable[[TsvRow], Row | BadRow],
    *,
    na: NaPolicy,
    image_root: Path | None,
    needs: Iterable[str] = ("question",),
) -> Iterator[Row | BadRow]:
    """`make` of every record of a TSV file that could be read. Raises E734 if a column of `needs` is missing."""
    columns = columns_of(path)
    if missing := [name for name in needs if name not in columns]:
        raise error("E734", path=path, missing=", ".join(missing), columns=", ".join(columns)[:200])
    words = gaps = 0
    for record in read_rows(path, na=na, image_root=image_root):
        if isinstance(record, BadRow):
            yield record
            continue
        words += any(name in LETTERS for name in record.na_columns)
        row = make(record)
        gaps += isinstance(row, Row) and "".join(row.options) != LETTERS[: len(row.options)]
        yield row
    if gaps:
        log.warning("%s: %d row(s) have a gap in their option letters; the letters are kept as they are", path, gaps)
    if words:
        done = "left out, as VLMEvalKit's reader does" if na == "vlmevalkit" else "kept"
        log.warning("%s: %d row(s) have an option that pandas reads as missing (None, N/A ...); %s", path, words, done)


def row_of(record: TsvRow, **changes: Any) -> Row:
    """The plain row of a record: question, options of non-empty letter columns in order, everything else as fields."""
    cells = record.cells
    options = {letter: cells[letter] for letter in LETTERS if cells.get(letter, "")}
    fields = {name: text for name, text in cells.items() if name not in ("index", "question") and name not in LETTERS}
    values: dict[str, Any] = {"options": options, "fields": fields} | changes
    return Row(record.key, cells["question"], record.images, **values)


def choice_row(record: TsvRow, *, hidden: bool = False) -> Row | BadRow:
    """A multiple-choice row, whose answer must be one of its options; `hidden`: the file may have no answers.

    An answer whose own option was lost to the word for nothing stays: the row is asked and can only be wrong, as in
    the harness whose rule that is.
    """
    answer = record.cells.get("answer", "")
    if not answer and hidden:
        return row_of(record)
    row = row_of(record, answers=(answer,))
    return answer_problem(row, record.line, lost=record.na_columns) or row


def answer_problem(row: Row, line: int, *, lost: tuple[str, ...] = ()) -> BadRow | None:
    """What is wrong with the answer of a multiple-choice row: missing, or no option of it (`lost` ones forgiven)."""
    answer = row.answers[0] if row.answers else ""
    if not answer:
        return bad_row(row.key, line, "E735", line=line, key=row.key)
    if answer not in row.options and answer not in lost:
        shown = ", ".join(row.options) or "-"
        return bad_row(row.key, line, "E736", line=line, key=row.key, answer=answer[:40], letters=shown)
    return None


def listed(text: str) -> tuple[str, ...]:
    """A cell that may be a Python list literal: its members as text, else the cell itself. Nothing is evaluated."""
    if text.startswith("[") and text.endswith("]"):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return (text,)
        return tuple(str(part) for part in value)
    return (text,) if text else ()


def as_texts(value: object) -> tuple[str, ...]:
    """The members of a JSON list as text (of a dict, as VQA files have them, its `answer`); one value by itself."""
    members = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(str(member.get("answer", "") if isinstance(member, dict) else member) for member in members)


def annotators_problem(row: Row, line: int, exactly: int = 0) -> BadRow | None:
    """A row whose soft accuracy would be meaningless: no answer, a single one, or not the number that is expected."""
    if not any(row.answers):
        return bad_row(row.key, line, "E735", line=line, key=row.key)
    if len(row.answers) < 2 or (exactly and len(row.answers) != exactly):
        expected = exactly or "2 .. 10"
        return bad_row(row.key, line, "E737", line=line, key=row.key, got=len(row.answers), expected=expected)
    return None


def record_rows(records: Iterable[Record], make: Callable[[Record], Row | BadRow | None]) -> Iterator[Row | BadRow]:
    """`make` of every record of an official file (``None`` leaves it out); a key that repeats is a bad row."""
    seen: set[str] = set()
    for record in records:
        made = make(record)
        if made is None:
            continue
        if isinstance(made, Row):
            if made.key in seen:
                made = bad_row(made.key, place_of(record), "E712", line=place_of(record), key=made.key)
            seen.add(made.key)
        yield made


def place_of(record: Record) -> int:
    """The line of a record in JSON lines, else its number from 1."""
    return record.line or record.place + 1


def lacking(record: Record, *names: str) -> BadRow | None:
    """A bad row if the record lacks one of the members `names`."""
    missing = [name for name in names if record.value.get(name) is None]
    if not missing:
        return None
    key = record.key or str(record.value.get("question_id", record.value.get("index", "")))
    return bad_row(key, place_of(record), "E744", line=place_of(record), missing=", ".join(missing))


def imageless(key: str, record: Record) -> BadRow:
    return bad_row(key, place_of(record), IMAGELESS, line=place_of(record), key=key)


def named_image(path: Path) -> tuple[ImageRef, ...]:
    return (ImageRef(path=path, digest=str(path)),)


def texts(value: Mapping[str, Any], *names: str) -> dict[str, str]:
    """The members `names` that hold something, as text."""
    return {name: str(value[name]) for name in names if value.get(name) not in (None, "")}


def scorable(rows: Iterable[tuple[Row, Prediction]], benchmark: str) -> tuple[Pairs, int]:
    """The pairs that can be scored, and how many cannot: no reference answer, or a prompt that was refused.

    Raises E731 if nothing is left.
    """
    pairs, reasons = [], Counter[str]()
    for row, prediction in rows:
        if prediction.finish_reason == REFUSED:
            reasons["refused"] += 1
        elif not row.answers:
            reasons["hidden"] += 1
        else:
            pairs.append((row, prediction))
    if not pairs:
        raise error("E731", benchmark=benchmark, hidden=reasons["hidden"], refused=reasons["refused"], orphans=0)
    return pairs, sum(reasons.values())
