"""Questions: every answer is recounted here from the scene by other means than the generator's."""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import random
import re

from xverse_v.nano.questions import KINDS, QA, make_questions
from xverse_v.nano.world import Scene, make_scene, split_seed

ENGLISH = {name: name for name in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")}
CHINESE = {
    "红": "red",
    "橙": "orange",
    "黄": "yellow",
    "绿": "green",
    "蓝": "blue",
    "紫": "purple",
    "粉": "pink",
    "黑": "black",
}
SHAPES = {
    "circle": "circle", "square": "square", "triangle": "triangle", "heart": "heart", "三角形": "triangle", "正方形": "square",
    "方形": "square", "方块": "square", "心形": "heart", "爱心": "heart", "五角星": "star", "星星": "star", "星形": "star",
    "圆": "circle", "star": "star",
}  # fmt: skip
PLACES = {
    "top left": (0, 0), "top right": (0, 2), "top": (0, 1), "bottom left": (2, 0), "bottom right": (2, 2), "bottom": (2, 1),
    "left": (1, 0), "right": (1, 2), "centre": (1, 1), "center": (1, 1), "middle": (1, 1),
    "左上": (0, 0), "右上": (0, 2), "左下": (2, 0), "右下": (2, 2), "上方": (0, 1), "上边": (0, 1), "上面": (0, 1),
    "下方": (2, 1), "下边": (2, 1), "下面": (2, 1), "左边": (1, 0), "左侧": (1, 0), "左面": (1, 0), "右边": (1, 2),
    "右侧": (1, 2), "右面": (1, 2), "中": (1, 1),
}  # fmt: skip


def find_colour(text: str) -> str | None:
    """The colour that a text names, in either language."""
    words = re.findall(r"[a-z]+", text.lower())
    return next((ENGLISH[w] for w in words if w in ENGLISH), None) or next(
        (CHINESE[c] for c in text if c in CHINESE), None
    )


def find_shape(text: str) -> str | None:
    """The shape that a text names, in either language."""
    return next((shape for word, shape in SHAPES.items() if re.search(word, text.replace("图形", ""))), None)


def find_place(text: str) -> tuple[int, int] | None:
    """The place that a text names, in either language; longer names first."""
    text = re.sub("图中|图里", "", text.lower())
    row_word = re.search(r"\b(top|bottom|centre|center|middle)\b", text)
    column_word = re.search(r"\b(left|right)\b", text)
    if row_word and column_word:
        return {"top": 0, "bottom": 2}.get(row_word[1], 1), 0 if column_word[1] == "left" else 2
    return next((cell for word, cell in PLACES.items() if word in text), None)


def asked_part(qa: QA) -> str:
    """The question without the release's wrapper around it."""
    return re.sub(r"^(Answer the question.*Question: |Based on the image.*phrase: )", "", qa.question)


def recount(scene: Scene, qa: QA) -> str:
    """What the answer must mean, found again from the words of the question; "" where the words do not settle it."""
    text = asked_part(qa)
    colour, shape = find_colour(text), find_shape(text)
    fitting = [t for t in scene.things if colour in (None, t.colour) and shape in (None, t.shape)]
    if qa.kind.startswith("count"):
        return str(len(scene.things) if qa.kind == "count_all" else len(fitting))
    if qa.kind.startswith("exists"):
        return "yes" if fitting else "no"
    if qa.kind == "is_colour":
        (only,) = [t for t in scene.things if t.shape == shape]
        return "yes" if only.colour == colour else "no"
    if qa.kind in ("colour_of", "shape_of", "where"):
        (only,) = fitting
        return {"colour_of": only.colour, "shape_of": only.shape, "where": f"{only.row} {only.column}"}[qa.kind]
    place = find_place(text)
    held = [t for t in scene.things if (t.row, t.column) == place]
    if not held:
        return "nothing"
    return {"what_at": f"{held[0].colour} {held[0].shape}", "colour_at": held[0].colour, "shape_at": held[0].shape}[
        qa.kind
    ]


def meaning(qa: QA) -> str:
    """The answer, translated to the words of `recount`."""
    text = qa.answer
    if qa.kind.startswith("count"):
        return text
    if qa.kind.startswith(("exists", "is_")):
        return {"yes": "yes", "no": "no", "有": "yes", "没有": "no", "是": "yes", "不是": "no"}[text]
    if text in ("nothing", "没有图形"):
        return "nothing"
    if qa.kind == "where":
        place = find_place(text)
        return f"{place[0]} {place[1]}" if place else "?"
    parts = {"colour": find_colour(text), "shape": find_shape(text)}
    wanted = {"colour_of": ("colour",), "colour_at": ("colour",), "shape_of": ("shape",), "shape_at": ("shape",)}
    return " ".join(str(parts[name]) for name in wanted.get(qa.kind, ("colour", "shape")))


def test_answers_are_true_when_recounted_from_the_question():
    seen: dict[tuple[str, str], int] = {}
    for index in range(400):
        scene = make_scene(split_seed("check", index))
        for qa in make_questions(random.Random(index), scene, 8):
            seen[qa.kind, qa.language] = seen.get((qa.kind, qa.language), 0) + 1
            if qa.kind != "describe":
                assert meaning(qa) == recount(scene, qa), (scene.things, qa)
    assert set(seen) == {(kind, language) for kind in KINDS for language in ("en", "zh")}
    assert min(seen.values()) >= 10


def test_descriptions_list_everything_in_reading_order():
    for index in range(200):
        scene = make_scene(split_seed("check", index))
        for qa in make_questions(random.Random(index), scene, 12):
            if qa.kind == "describe":
                parts = re.split(r", | and |、|和", qa.answer)
                assert [(find_colour(p), find_shape(p)) for p in parts] == [(t.colour, t.shape) for t in scene.things]


def test_questions_are_the_same_for_the_same_seed():
    scene = make_scene(split_seed("check", 5))
    assert make_questions(random.Random(3), scene, 6) == make_questions(random.Random(3), scene, 6)
    assert make_questions(random.Random(3), scene, 6) != make_questions(random.Random(4), scene, 6)
