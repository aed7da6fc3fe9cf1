"""Questions about charts, with their true answers, in English and Chinese.

What crosses: a `Chart` and a seeded generator -> `QA` (kind, language, question, answer). What the chart does not settle
(the tallest of two equal bars) is never asked. Templates: `{c}`, `{d}` are colours.
"""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import random

from xverse_v.nano import phrases
from xverse_v.nano.charts import Chart
from xverse_v.nano.concepts import COLOURS
from xverse_v.nano.questions import QA

KINDS = {"value": 12, "largest": 6, "smallest": 6, "compare": 6, "items": 3, "chart": 3, "has": 3}
# kind of question -> kind of chart -> templates
ASK: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {
        "value": {
            "bar": ("What is the value of the {c} bar?", "How high is the {c} bar?", "What value does the {c} bar show?"),
            "line": ("What is the last value of the {c} line?", "At what value does the {c} line end?", "Where does the {c} line end?"),
            "pie": ("What percentage is the {c} slice?", "How large is the {c} slice?", "What share does the {c} slice have?"),
        },
        "largest": {
            "bar": ("Which bar is the highest?", "What colour is the tallest bar?", "Which bar is the largest?"),
            "line": ("Which line ends highest?", "What colour is the line that ends highest?"),
            "pie": ("Which slice is the largest?", "What colour is the largest slice?"),
        },
        "smallest": {
            "bar": ("Which bar is the lowest?", "What colour is the shortest bar?", "Which bar is the smallest?"),
            "line": ("Which line ends lowest?", "What colour is the line that ends lowest?"),
            "pie": ("Which slice is the smallest?", "What colour is the smallest slice?"),
        },
        "compare": {
            "bar": ("Is the {c} bar higher than the {d} bar?", "Is the {c} bar taller than the {d} bar?"),
            "line": ("Does the {c} line end higher than the {d} line?", "Does the {c} line end above the {d} line?"),
            "pie": ("Is the {c} slice larger than the {d} slice?", "Is the {c} slice bigger than the {d} slice?"),
        },
        "items": {
            "bar": ("How many bars are there?", "How many bars are in the chart?"),
            "line": ("How many lines are there?", "How many lines are in the chart?"),
            "pie": ("How many slices are there?", "How many slices are in the chart?"),
        },
        "chart": dict.fromkeys(("bar", "line", "pie"), ("What kind of chart is this?", "What chart is it?", "Which kind of chart is it?")),
        "has": {
            "bar": ("Is there a {c} bar?",),
            "line": ("Is there a {c} line?",),
            "pie": ("Is there a {c} slice?",),
        },
    },
    "zh": {
        "value": {
            "bar": ("{c}柱子的值是多少？", "{c}的柱子有多高？", "{c}柱子是多少？"),
            "line": ("{c}折线最后的值是多少？", "{c}折线的终点是多少？"),
            "pie": ("{c}扇形占百分之几？", "{c}的扇形占多少？", "{c}扇形有多大？"),
        },
        "largest": {
            "bar": ("哪根柱子最高？", "最高的柱子是什么颜色？", "哪根柱子最大？"),
            "line": ("哪条折线终点最高？", "终点最高的折线是什么颜色？"),
            "pie": ("哪个扇形最大？", "最大的扇形是什么颜色？"),
        },
        "smallest": {
            "bar": ("哪根柱子最低？", "最矮的柱子是什么颜色？", "哪根柱子最小？"),
            "line": ("哪条折线终点最低？", "终点最低的折线是什么颜色？"),
            "pie": ("哪个扇形最小？", "最小的扇形是什么颜色？"),
        },
        "compare": {
            "bar": ("{c}柱子比{d}柱子高吗？", "{c}的柱子比{d}的高吗？"),
            "line": ("{c}折线的终点比{d}折线高吗？",),
            "pie": ("{c}扇形比{d}扇形大吗？", "{c}的扇形比{d}的大吗？"),
        },
        "items": {
            "bar": ("有几根柱子？", "图里有几根柱子？"),
            "line": ("有几条折线？", "图里有几条折线？"),
            "pie": ("有几个扇形？", "图里有几个扇形？"),
        },
        "chart": dict.fromkeys(("bar", "line", "pie"), ("这是什么图表？", "这是哪种图表？")),
        "has": {"bar": ("有{c}的柱子吗？",), "line": ("有{c}的折线吗？",), "pie": ("有{c}的扇形吗？",)},
    },
}  # fmt: skip
NAMES = {
    "en": {"bar": "bar chart", "line": "line chart", "pie": "pie chart"},
    "zh": {"bar": "柱状图", "line": "折线图", "pie": "饼图"},
}


def value_words(chart: Chart, value: int) -> str:
    """A value as it is read: "7", or a share of a pie: "70%"."""
    return f"{value}0%" if chart.kind == "pie" else str(value)


def make_question(rng: random.Random, chart: Chart, kind: str, language: str, *, plain: bool = False) -> QA | None:
    """One question of `kind`, or None where this chart cannot be asked that. `plain`: the first template."""
    words, colours = phrases.WORDS[language], phrases.COLOUR_WORDS[language]
    one, other = rng.sample(chart.items, 2)
    colour = one.colour
    if kind == "value":
        answer = value_words(chart, one.value)
    elif kind in ("largest", "smallest"):
        best = [item for item in chart.items if f"rank {kind}" in chart.ranked(item)]
        if not best:
            return None
        answer = colours[best[0].colour]
    elif kind == "compare":
        if one.value == other.value:
            return None
        answer = words["is" if one.value > other.value else "is_not"]
    elif kind == "items":
        answer = str(len(chart.items))
    elif kind == "chart":
        answer = NAMES[language][chart.kind]
    else:
        colour = colour if rng.random() < 0.5 else rng.choice(COLOURS)
        answer = words["yes" if colour in [item.colour for item in chart.items] else "no"]
    templates = ASK[language][kind][chart.kind]
    template = templates[0] if plain else rng.choice(templates)
    return QA(kind, language, phrases.fill(template, c=colours[colour], d=colours[other.colour]), answer)


def caption(language: str, chart: Chart) -> str:
    """The kind of chart and every item with its value."""
    colours, name = phrases.COLOUR_WORDS[language], NAMES[language][chart.kind]
    items = [f"{colours[item.colour]} {value_words(chart, item.value)}" for item in chart.items]
    return f"{name}: {'; '.join(items)}" if language == "en" else f"{name}：{'；'.join(items)}".replace(" ", "")
