"""LLaVABench: the ratio of means, unread grades under both rules, and no number without a judge."""

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.errors import XverseError

NAME = "LLaVABench"
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."


@pytest.fixture
def rows(tmp_path):
    return rows_of(NAME, made.llavabench(tmp_path / "file.tsv"))


def by_question(replies):
    """Replies by a word of the question, in turn for the tries."""
    return lambda asked: next(
        (reply if isinstance(reply, str) else reply[asked.attempt])
        for word, reply in replies.items()
        if word in asked.prompt
    )


def test_the_score_is_the_ratio_of_means(rows):
    judge = StubJudge(by_question({"What is shown": "8 6\nwell", "Describe": "7 9\nwell"}))
    _, scores = scored(NAME, rows[:2], lambda row: "text", judge=judge)
    assert first(scores).name == "Relative score"
    assert first(scores).value == pytest.approx(100.0), "the mean of ratios would be 101.8"
    assert scores["VLM score"].value == pytest.approx(75.0)
    assert scores["GPT-4 score"].value == pytest.approx(75.0)
    assert scores["conv: Relative score"].value == pytest.approx(75.0)
    assert scores["detail: VLM score"].value == pytest.approx(90.0)
    assert first(scores).low < 100 < first(scores).high
    assert (first(scores).matcher, first(scores).judge) == ("judge", "stub")


def test_what_the_judge_is_asked(rows):
    judge = StubJudge("8 7\n")
    scored(NAME, rows[:1], lambda row: "my {text}", judge=judge)
    (asked,) = judge.asked
    assert (asked.system, asked.temperature, asked.max_tokens) == (SYSTEM, 0.2, 2048)
    assert asked.prompt.startswith(
        "[Context]\nA red block\nin a frame.\n\n[Question]\nWhat is shown?\n\n[Assistant 1]\n"
    )
    assert (
        "[Assistant 1]\nIt is a red block.\n\n[End of Assistant 1]\n\n[Assistant 2]\nmy {text}\n\n[End" in asked.prompt
    )


def test_unread_grades_count_as_minus_one_in_april(rows):
    judge = StubJudge(by_question({"What is shown": "8 8", "Describe": "8, 8", "framed": "8 8"}))
    verdicts, scores = scored(NAME, rows, lambda row: "t", "vlmevalkit-2024-04", judge)
    assert len(judge.asked) == 3, "one try"
    assert verdicts["1"].score == -1
    assert scores["Relative score"].value == pytest.approx(100 * 15 / 15)
    assert scores["VLM score"].value == pytest.approx(50.0)
    assert scores["Relative score"].unmatched == 1
    assert "count as -1" in scores["Relative score"].note
    assert "detail: Relative score" not in scores
    assert "too many of them" in scores["detail: VLM score"].note
    assert scores["Relative score (unread grades left out)"].value == pytest.approx(100.0)


def test_other_profiles_read_leniently_and_ask_again(rows):
    judge = StubJudge(by_question({"What is shown": "8, 4", "Describe": ["hm", "hm", "8 4"], "framed": "8 4"}))
    verdicts, scores = scored(NAME, rows, lambda row: "t", "vlmevalkit", judge)
    assert len(judge.asked) == 5
    assert {verdict.score for verdict in verdicts.values()} == {4.0}
    assert scores["Relative score"].value == pytest.approx(50.0)
    assert scores["Relative score"].unmatched == 0


def test_what_stays_unread_is_left_out_and_shown_both_ways(rows):
    judge = StubJudge(by_question({"What is shown": "8 4", "Describe": "hm", "framed": "8 4"}))
    verdicts, scores = scored(NAME, rows, lambda row: "t", "vlmevalkit", judge)
    assert not verdicts["1"].matched
    assert scores["Relative score"].value == pytest.approx(50.0)
    assert (scores["Relative score"].rows, scores["Relative score"].unmatched) == (2, 1)
    assert scores["Relative score (unread grades as -1)"].value == pytest.approx(100 * 7 / 15)
    assert "detail: Relative score" not in scores, "nothing of that category was read"


def test_no_grades_at_all_are_an_error(rows):
    for profile in ("vlmevalkit", "vlmevalkit-2024-04"):
        with pytest.raises(XverseError) as caught:
            scored(NAME, rows, lambda row: "t", profile, StubJudge("no grades"))
        assert caught.value.code == "E745"


def test_without_a_judge_there_is_no_number(rows):
    with pytest.raises(XverseError, match="3 predictions wait") as caught:
        scored(NAME, rows, lambda row: "t")
    assert caught.value.code == "E733"


def test_the_authors_three_files(tmp_path):
    (row,) = rows_of(NAME, made_official.llavabench(tmp_path))
    assert (row.key, row.question, row.answers) == ("0", "What is it?", ("A red block.",))
    assert row.fields["caption"] == "A block.\nIt is red."
    assert row.images[0].path.is_file()


def test_a_missing_companion_and_a_missing_caption(tmp_path):
    path = made_official.llavabench(tmp_path)
    (tmp_path / "context.jsonl").write_text('{"image": "002.jpg", "caption": "x"}\n', encoding="utf-8")
    assert [bad.code for bad in bad_rows_of(NAME, path)] == ["E735"]
    (tmp_path / "context.jsonl").unlink()
    with pytest.raises(XverseError, match=r"context\.jsonl") as caught:
        rows_of(NAME, path)
    assert caught.value.code == "E742"
