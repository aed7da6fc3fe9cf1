"""Circular scoring: passes of a question, the judge's rounds, cut questions, hidden answers."""

import pytest

from tests.evaluation import made
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.errors import XverseError
from xverse_v.evaluation.benchmarks import mmbench
from xverse_v.evaluation.contract import Row
from xverse_v.evaluation.tsv import image_bytes

NAME = "MMBench_DEV_EN"
VANILLA = mmbench.VANILLA
M = made.MILLION


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return rows_of(NAME, made.mmbench(tmp_path_factory.mktemp("mmbench") / "file.tsv"))


def answers(rows, **wrong):
    """Right answers, but for the rows given as `k<index>`."""
    return {row.key: wrong.get(f"k{row.key}", row.answers[0]) for row in rows}


def test_the_rotated_copies_are_rows_and_share_group_and_image(rows):
    assert [row.key for row in rows][:4] == ["241", "1000241", "2000241", "3000241"]
    assert {row.group for row in rows} == {"241", "7", "99"}
    assert len([row for row in rows if row.group == "99"]) == 2
    assert [row.answers[0] for row in rows if row.group == "241"] == ["A", "D", "C", "B"]
    shown = {image_bytes(row.images[0]) for row in rows if row.group == "241"}
    assert shown == {made.encoded_image("red")}


def test_right_on_every_pass(rows):
    _, scores = scored(NAME, rows, answers(rows))
    assert first(scores).name == "Overall"
    assert first(scores).value == 100
    assert first(scores).rows == 9


def test_one_wrong_pass_loses_the_question_and_not_the_vanilla_score(rows):
    verdicts, scores = scored(NAME, rows, answers(rows, k2000241="B"))
    assert scores["Overall"].value == pytest.approx(200 / 3)
    assert scores[VANILLA].value == 100
    assert scores["FP-S"].value == 50
    assert scores["CP"].value == 100
    assert verdicts["2000241"].score == 0
    assert verdicts["2000241"].read == "B"


def test_a_refusal_is_a_wrong_answer_at_once(rows):
    judge = StubJudge("A")
    _, scores = scored(NAME, rows, answers(rows, k2000241="Z", k3000241="hm"), judge=judge)
    assert scores["Overall"].value == pytest.approx(200 / 3)
    assert not judge.asked, "the question is lost already and its first pass was read"


def test_an_unreadable_pass_without_a_judge(rows):
    _, scores = scored(NAME, rows, answers(rows, k2000241="hm"))
    assert scores["Overall"].value == pytest.approx(200 / 3)
    assert scores["Overall"].unmatched == 1
    assert scores["Overall"].matcher == "exact"
    assert "unread answers are wrong" in scores["Overall"].note


def test_a_judge_resolves_it(rows):
    judge = StubJudge("C")
    verdicts, scores = scored(NAME, rows, answers(rows, k2000241="hm"), judge=judge)
    assert scores["Overall"].value == 100
    assert (scores["Overall"].matcher, scores["Overall"].judge) == ("judge", "stub")
    assert verdicts["2000241"].matched
    assert len(judge.asked) == 1
    assert judge.asked[0].prompt.endswith("Answer: hm\nYour output: ")


def test_a_judge_is_asked_pass_by_pass_and_no_further_than_the_first_miss(rows):
    judge = StubJudge("A")
    silent = {row.key: "hm" for row in rows if row.group == "241"}
    verdicts, scores = scored(NAME, rows, answers(rows) | silent, judge=judge)
    assert scores["Overall"].value == pytest.approx(200 / 3)
    # Pass 0 is right (A); pass 1 is wrong, so passes 2 and 3 are never paid for.
    assert len(judge.asked) == 2
    assert judge.calls == 2
    assert not verdicts["2000241"].matched
    assert scores[VANILLA].value == 100


def test_the_first_pass_is_judged_for_the_vanilla_score_even_in_a_lost_question(rows):
    judge = StubJudge("A")
    _, scores = scored(NAME, rows, answers(rows, k241="hm", k2000241="B"), judge=judge)
    assert len(judge.asked) == 1
    assert scores[VANILLA].value == 100


def test_a_judge_that_never_makes_sense_leaves_a_drawn_letter(rows):
    judge = StubJudge("no idea")
    one, scores = scored(NAME, rows, answers(rows, k2000241="hm"), judge=judge)
    assert [asked.attempt for asked in judge.asked] == [0, 1, 2]
    assert one["2000241"].read in ("A", "B", "C", "D", "Z")
    assert not one["2000241"].matched
    assert scores["Overall"].unmatched == 1
    again, _ = scored(NAME, rows, answers(rows, k2000241="hm"), judge=StubJudge("no idea"))
    assert again == one


def test_a_question_that_lacks_passes_is_named_incomplete(rows):
    some = [row for row in rows if row.key not in ("3000241",)]
    _, scores = scored(NAME, some, answers(rows))
    assert first(scores).name == "Overall (incomplete circular)"
    assert "1 of them lack passes" in first(scores).note
    assert scores[VANILLA].rows == 3


def test_passes_without_their_first_one_are_left_out_and_counted(rows):
    some = [row for row in rows if row.key != "7"]
    _, scores = scored(NAME, some, answers(rows))
    assert first(scores).rows == 6
    assert first(scores).skipped == 2


def test_the_first_pass_is_found_by_group_or_in_april_by_size(tmp_path):
    rows = made.rotations(5, ["x", "y"], 0, question="q", image=made.base64_image(), category="c")
    for row in rows:
        row["g_index"] = 1000005  # the group is named after the second pass
    path = made.write_tsv(tmp_path / "g.tsv", [*made.MMBENCH_COLUMNS, "g_index"], rows)
    bases = {}
    for profile in ("vlmevalkit", "vlmevalkit-2024-04"):
        questions, orphans = mmbench.questions_of(rows_of(NAME, path, profile), profile)
        bases[profile] = [question.base.key for question in questions]
        assert not orphans
    assert bases == {"vlmevalkit": ["1000005"], "vlmevalkit-2024-04": ["5"]}


def test_a_group_is_the_index_modulo_a_million():
    assert mmbench.group_of(Row("3241007", "q", ())) == mmbench.group_of(Row("241007", "q", ())) == "241007"
    assert mmbench.group_of(Row("3241007", "q", (), fields={"g_index": "8.0"})) == "8"


def test_a_test_split_has_no_score_and_says_where_it_is_scored(tmp_path):
    rows = rows_of("MMBench_TEST_EN", made.mmbench(tmp_path / "t.tsv", hidden=True))
    assert len(rows) == 9
    with pytest.raises(XverseError, match="Questions that lack passes: 1") as caught:
        scored("MMBench_TEST_EN", rows[1:], lambda row: "A")
    assert caught.value.code == "E732"
    assert "xlsx" in str(caught.value)


def test_a_test_split_with_answers_is_scored(tmp_path):
    rows = rows_of("MMBench_TEST_EN", made.mmbench(tmp_path / "t.tsv"))
    _, scores = scored("MMBench_TEST_EN", rows, answers(rows))
    assert first(scores).value == 100


def test_chinese_questions_are_judged_in_chinese(tmp_path):
    rows = rows_of("MMBench_DEV_CN", made.mmbench(tmp_path / "cn.tsv", chinese=True))
    judge = StubJudge("A")
    _, scores = scored("MMBench_DEV_CN", rows, answers(rows, k241="选A"), judge=judge)
    assert first(scores).value == 100
    assert judge.asked[0].prompt.startswith("你是一个帮助我匹配答案")


def test_an_answer_that_is_missing_or_no_option_is_a_bad_row(tmp_path):
    rows = made.rotations(5, ["x", "y"], 0, question="q", image=made.base64_image())
    rows[0]["answer"], rows[1]["answer"] = "", "D"
    path = made.write_tsv(tmp_path / "bad.tsv", made.MMBENCH_COLUMNS, rows)
    assert [bad.code for bad in bad_rows_of(NAME, path)] == ["E735", "E736"]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = made.write_tsv(tmp_path / "other.tsv", ["index", "image"], [])
    with pytest.raises(XverseError, match="question") as caught:
        rows_of(NAME, path)
    assert caught.value.code == "E734"
