"""MMMU: images where the text names them, the validation split in front, and two ways to score open questions."""

import pytest

from tests.evaluation import made
from tests.evaluation.reading import bad_rows_of, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.evaluation.benchmarks import find
from xverse_v.evaluation.contract import ImageRef
from xverse_v.evaluation.tsv import image_bytes

NAME = "MMMU_DEV_VAL"


@pytest.fixture
def rows(tmp_path):
    return rows_of(NAME, made.mmmu(tmp_path / "file.tsv"))


def order(row, profile="vlmevalkit"):
    """A prompt with each image as its place in the row's list."""
    prompt = find(NAME).prompt(row, profile)
    return [row.images.index(part) + 1 if isinstance(part, ImageRef) else part for part in prompt.parts]


def test_images_stand_where_the_text_names_them(rows):
    tail = " z\nOptions:\nA. Gothic\nB. Baroque\nPlease select the correct answer from the options above. \n"
    assert order(rows[0]) == ["Question: x ", 2, " y ", 1, tail]
    second = find(NAME).prompt(rows[0], "vlmevalkit").parts[1]
    assert image_bytes(second) == made.encoded_image("blue")


def test_an_option_may_name_an_image(rows):
    assert order(rows[1])[:2] == ["Question: Which is red?\nOptions:\nA. ", 1]
    assert order(rows[1], "official")[:2] == ["Which is red?\nA. ", 1]


def test_without_a_placeholder_the_image_stands_first(rows):
    assert order(rows[2]) == [1, "Question: How many?\n"]
    assert order(rows[2], "vlmevalkit-2024-04") == [1, "Question: How many?\n"], "its dropped image is not imitated"


def test_the_validation_split_leads_and_dev_is_named(rows):
    _, scores = scored(NAME, rows, lambda row: row.answers[0] if row.key != "3" else "wrong")
    assert scores["Overall"].value == pytest.approx(200 / 3)
    assert scores["Overall"].rows == 3
    assert scores["dev: Overall"].rows == 1
    assert scores["Art"].rows == 3
    assert "open questions as a choice of two" in scores["Overall"].note


def test_a_bare_article_is_a_hit_in_an_open_question_but_not_officially(rows):
    answers = {row.key: "A cat" for row in rows}
    verdicts, _ = scored(NAME, rows, answers)
    assert (verdicts["3"].score, verdicts["3"].read) == (1, "A")
    official, _ = scored(NAME, rows, answers, "official")
    assert official["3"].score == 0


def test_a_list_of_golds_is_matched_as_a_list_only_officially(rows):
    answers = {row.key: "it is 3.429" for row in rows}
    assert scored(NAME, rows, answers)[0]["4"].score == 0
    assert scored(NAME, rows, answers, "official")[0]["4"].score == 1


def test_a_judge_sees_the_choice_of_two(rows):
    judge = StubJudge("A")
    verdicts, scores = scored(NAME, rows, {"1": "B", "2": "A", "3": "a dozen", "4": "x"}, judge=judge)
    assert verdicts["3"].score == 1
    assert "There are several options: \nA. 12\nB. Other Answers\n" in judge.asked[0].prompt
    assert scores["Overall"].judge == "stub"


def test_the_official_scorer_draws_and_says_so(rows):
    verdicts, scores = scored(NAME, rows, lambda row: "", "official", StubJudge("A"))
    assert not verdicts["1"].matched
    assert verdicts["1"].read in ("A", "B")
    assert scores["Overall"].unmatched == 2
    assert "drawn" in scores["Overall"].note
    assert scores["Overall"].matcher == "exact", "that scorer asks no judge"


def test_a_text_that_names_an_image_that_is_not_there_is_a_bad_row(tmp_path):
    base = {"question": "see <image 3>", "answer": "12", "image": made.base64_image(), "split": "validation"}
    zero = base | {"index": 2, "question": "see <image 0>"}
    fine = base | {"index": 3, "question": "see <image one>"}
    path = made.write_tsv(tmp_path / "b.tsv", [*base, "index"], [base | {"index": 1}, zero, fine])
    assert [(bad.key, bad.code) for bad in bad_rows_of(NAME, path)] == [("1", "E740"), ("2", "E740")]
    assert order(rows_of(NAME, path)[0]) == [1, "Question: see <image one>\n"]


def test_the_test_split_may_have_no_answers(tmp_path):
    columns = ["index", "question", "A", "B", "image"]
    row = {"index": 1, "question": "q", "A": "x", "B": "y", "image": made.base64_image()}
    path = made.write_tsv(tmp_path / "t.tsv", columns, [row])
    assert rows_of("MMMU_TEST", path)[0].answers == ()
    assert [bad.code for bad in bad_rows_of(NAME, path)] == ["E735"], "the other splits have answers"
