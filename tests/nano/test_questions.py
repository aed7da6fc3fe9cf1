"""Questions about scenes: every answer is recounted here from the words of the question, by another reader."""

from __future__ import annotations

import random
import re

import pytest

from tests.nano.reading import colours_in, is_large, meaning, place_in, recount, shapes_in, told_apart
from xverse_v.nano import phrases
from xverse_v.nano.ask import ask, caption
from xverse_v.nano.questions import KINDS, WRITTEN_KINDS, description, make_question
from xverse_v.nano.world import Scene, make_scene, split_seed

PLAIN = [make_scene(split_seed("check", index)) for index in range(150)]
WRITTEN = [make_scene(split_seed("check", index), written=True) for index in range(150)]
ASKED = [(kind, PLAIN) for kind in KINDS] + [(kind, WRITTEN) for kind in WRITTEN_KINDS]


@pytest.mark.parametrize(("kind", "scenes"), ASKED, ids=lambda value: value if isinstance(value, str) else "")
def test_answers_are_true_when_recounted_from_the_words(kind: str, scenes: list[Scene]) -> None:
    answers: dict[str, list[str]] = {"en": [], "zh": []}
    for index, scene in enumerate(scenes):
        for language, seen in answers.items():
            qa = make_question(random.Random(index), scene, kind, language)
            if qa is None:
                continue
            seen.append(qa.answer)
            assert (qa.kind, qa.language) == (kind, language) and told_apart(qa)
            if kind != "describe":
                assert meaning(kind, qa.answer) == recount(scene, kind, qa.question), (scene.things, scene.digits, qa)
    for seen in answers.values():
        assert len(seen) >= 20 and len(set(seen)) >= 2


def held(scene: Scene) -> list[tuple[int, int, str]]:
    """(row, column, what) of everything, in reading order."""
    things = [(t.row, t.column, f"{t.colour} {t.shape}") for t in scene.things]
    return sorted(things + [(w.row, w.column, str(w.digit.value)) for w in scene.digits])


def what(text: str) -> str:
    """ "a red circle", "手写的7" -> "red circle", "7"."""
    digit = re.findall(r"\d", text)
    return digit[0] if digit else f"{colours_in(text)[0]} {shapes_in(text)[0]}"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_descriptions_and_captions_list_everything_in_reading_order(language: str) -> None:
    for scene in PLAIN + WRITTEN:
        parts = re.split(r", | and |、|和", description(language, scene))
        assert [what(part) for part in parts] == [name for _, _, name in held(scene)]
        told = caption(scene, language)
        lines = [re.split("[:：]", line) for line in re.split("[;；]", told.answer)]
        assert [(*(place_in(place) or ()), what(rest)) for place, rest in lines] == held(scene)
        sizes = {(t.row, t.column): is_large(scene, t) for t in scene.things}
        for place, rest in lines:
            if place_in(place) in sizes:
                assert bool(re.search("large|大", rest)) == sizes[place_in(place)]


def test_nothing_is_asked_that_the_scene_does_not_settle() -> None:
    scene = next(s for s in PLAIN if len({t.shape for t in s.things}) == 1 and len(s.things) > 1)
    assert make_question(random.Random(1), scene, "colour_of", "en") is None
    assert make_question(random.Random(1), scene, "larger", "en") is None
    assert make_question(random.Random(1), scene, "digit_at", "en") is None
    empty = next(s for s in WRITTEN if not s.things)
    assert make_question(random.Random(1), empty, "what_at", "en") is None


def test_questions_are_different_and_the_same_for_the_same_seed() -> None:
    scene = PLAIN[5]
    one, same, other = (ask(random.Random(seed), scene, 6) for seed in (3, 3, 4))
    assert one == same != other
    assert len({qa.question for qa in one}) == len(one) == 6


def test_every_kind_has_its_templates_in_both_languages() -> None:
    assert set(phrases.ASK["en"]) == set(phrases.ASK["zh"]) == {*KINDS, *WRITTEN_KINDS}
    for kinds in phrases.ASK.values():
        for kind, ways in kinds.items():
            assert ways and len(set(ways)) == len(ways), kind
