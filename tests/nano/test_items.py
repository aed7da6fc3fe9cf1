"""What the built-in model is measured with: unseen pictures, whole rows, and shares counted right."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from xverse_v.nano import evaluate, phrases
from xverse_v.nano.ask_outside import NOUNS
from xverse_v.nano.evaluate import GLOBAL_ONLY, REFUSALS, report, wilson
from xverse_v.nano.items import QUESTIONS, ROWS, Item, items


@pytest.mark.parametrize("row", ROWS)
def test_rows_hold_what_they_say_and_are_the_same_every_time(row: str) -> None:
    one, same = list(items(row, 2 * QUESTIONS)), list(items(row, 2 * QUESTIONS))
    assert len(one) == 2 * QUESTIONS
    assert [(item.key, item.qa, item.history) for item in one] == [(item.key, item.qa, item.history) for item in same]
    assert [[i.tobytes() for i in item.images] for item in one] == [[i.tobytes() for i in item.images] for item in same]
    assert len({item.key for item in one}) == len(one) and {item.row for item in one} == {row}
    for item in one:
        assert len(item.images) == (2 if row == "two images" else 1)
        assert len(item.history) == (1 if row == "follow-up" else 0)
        assert all(question != item.qa.question for question, _ in item.history)
        assert (item.qa.answer in REFUSALS) == (row == "refusals")
        assert (item.qa.kind in ("tag_text", "tag_only")) == (row == "small text")
    later = next(iter(items(row, 1, start=1)))
    assert later.key == next(item.key for item in one if item.images is not one[0].images)
    assert next(iter(items(row, 1, start=10**6))).images[0].tobytes() != one[0].images[0].tobytes()


def test_rows_do_not_share_pictures() -> None:
    firsts = [next(iter(items(row, 1))).images[0].tobytes() for row in ROWS]
    assert len(set(firsts)) == len(ROWS)


def test_refused_questions_use_no_noun_that_was_taught() -> None:
    for item in items("refusals", 60):
        words = item.qa.question.lower().rstrip("?.").split()
        if item.qa.kind == "outside" and item.qa.language == "en" and "people" not in words and "day" not in words:
            assert not set(words) & set(NOUNS["en"]), item.qa


def test_wilson_intervals_match_known_values() -> None:
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=2e-4)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-9) and wilson(10, 10)[1] == pytest.approx(1.0, abs=1e-9)


class _Perfect:
    """Knows every answer but those of one language, and refuses everything when it sees the global view alone."""

    def __init__(self, silent: str) -> None:
        self.silent = silent

    def answers(self, assistant: object, asked: Sequence[Item], max_tiles: int | None = None) -> list[str]:
        if max_tiles == 1:
            return [phrases.REFUSAL["en"]] * len(asked)
        return ["?" if item.qa.language == self.silent else item.qa.answer for item in asked]


def test_scores_count_whole_answers_by_row_language_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load", lambda *_, **__: None)
    monkeypatch.setattr(evaluate, "answers", _Perfect("zh").answers)
    scores, wrong = evaluate.evaluate("anything", 10)
    english = sum(item.qa.language == "en" for row in ROWS for item in items(row, 10))
    assert scores["English"]["share"] == 1.0 and scores["English"]["asked"] == english
    assert scores["Chinese"]["share"] == 0.0 and scores["Chinese"]["asked"] == 10 * len(ROWS) - english == len(wrong)
    assert all(scores[row]["asked"] == 10 for row in (*ROWS, GLOBAL_ONLY))
    assert scores[GLOBAL_ONLY]["right"] == 0
    # What the global view alone made it say is not held against it, and refusals of what should be are no fault.
    assert scores["wrong refusals"]["right"] == 0 and scores["wrong refusals"]["asked"] == 10 * (len(ROWS) - 1)
    both = scores["follow-up and two images"]
    assert both["asked"] == 20
    assert both["right"] == scores["follow-up"]["right"] + scores["two images"]["right"]
    kinds = [row for name, row in scores.items() if name.startswith("scenes / ")]
    assert sum(row["asked"] for row in kinds) == 10
    assert f"{scores['scenes']['right']:5d} /    10" in report(scores)
