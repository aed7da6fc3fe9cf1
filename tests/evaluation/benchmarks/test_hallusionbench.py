"""HallusionBench: three accuracies, the judge's five tries, and rows without image."""

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.evaluation.tsv import IMAGELESS

NAME = "HallusionBench"


@pytest.fixture
def path(tmp_path):
    return made.hallusion(tmp_path / "file.tsv")


def test_one_wrong_of_two_figures_by_two_questions(path):
    rows = rows_of(NAME, path)
    wrong = rows[-1].key
    _, scores = scored(NAME, rows, lambda row: "Yes" if row.key == wrong else f"{row.answers[0]}, it is.")
    assert scores["aAcc"].value == 75
    assert scores["fAcc"].value == 50
    assert scores["qAcc"].value == 50
    assert first(scores).name == "Overall"
    assert first(scores).value == pytest.approx(175 / 3)
    assert scores["VS: aAcc"].value == scores["chart: aAcc"].value == 75


def test_a_question_counts_over_all_figures_of_its_set(path):
    rows = rows_of(NAME, path)
    # Question 0 is wrong on both figures: one pair is lost, and both figures.
    _, scores = scored(NAME, rows, lambda row: row.answers[0] if row.key.endswith("_1") else "maybe")
    assert (scores["aAcc"].value, scores["fAcc"].value, scores["qAcc"].value) == (50, 0, 50)
    assert scores["aAcc"].unmatched == 2


def test_rows_without_image_are_left_out_by_rule(path):
    assert len(rows_of(NAME, path)) == 4
    assert [bad.code for bad in bad_rows_of(NAME, path)] == [IMAGELESS]


def test_the_passes_of_a_set_stay_together(path):
    assert {row.group for row in rows_of(NAME, path)} == {"chart_2"}


def test_a_judge_is_asked_about_the_unknown_with_rising_temperature(path):
    rows = rows_of(NAME, path)
    judge = StubJudge(lambda asked: "Yes" if asked.attempt == 2 else "hard to say")
    verdicts, scores = scored(NAME, rows, lambda row: "Y" if row.key == rows[0].key else row.answers[0], judge=judge)
    assert [asked.temperature for asked in judge.asked] == [0.0, 0.5, 1.0]
    assert verdicts[rows[0].key].read == "Yes"
    assert first(scores).judge == "stub"
    assert judge.asked[0].prompt.endswith("Question: Is block 0 red??\nAnswer: Y\nYour output: ")


def test_five_tries_and_then_it_stays_unknown(path):
    rows = rows_of(NAME, path)
    judge = StubJudge("Unknown")
    verdicts, scores = scored(NAME, rows, lambda row: "Y" if row.key == rows[0].key else row.answers[0], judge=judge)
    assert [asked.temperature for asked in judge.asked] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert (verdicts[rows[0].key].score, verdicts[rows[0].key].matched) == (0, False)
    assert scores["aAcc"].unmatched == 1


def test_the_authors_file(tmp_path):
    path = made_official.hallusion(tmp_path)
    (row,) = rows_of(NAME, path)
    assert row.key == "VS_chart_1_2_1_0"
    assert row.answers == ("No",)
    assert row.fields["l2-category"] == "chart"
    assert row.images[0].path.is_file()
    assert [bad.code for bad in bad_rows_of(NAME, path)] == [IMAGELESS]


def test_an_index_without_six_pieces_and_an_answer_beside_yes_and_no(tmp_path):
    base = {"question": "q", "image": made.base64_image(), "answer": "Yes", "category": "VS", "l2-category": "chart"}
    rows = [base | {"index": "VS_chart_1"}, base | {"index": "VS_chart_1_2_1_0", "answer": "1"}]
    rows.append(base | {"index": "VS_chart_1_2_1_1", "answer": ""})
    path = made.write_tsv(tmp_path / "b.tsv", ["index", *base], rows)
    assert [bad.code for bad in bad_rows_of(NAME, path)] == ["E739", "E736", "E735"]
