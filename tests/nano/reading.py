"""A reader of questions and answers that shares no table and no code with the generator: words in, meanings out."""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import re

from xverse_v.nano.questions import QA
from xverse_v.nano.world import Scene, Thing

ENGLISH_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
CHINESE_COLOURS = dict(zip("红橙黄绿蓝紫粉黑", ENGLISH_COLOURS, strict=True))
SHAPES = {
    "circle": "circle", "square": "square", "triangle": "triangle", "heart": "heart", "star": "star", "三角形": "triangle",
    "正方形": "square", "方形": "square", "方块": "square", "心形": "heart", "爱心": "heart", "五角星": "star", "星星": "star",
    "星形": "star", "圆": "circle",
}  # fmt: skip
PLACES = {
    "top left": (0, 0), "top right": (0, 2), "top": (0, 1), "bottom left": (2, 0), "bottom right": (2, 2), "bottom": (2, 1),
    "left": (1, 0), "right": (1, 2), "centre": (1, 1), "center": (1, 1), "middle": (1, 1),
    "左上": (0, 0), "右上": (0, 2), "左下": (2, 0), "右下": (2, 2), "上方": (0, 1), "上边": (0, 1), "上面": (0, 1),
    "下方": (2, 1), "下边": (2, 1), "下面": (2, 1), "左边": (1, 0), "左侧": (1, 0), "左面": (1, 0), "右边": (1, 2),
    "右侧": (1, 2), "右面": (1, 2), "中": (1, 1),
}  # fmt: skip
# What yes and no are called after each way of asking.
YES = {"yes": "yes", "no": "no", "有": "yes", "没有": "no", "是": "yes", "不是": "no", "一样": "yes", "不一样": "no"}
SIZES = {"large": "large", "small": "small", "大": "large", "小": "small"}


def colours_in(text: str) -> list[str]:
    """The colours that a text names, in their order, in either language."""
    pattern = rf"\b({'|'.join(ENGLISH_COLOURS)})\b|([{''.join(CHINESE_COLOURS)}])"
    return [one or CHINESE_COLOURS[other] for one, other in re.findall(pattern, text.lower())]


def shapes_in(text: str) -> list[str]:
    """The shapes that a text names, in their order, in either language."""
    return [SHAPES[word] for word in re.findall("|".join(SHAPES), text.lower().replace("图形", ""))]


def place_in(text: str) -> tuple[int, int] | None:
    """The place that a text names, (row, column), in either language."""
    text = re.sub("图中|图里", "", text.lower())
    row_word = re.search(r"\b(top|bottom|centre|center|middle)\b", text)
    column_word = re.search(r"\b(left|right)\b", text)
    if row_word and column_word:
        return {"top": 0, "bottom": 2}.get(row_word[1], 1), 0 if column_word[1] == "left" else 2
    return next((cell for word, cell in PLACES.items() if word in text), None)


def asked_part(question: str) -> str:
    """A question without the release's wrapper around it."""
    return re.sub(r"^(Answer the question.*Question: |Based on the image.*phrase: )", "", question)


def first(found: list[str]) -> str | None:
    return found[0] if found else None


def is_large(scene: Scene, thing: Thing) -> bool:
    """By what is drawn: more than a third of the shorter side of a cell."""
    return thing.radius > 0.32 * min(scene.width, scene.height) / 3


def recount(scene: Scene, kind: str, question: str) -> str:
    """What the answer about a scene must mean, found again from the words of the question."""
    text = asked_part(question)
    if kind.startswith("digit"):
        return _recount_digits(scene, kind, text)
    colour, shape = first(colours_in(text)), first(shapes_in(text))
    fitting = [t for t in scene.things if colour in (None, t.colour) and shape in (None, t.shape)]
    if kind.startswith("count"):
        return str(len(fitting))
    if kind.startswith("exists"):
        return "yes" if fitting else "no"
    if kind in ("larger", "same_colour"):
        one, other = ([t for t in scene.things if t.shape == name] for name in shapes_in(text))
        assert len(one) == len(other) == 1
        if kind == "same_colour":
            return "yes" if one[0].colour == other[0].colour else "no"
        return max(*one, *other, key=lambda t: t.radius).shape
    if kind == "is_colour":
        (only,) = [t for t in scene.things if t.shape == shape]
        return "yes" if only.colour == colour else "no"
    if kind in ("colour_of", "shape_of", "where", "size_of"):
        (only,) = fitting
        size = "large" if is_large(scene, only) else "small"
        return {"colour_of": only.colour, "shape_of": only.shape, "where": f"{only.row} {only.column}"}.get(kind, size)
    place = place_in(text)
    held = [t for t in scene.things if (t.row, t.column) == place]
    if not held:
        assert all((w.row, w.column) != place for w in scene.digits)
        return "nothing"
    (only,) = held
    return {"what_at": f"{only.colour} {only.shape}", "colour_at": only.colour, "shape_at": only.shape}[kind]


def _recount_digits(scene: Scene, kind: str, text: str) -> str:
    values = [str(written.digit.value) for written in scene.digits]
    if kind == "digit_count":
        return str(len(values))
    if kind == "digit_only":
        (value,) = values
        return value
    if kind == "digit_at":
        (value,) = [str(w.digit.value) for w in scene.digits if (w.row, w.column) == place_in(text)]
        return value
    (named,) = re.findall(r"\d", text)
    if kind == "digit_exists":
        return "yes" if named in values else "no"
    (place,) = [f"{w.row} {w.column}" for w in scene.digits if str(w.digit.value) == named]
    return place


def meaning(kind: str, answer: str) -> str:
    """An answer about a scene in the words of `recount`."""
    if kind.startswith("count") or kind in ("digit_count", "digit_only", "digit_at"):
        return answer
    if kind.startswith(("exists", "is_", "same")) or kind == "digit_exists":
        return YES[answer]
    if answer in ("nothing", "没有图形"):
        return "nothing"
    if kind == "size_of":
        return SIZES[answer]
    if kind in ("where", "digit_where"):
        row, column = place_in(answer) or (9, 9)
        return f"{row} {column}"
    wanted = {"colour_of": "c", "colour_at": "c", "shape_of": "s", "shape_at": "s", "larger": "s"}.get(kind, "cs")
    parts = [first(colours_in(answer))] * ("c" in wanted) + [first(shapes_in(answer))] * ("s" in wanted)
    return " ".join(map(str, parts))


def told_apart(qa: QA) -> bool:
    """Is the question in the language that it says?"""
    return bool(re.search("[\u4e00-\u9fff]", qa.question)) == (qa.language == "zh")
