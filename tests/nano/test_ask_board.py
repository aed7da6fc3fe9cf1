"""Questions about boards of tags, read again from the board's tags by the words of the question."""

from __future__ import annotations

import random
import re

import pytest

from tests.nano.reading import YES, colours_in, told_apart
from xverse_v.nano.ask import caption, kinds_of
from xverse_v.nano.ask_board import KINDS, make_question
from xverse_v.nano.detail import make_board
from xverse_v.nano.world import split_seed

BOARDS = [make_board(split_seed("check", index)) for index in range(120)]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_on_the_tags(kind: str) -> None:
    seen: dict[str, int] = {"en": 0, "zh": 0}
    answers = set()
    for index, board in enumerate(BOARDS):
        texts = {tag.colour: tag.text for tag in board.tags}
        assert len(texts) == len(board.tags)
        for language in seen:
            qa = make_question(random.Random(index), board, kind, language)
            if qa is None:
                assert kind == "tag_only" and len(board.tags) > 1
                continue
            seen[language] += 1
            answers.add(qa.answer)
            named = colours_in(qa.question)
            assert told_apart(qa)
            if kind == "tag_count":
                truth = str(len(board.tags))
            elif kind == "tag_exists":
                truth = "yes" if named[0] in texts else "no"
            else:
                truth = texts[named[0]] if named else board.tags[0].text
                calls_it_a_number = bool(re.search("number|数字", qa.question))
                calls_it_text = bool(re.search(r"\btext\b|文字", qa.question))
                assert not calls_it_a_number or truth.isdigit()
                assert not calls_it_text or not truth.isdigit()
            assert (YES[qa.answer] if kind == "tag_exists" else qa.answer) == truth, (board.tags, qa)
            assert len(named) == (kind in ("tag_text", "tag_exists"))
    assert min(seen.values()) >= 10 and len(answers) >= 4


@pytest.mark.parametrize("language", ["en", "zh"])
def test_captions_read_every_tag_from_top_to_bottom(language: str) -> None:
    for board in BOARDS:
        lines = [re.split("[:：] ?", line) for line in re.split("; |；", caption(board, language).answer)]
        by_height = sorted(board.tags, key=lambda tag: tag.y)
        assert [(colours_in(name)[0], text) for name, text in lines] == [(tag.colour, tag.text) for tag in by_height]


def test_boards_are_asked_their_own_kinds() -> None:
    assert kinds_of(BOARDS[0]) is KINDS
