"""Questions about two images: which one is meant, and what is true of both, found again from the words."""

from __future__ import annotations

import random
import re

import pytest

from tests.nano.reading import YES, colours_in, meaning, recount, shapes_in, told_apart
from xverse_v.nano.ask import ask_two
from xverse_v.nano.ask_pair import KINDS, make_question
from xverse_v.nano.world import make_scene, split_seed

PAIRS = [
    (make_scene(split_seed("check", 2 * index), (224, 224)), make_scene(split_seed("check", 2 * index + 1), (224, 224)))
    for index in range(150)
]
# How a question about one of the two is told: by its words alone, the first that fits.
ASKS = (
    ("shape_of", r"what shape is|什么形状"),
    ("colour_of", r"what colou?r is|什么颜色"),
    ("where", r"where is|在哪里"),
    ("count", r"how many|几个"),
)


def which_image(text: str) -> int:
    one, other = re.search(r"\bfirst\b|第一张", text), re.search(r"\bsecond\b|第二张", text)
    assert bool(one) != bool(other), text
    return 0 if one else 1


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_true_of_the_image_that_is_meant(kind: str) -> None:
    seen: dict[str, list[str]] = {"en": [], "zh": []}
    for index, pair in enumerate(PAIRS):
        for language, answers in seen.items():
            qa = make_question(random.Random(index), pair, kind, language)
            if qa is None:
                assert kind == "pair_one" or len(pair[0].things) == len(pair[1].things)
                continue
            answers.append(qa.answer)
            assert told_apart(qa)
            if kind == "pair_more":
                more = pair[which_image(qa.answer)]
                assert len(more.things) == max(len(scene.things) for scene in pair)
                assert len(pair[0].things) != len(pair[1].things)
            elif kind == "pair_both":
                (shape,) = shapes_in(qa.question)
                both = all(any(t.shape == shape for t in scene.things) for scene in pair)
                assert YES[qa.answer] == ("yes" if both else "no"), qa
            else:
                scene = pair[which_image(qa.question)]
                asked = next((name for name, words in ASKS if re.search(words, qa.question, re.I)), "describe")
                if asked == "describe":
                    parts = re.split(r", | and |、|和", qa.answer)
                    told = [(colours_in(part)[0], shapes_in(part)[0]) for part in parts]
                    assert told == [(t.colour, t.shape) for t in scene.things]
                else:
                    assert meaning(asked, qa.answer) == recount(scene, asked, qa.question), (scene.things, qa)
    assert all(len(answers) > 40 and len(set(answers)) >= 2 for answers in seen.values())


def test_both_images_are_asked_about_and_questions_differ() -> None:
    asked = [qa for index, pair in enumerate(PAIRS[:60]) for qa in ask_two(random.Random(index), pair, 4)]
    about = [which_image(qa.question) for qa in asked if qa.kind == "pair_one"]
    assert 0.35 < sum(about) / len(about) < 0.65
    one = ask_two(random.Random(1), PAIRS[0], 4)
    assert one == ask_two(random.Random(1), PAIRS[0], 4) and len({qa.question for qa in one}) == 4
