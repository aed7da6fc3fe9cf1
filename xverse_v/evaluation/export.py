"""Predictions in the forms other programs read: VLMEvalKit's table (xlsx or tsv) and LLaVA's JSON lines.

The table has the rows' own columns, then `prediction`; it is also what MMBench's server takes, with every pass of a
circular question in it. Text that a spreadsheet would run as a formula is made safe: in xlsx the cell is text by type,
in tsv it gets an apostrophe in front (a plain number such as -5 is none and stays). Nothing is cut: a text that xlsx
cannot hold refuses the export. The reader to come may still turn "None" or "04" into something else; the bundle is the
record, these are copies.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Literal

from xverse_v.errors import error

from .bundle import RunFolder, safe_name
from .contract import Row
from .digests import digest, write_whole
from .predictions import unwritable

Format = Literal["xlsx", "tsv", "llava"]
FORMATS: tuple[Format, ...] = ("xlsx", "tsv", "llava")
LONGEST_CELL = 32_767  # characters; Excel's limit, which its writers apply by cutting

_FORMULA = re.compile(r"^[=+\-@\t\r]")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def export(folder: RunFolder, to: Path, form: Format) -> Path:
    """Write one run's predictions below `to` and return the file. Raises E728 (cannot hold them), E721, E718."""
    run = folder.document()
    name = f"{safe_name(run['model']['name'])}_{safe_name(run['benchmark'])}"
    path = to / f"{name}.{'jsonl' if form == 'llava' else form}"
    try:
        to.mkdir(parents=True, exist_ok=True)
        if form == "llava":
            write_whole(path, _llava(folder, run["model"]["name"]))
        elif form == "tsv":
            write_whole(path, _tsv(table(folder)))
        else:
            _xlsx(folder, table(folder), path)
    except OSError as reason:
        raise unwritable(path, reason) from reason
    return path


def table(folder: RunFolder) -> list[list[str]]:
    """Header and rows as text: index, question, options, answer, the data's other columns, prediction."""
    answered = [(row, prediction.text) for row, prediction in folder.answered()]
    letters = sorted({letter for row, _ in answered for letter in row.options})
    others = list(dict.fromkeys(name for row, _ in answered for name in row.fields))
    taken = {"index", "question", "answer", "image", "image_path", "prediction", *letters}
    others = [name for name in others if name not in taken]
    header = ["index", "question", *letters, "answer", *others, "prediction"]
    body = [
        [row.key, row.question, *(row.options.get(letter, "") for letter in letters), _answer(row)]
        + [row.fields.get(name, "") for name in others]
        + [text]
        for row, text in answered
    ]
    return [header, *body]


def _answer(row: Row) -> str:
    """As in the data file where it stands there, else one answer as it is and several as a list literal."""
    if "answer" in row.fields:
        return row.fields["answer"]
    return row.answers[0] if len(row.answers) == 1 else repr(list(row.answers)) if row.answers else ""


def escaped(text: str) -> str:
    """A cell that no spreadsheet runs: an apostrophe in front of what begins like a formula and is no number."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text.strip()) else text


def _tsv(rows: list[list[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[escaped(cell) for cell in row] for row in rows])
    return out.getvalue()


def _xlsx(folder: RunFolder, rows: list[list[str]], path: Path) -> None:
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError as reason:
        problem = 'openpyxl is missing: pip install "xverse-v[eval]"'
        problem_zh = '缺少 openpyxl：pip install "xverse-v[eval]"'
        raise error("E728", folder=folder.path, format="xlsx", problem=problem, problem_zh=problem_zh) from reason
    for row in rows[1:]:
        long = next((cell for cell in row if len(cell) > LONGEST_CELL), None)
        if long is not None:
            problem = f"row {row[0]} has a text of {len(long)} characters, a cell holds {LONGEST_CELL}"
            problem_zh = f"第 {row[0]} 行有 {len(long)} 个字符的文本，一个单元格最多 {LONGEST_CELL} 个"
            raise error("E728", folder=folder.path, format="xlsx", problem=problem, problem_zh=problem_zh)
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    for row in rows:
        cells = []
        for text in row:
            # Excel's files cannot hold these characters at all.
            cell: Any = WriteOnlyCell(sheet, value=_CONTROL.sub("\ufffd", text))
            cell.data_type = "s"  # text, whatever it begins with
            cells.append(cell)
        sheet.append(cells)
    book.save(path)


def _llava(folder: RunFolder, model: str) -> str:
    lines: list[dict[str, Any]] = []
    for row, prediction in folder.answered():
        lines.append(
            {
                "question_id": int(row.key) if row.key.isascii() and row.key.isdigit() else row.key,
                "prompt": row.question,
                "text": prediction.text,
                "answer_id": digest([row.key, prediction.text, model])[:22],
                "model_id": model,
                "metadata": {},
            }
        )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
