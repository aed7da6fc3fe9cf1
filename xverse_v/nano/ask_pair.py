"""Questions about two images at once, with their true answers, in English and Chinese.

What crosses: two scenes and a seeded generator -> `QA`. "pair_one" asks one of the two, "pair_more" and "pair_both"
compare them. Templates: `{q}` is a question about one scene in its plain form, `{ss}` shapes, `{s}` a shape.
"""

from __future__ import annotations

import random

from xverse_v.nano import phrases, questions
from xverse_v.nano.concepts import SHAPES
from xverse_v.nano.questions import QA
from xverse_v.nano.world import Scene

KINDS = {"pair_one": 12, "pair_more": 5, "pair_both": 5}
ONE = ("colour_of", "shape_of", "count_all", "count_shape", "where", "describe")
# Kind -> templates whose `{i}` is the image; `{s}`, `{c}`, `{x}` as in `phrases`.
ASK_ONE = {
    "en": {
        "colour_of": ("What colour is the {s} in the {i} image?", "In the {i} image, what colour is the {s}?"),
        "shape_of": ("What shape is the {c} object in the {i} image?", "In the {i} image, what shape is the {c} one?"),
        "count_all": ("How many shapes are in the {i} image?",),
        "count_shape": ("How many {ss} are in the {i} image?",),
        "where": ("Where is the {x} in the {i} image?", "In the {i} image, where is the {x}?"),
        "describe": ("What is in the {i} image?", "Describe the {i} image."),
    },
    "zh": {
        "colour_of": ("{i}张图里的{s}是什么颜色？", "{i}张图中{s}是什么颜色？"),
        "shape_of": ("{i}张图里{c}的图形是什么形状？",),
        "count_all": ("{i}张图里有几个图形？",),
        "count_shape": ("{i}张图里有几个{s}？",),
        "where": ("{i}张图里的{x}在哪里？",),
        "describe": ("{i}张图里有什么？", "描述一下{i}张图。"),
    },
}
ASK = {
    "en": {
        "pair_more": ("Which image has more shapes?", "In which image are there more shapes?"),
        "pair_both": ("Is there a {s} in both images?", "Do both images show a {s}?"),
    },
    "zh": {
        "pair_more": ("哪张图里的图形更多？", "哪张图图形更多？"),
        "pair_both": ("两张图里都有{s}吗？", "两张图都有{s}吗？"),
    },
}
NTH = {"en": ("first", "second"), "zh": ("第一", "第二")}
WHICH = {"en": ("the first image", "the second image"), "zh": ("第一张图", "第二张图")}


def make_question(rng: random.Random, pair: tuple[Scene, Scene], kind: str, language: str) -> QA | None:
    """One question of `kind`, or None where these two cannot be asked that."""
    if kind == "pair_one":
        which = rng.randrange(2)
        part = rng.choice(ONE)
        filled = questions.fill(rng, language, pair[which], part)
        if filled is None:
            return None
        template = rng.choice(ASK_ONE[language][part])
        return QA(kind, language, phrases.fill(template, i=NTH[language][which], **filled[0]), filled[1])
    counts = [len(scene.things) for scene in pair]
    if kind == "pair_more":
        if counts[0] == counts[1]:
            return None
        return QA(kind, language, rng.choice(ASK[language][kind]), WHICH[language][int(counts[1] > counts[0])])
    held = [{thing.shape for thing in scene.things} for scene in pair]
    shape = rng.choice(sorted(held[0] & held[1])) if held[0] & held[1] and rng.random() < 0.5 else rng.choice(SHAPES)
    word = phrases.SHAPE_WORDS[language][shape]
    answer = phrases.WORDS[language]["yes" if shape in held[0] & held[1] else "no"]
    return QA(kind, language, phrases.fill(rng.choice(ASK[language][kind]), s=word), answer)
