"""Questions that the image cannot answer, and the refusal that is their true answer, in English and Chinese.

What crosses: a seeded generator -> `QA` of kind "outside" (things that this world does not have) or "absent" (a question
made for another picture, about something that this one lacks). The nouns of `testing` are never trained on; training
also makes nouns up from letters, so that a word it never saw is refused too.
"""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import random
from collections.abc import Callable

from xverse_v.nano import ask_board, ask_chart, phrases, questions
from xverse_v.nano.charts import Chart, make_chart
from xverse_v.nano.concepts import COLOURS, SHAPES, Picture
from xverse_v.nano.detail import Board, make_board
from xverse_v.nano.questions import QA
from xverse_v.nano.world import Scene, make_scene, split_seed

NOUNS = {
    "en": (
        "dog", "cat", "man", "woman", "child", "car", "house", "tree", "bird", "boat", "train", "bus", "bike", "ball",
        "road", "city", "water", "sky", "moon", "book", "plate", "food", "game", "table", "street", "person", "school",
    ),
    "zh": (
        "狗", "猫", "人", "孩子", "车", "房子", "树", "花", "山", "书", "学校", "老师", "朋友", "学生", "水", "月", "天",
    ),
}  # fmt: skip
TEST_NOUNS = {
    "en": ("horse", "king", "lamp", "garden", "doctor", "bottle", "guitar", "bridge", "window", "elephant"),
    "zh": ("马", "医生", "桌子", "飞机", "苹果", "窗户", "大象", "桥"),
}
ASK = {
    "en": (
        "What colour is the {n}?", "Where is the {n}?", "What is the {n} doing?", "How old is the {n}?", "Who is the {n}?",
        "What is the name of the {n}?", "Is the {n} large or small?", "What shape is the {n}?", "What is the {n} made of?",
        "What does the {n} look like?", "What is the value of the {n}?", "What does the {n} say?", "What number is on the {n}?",
    ),
    "zh": (
        "{n}是什么颜色？", "{n}在哪里？", "{n}在做什么？", "{n}多大了？", "{n}是谁？", "{n}叫什么名字？", "{n}是大还是小？",
        "{n}是什么形状？", "{n}上写着什么？", "{n}是什么样的？",
    ),
}  # fmt: skip
WHOLE = {
    "en": (
        "What is the weather like?", "Which country is this?", "What time is it?", "What year is it?", "Who made this?",
        "Which city is this?", "What day is it?", "How many people live here?", "What are the people doing?",
    ),
    "zh": ("天气怎么样？", "这是哪个国家？", "现在几点？", "今天是哪一天？", "这是谁做的？", "这是哪个城市？", "人们在做什么？"),
}  # fmt: skip


def outside(rng: random.Random, language: str, *, testing: bool = False) -> QA:
    """A question about something that this world does not have."""
    if rng.random() < 0.2:
        return QA("outside", language, rng.choice(WHOLE[language]), phrases.REFUSAL[language])
    noun = rng.choice((TEST_NOUNS if testing else NOUNS)[language])
    if not testing and language == "en" and rng.random() < 0.5:
        noun = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 8)))
    return QA("outside", language, rng.choice(ASK[language]).format(n=noun), phrases.REFUSAL[language])


def _lacks(picture: Picture, language: str, question: str) -> bool:
    """Is everything that the question names missing from the picture? Judged by its words, on the safe side."""
    colours, shapes = phrases.COLOUR_WORDS[language], phrases.SHAPE_WORDS[language]
    if isinstance(picture, Scene):
        named = [shape for shape in SHAPES if _says(language, question, shape, shapes)]
        return bool(named) and not any(thing.shape in named for thing in picture.things)
    held = [tag.colour for tag in picture.tags] if isinstance(picture, Board) else []
    held += [item.colour for item in picture.items] if isinstance(picture, Chart) else []
    named = [colour for colour in COLOURS if colours[colour] in question]
    return bool(named) and not any(colour in held for colour in named)


def _says(language: str, question: str, shape: str, words: dict[str, str]) -> bool:
    return any(word in question for word in (words[shape], *phrases.SHAPE_SYNONYMS[language].get(shape, ())))


def absent(rng: random.Random, picture: Picture, language: str) -> QA | None:
    """A question about something that the picture lacks: a shape, a tag, a bar; or of another kind altogether."""
    seed = split_seed("words", 2**39 + rng.randrange(2**38))
    makers: dict[str, Callable[[], QA | None]] = {
        "scene": lambda: questions.make_question(
            rng, make_scene(seed, (224, 224)), rng.choice(("colour_of", "where", "size_of")), language
        ),
        "board": lambda: ask_board.make_question(rng, make_board(seed), "tag_text", language),
        "chart": lambda: ask_chart.make_question(rng, make_chart(seed), "value", language),
    }
    own = {Scene: "scene", Board: "board", Chart: "chart"}[type(picture)]
    kind = own if rng.random() < 0.7 else rng.choice(list(makers))
    for _ in range(4):
        qa = makers[kind]()
        if qa is None or (kind == own and not _lacks(picture, language, qa.question)):
            seed += 1
            continue
        if kind == "scene" and not any(_says(language, qa.question, s, phrases.SHAPE_WORDS[language]) for s in SHAPES):
            return None  # "where is the red object" may mean a bar as well
        return QA("absent", language, qa.question, phrases.REFUSAL[language])
    return None
