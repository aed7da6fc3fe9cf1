"""Files of a run for other programs: every text whole, and none of them a formula."""

import csv
import json

import openpyxl
import pytest

from tests.evaluation.finished import made
from xverse_v.errors import XverseError
from xverse_v.evaluation.export import escaped, export

FORMULAS = {1: "=HYPERLINK(1)", 2: "+cmd|' /C calc'!A0", 4: "@SUM(1)", 5: "-5", 6: "-2+3", 7: "None", 8: "04"}


def test_formulas_are_made_safe_and_numbers_stay():
    assert [escaped(text) for text in ("=1", "+a", "-b", "@c", "\tx", "a=b", "", "-5", "+3.5e2", "-")] == [
        "'=1",
        "'+a",
        "'-b",
        "'@c",
        "'\tx",
        "a=b",
        "",
        "-5",
        "+3.5e2",
        "'-",
    ]


def test_the_tsv_holds_the_rows_and_safe_predictions(tmp_path):
    path = export(made(tmp_path, said=FORMULAS), tmp_path / "out", "tsv")
    assert path.name == "scripted_cards.tsv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["index", "question", "A", "B", "C", "answer", "category", "prediction"]
    assert [rows[n]["prediction"] for n in FORMULAS] == [
        "'=HYPERLINK(1)",
        "'+cmd|' /C calc'!A0",
        "'@SUM(1)",
        "-5",
        "'-2+3",
        "None",
        "04",
    ]


def test_the_xlsx_holds_every_text_unchanged_and_none_as_a_formula(tmp_path):
    path = export(made(tmp_path, said=FORMULAS), tmp_path / "out", "xlsx")
    sheet = openpyxl.load_workbook(path).active
    cells = {row[0].value: row[-1] for row in sheet.iter_rows(min_row=2)}
    assert {key: cells[str(key)].value for key in FORMULAS} == FORMULAS
    assert {cell.data_type for cell in cells.values()} == {"s"}


def test_a_text_too_long_for_xlsx_is_refused_and_whole_elsewhere(tmp_path):
    folder = made(tmp_path, said={3: "x" * 40_000})
    with pytest.raises(XverseError, match="E728") as caught:
        export(folder, tmp_path / "out", "xlsx")
    assert "row 3" in str(caught.value)
    assert "40000" in str(caught.value)
    assert "x" * 40_000 in export(folder, tmp_path / "out", "tsv").read_text()


def test_llavas_lines(tmp_path):
    path = export(made(tmp_path), tmp_path / "out", "llava")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[3]["question_id"] == 3
    assert (lines[3]["prompt"], lines[3]["text"], lines[3]["model_id"]) == ("Question 3?", "A", "scripted")
    assert len({line["answer_id"] for line in lines}) == 10


def test_predictions_come_back_as_they_were(tmp_path):
    odd = {1: "None", 2: "04", 3: "3", 4: "x" * 40_000, 5: "two\nlines\tand \u2028 more", 6: "", 7: "\ud83d\ude00"}
    folder = made(tmp_path, said=odd)
    texts = {row.key: prediction.text for row, prediction in folder.answered()}
    assert {key: texts[str(key)] for key in odd} == odd
