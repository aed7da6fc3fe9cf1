"""MathVista end to end: what the judge is asked, what counts without one, and the two sets of rules."""

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.evaluation.benchmarks import mathvista

NAME = "MathVista_MINI"
RIGHT = {"1": "8", "2": "0", "3": "1.5", "4": "[1, 2]", "5": "B"}


@pytest.fixture
def rows(tmp_path):
    return rows_of(NAME, made.mathvista(tmp_path / "file.tsv"))


def extracting(asked):
    """A judge that gives back the last word of the response."""
    text = asked.prompt.partition("Model respone: ")[2].removesuffix("Extracted answer:")
    return text.split()[-1] if text.split() else "nothing"


def test_a_judge_sees_only_what_could_not_be_read(rows):
    judge = StubJudge(extracting)
    answers = RIGHT | {"1": "It is 8", "3": "1.5"}
    verdicts, scores = scored(NAME, rows, answers, judge=judge)
    assert len(judge.asked) == 3, "the sentence, the nought and the list"
    assert {(asked.temperature, asked.max_tokens) for asked in judge.asked} == {(0.0, 128)}
    assert (verdicts["1"].score, verdicts["1"].read) == (1, "8")
    assert verdicts["2"].score == 1, "right after the detour"
    assert verdicts["4"].score == 0, "a list is never right by these rules"
    assert first(scores).name == "Overall"
    assert first(scores).value == 80
    assert scores["Prefetch rate"].value == 40
    assert scores["skill: algebra"].rows == scores["task: math word problem"].rows == 5


def test_numbers_are_compared_without_rounding(rows):
    judge = StubJudge("8.0")
    verdicts, _ = scored(NAME, rows, RIGHT | {"1": "about 8"}, judge=judge)
    assert (verdicts["1"].score, verdicts["1"].read, verdicts["1"].matched) == (0, "8.0", True)


def test_without_a_judge_there_is_no_accuracy_but_a_number_of_its_own_name(rows):
    verdicts, scores = scored(NAME, rows, RIGHT)
    assert list(scores) == [mathvista.PREFETCH_ONLY, "Prefetch rate"]
    assert first(scores).value == 60
    assert first(scores).unmatched == 2
    assert not verdicts["2"].matched


def test_official_rules_round_and_take_lists(rows):
    judge = StubJudge("[1, 2]")
    answers = RIGHT | {"3": "1.49", "5": "wide"}
    verdicts, scores = scored(NAME, rows, answers, "official", judge)
    assert {key: verdict.score for key, verdict in verdicts.items()} == dict.fromkeys("12345", 1.0)
    assert first(scores).value == 100
    assert len(judge.asked) == 1


def test_official_multiple_choice_never_abstains(rows):
    verdicts, _ = scored(NAME, rows, RIGHT | {"5": ""}, "official", StubJudge("?"))
    assert verdicts["5"].read == "wide", "the nearest to nothing is the shorter choice"


def test_the_authors_file(tmp_path):
    rows = rows_of(NAME, made_official.mathvista(tmp_path))
    assert [row.key for row in rows] == ["17", "18", "19"]
    assert rows[0].question == "Hint: h\nQuestion: Missing number?"
    assert rows[1].question == (
        "Hint: Please answer the question requiring a floating-point number with two decimal places and provide the "
        "final value, e.g., 1.23, 1.34, 1.45, at the end.\nQuestion: How wide? (Unit: $)"
    )
    assert rows[2].question == (
        "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
        "Question: Which?\nChoices:\n(A) narrow\n(B) wide"
    )
    assert rows[2].fields["answer_option"] == "B"
    assert all(row.images[0].path.is_file() for row in rows)
    _, scores = scored(NAME, rows, {"17": "8", "18": "1.5", "19": "B"}, judge=StubJudge("x"))
    assert first(scores).value == 100
    verdicts, _ = scored(NAME, rows, {"17": "8", "18": "1.501", "19": "wide"}, "official", StubJudge("x"))
    assert verdicts["18"].read == "1.5"
    assert verdicts["18"].score == 0, "the gold is written 1.50, and texts are compared"


def test_decimals_come_from_the_gold_where_the_column_is_missing(rows):
    bare = rows[2]
    assert mathvista.question_of(bare).places == 1
    without = {name: text for name, text in bare.fields.items() if name != "precision"}
    object.__setattr__(bare, "fields", without)
    assert mathvista.question_of(bare).places == 1


def test_a_choice_without_its_letter_is_a_bad_row(tmp_path):
    row = {"index": 1, "question": "q", "image": made.base64_image(), "answer": "wide", "answer_type": "text"}
    row |= {"question_type": "multi_choice", "choices": "['narrow', 'wide']"}
    nothing = {**row, "index": 2, "answer": "", "question_type": "free_form"}
    path = made.write_tsv(tmp_path / "b.tsv", list(row), [row, nothing])
    assert [bad.code for bad in bad_rows_of(NAME, path)] == ["E736", "E735"]
