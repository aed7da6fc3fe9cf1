"""OCRBench: points by group, the formula rule, golds that cannot count."""

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from xverse_v.evaluation.scoring.ocrbench import CATEGORIES, QUESTIONS

NAME = "OCRBench"
ANSWERS = {"0": "The word is House.", "1": "x^2+1", "2": "Total $4.50"}


def test_points(tmp_path):
    rows = rows_of(NAME, made.ocrbench(tmp_path / "o.tsv"))
    _, scores = scored(NAME, rows, ANSWERS)
    assert first(scores).name == "Final Score"
    assert (first(scores).value, first(scores).unit) == (3, "points")
    assert "not comparable" in first(scores).note
    _, scores = scored(NAME, rows, ANSWERS | {"1": "X^2"})
    assert first(scores).value == 2
    assert scores["Text Recognition"].value == scores["Regular Text Recognition"].value == 1
    assert scores["Handwritten Mathematical Expression Recognition"].value == 0


def test_the_whole_benchmark_is_worth_a_thousand_points(tmp_path):
    group = {name: [c for c in CATEGORIES if CATEGORIES[c] == name] for name in QUESTIONS}
    rows = [
        {
            "index": f"{name}{place}",
            "question": "q",
            "answer": "['x']",
            "category": group[name][place % len(group[name])],
        }
        for name, count in QUESTIONS.items()
        for place in range(count)
    ]
    for row in rows:
        row["image"] = made.base64_image()
    path = made.write_tsv(tmp_path / "o.tsv", ["index", "question", "answer", "category", "image"], rows)
    found = rows_of(NAME, path)
    _, scores = scored(NAME, found, lambda row: "x" if row.fields["category"] != "Digit String Recognition" else "y")
    assert first(scores).value == 950
    assert first(scores).note == "of 1000"
    assert scores["Final Score / 10"].value == pytest.approx(95)
    assert scores["Text Recognition"].value == 250
    assert scores["Digit String Recognition"].value == 0
    _, again = scored(NAME, found, lambda row: "x")
    assert first(again).value == 1000, "scoring twice counts nothing twice"


def test_the_authors_file(tmp_path):
    rows = rows_of(NAME, made_official.ocrbench(tmp_path))
    assert [(row.key, row.answers) for row in rows] == [("IIIT5K-9", ("HOUSE",)), ("FUNSD-9", ("Ann", "Ann B."))]
    assert all(row.images[0].path.is_file() for row in rows)


def test_unknown_categories_and_empty_golds_are_bad_rows(tmp_path):
    base = {"question": "q", "image": made.base64_image(), "category": "Doc-oriented VQA"}
    rows = [base | {"index": 1, "answer": "['']"}, base | {"index": 2, "answer": ""}]
    rows.append(base | {"index": 3, "answer": "x", "category": "doc-oriented VQA"})
    rows.append(base | {"index": 4, "answer": "[unquoted]"})
    path = made.write_tsv(tmp_path / "o.tsv", ["index", *base, "answer"], rows)
    assert [bad.code for bad in bad_rows_of(NAME, path)] == ["E735", "E735", "E738"]
    assert rows_of(NAME, path)[0].answers == ("[unquoted]",), "no list literal, so a text"
