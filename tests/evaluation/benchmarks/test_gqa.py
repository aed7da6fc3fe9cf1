"""GQA: three shapes of file, three rules side by side."""

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from xverse_v.evaluation.benchmarks import gqa

ANSWERS = {"201": "Yes", "202": "woman", "203": "No."}


@pytest.fixture
def rows(tmp_path):
    return rows_of("GQA", made.gqa(tmp_path))


def test_all_three_rules_are_shown(rows):
    _, scores = scored("GQA", rows, ANSWERS)
    assert {name: score.value for name, score in scores.items()} == {
        gqa.EXACT: pytest.approx(100 / 3),
        gqa.OFFICIAL: pytest.approx(200 / 3),
        gqa.SUBSTRING: 100,
    }


@pytest.mark.parametrize(
    ("profile", "leads", "right"),
    [
        ("vlmevalkit", gqa.EXACT, 1),
        ("vlmevalkit-2024-04", gqa.EXACT, 1),
        ("official", gqa.OFFICIAL, 2),
        ("release", gqa.SUBSTRING, 3),
    ],
)
def test_the_profiles_own_rule_leads_and_decides_the_verdicts(rows, profile, leads, right):
    verdicts, scores = scored("GQA", rows, ANSWERS, profile)
    assert first(scores).name == leads
    assert sum(verdict.score for verdict in verdicts.values()) == right
    assert [score.note for score in scores.values()] == ["", "for comparison", "for comparison"]


def test_images_are_found_below_the_file(rows):
    assert all(row.images[0].path.is_file() for row in rows)
    assert rows[0].images == rows[1].images, "questions about one image share its reference"


@pytest.mark.parametrize("lines", [False, True])
def test_the_releases_list_and_lines(tmp_path, lines):
    rows = rows_of("GQA", made_official.release_gqa(tmp_path, lines=lines))
    assert [(row.key, row.answers) for row in rows] == [("0", ("no",)), ("1", ("man",))]
    assert rows[0].images[0].path.is_file()
    _, scores = scored("GQA", rows, {"0": "another", "1": "woman"}, "release")
    assert (scores[gqa.SUBSTRING].value, scores[gqa.EXACT].value) == (100, 0)


def test_the_table(tmp_path):
    row = {"index": 5, "image": made.base64_image(), "question": "q", "answer": "04"}
    path = made.write_tsv(tmp_path / "t.tsv", list(row), [row, {**row, "index": 6, "answer": ""}])
    (found,) = rows_of("GQA_TestDev_Balanced", path)
    assert found.answers == ("04",), "a number stays the text it is"
    assert [bad.code for bad in bad_rows_of("GQA_TestDev_Balanced", path)] == ["E735"]


def test_broken_records_are_named(tmp_path):
    value = {"1": {"question": "q", "answer": "a"}, "2": {"question": "q", "imageId": "n", "answer": " "}}
    bad = bad_rows_of("GQA", made.write_json(tmp_path / "g.json", value))
    assert [(row.key, row.code) for row in bad] == [("1", "E744"), ("2", "E735")]
    assert "image" in bad[0].reason
