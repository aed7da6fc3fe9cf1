"""Questions about charts, worked out again from the values by the words of the question."""

from __future__ import annotations

import random
import re

import pytest

from tests.nano.reading import YES, colours_in, told_apart
from xverse_v.nano.ask import caption
from xverse_v.nano.ask_chart import ASK, KINDS, make_question
from xverse_v.nano.charts import Chart, make_chart
from xverse_v.nano.world import split_seed

CHARTS = [make_chart(split_seed("check", index)) for index in range(200)]
# What the items of each kind of chart are called, and the chart itself.
ITEM_WORDS = {"bar": r"\bbars?\b|柱", "line": r"\blines?\b|折线", "pie": r"\bslices?\b|扇形"}
NAMES = {"bar chart": "bar", "line chart": "line", "pie chart": "pie", "柱状图": "bar", "折线图": "line", "饼图": "pie"}


def worth(chart: Chart) -> dict[str, int]:
    """Colour -> value; of a line at its end."""
    return {item.colour: item.values[-1] for item in chart.items}


def truth(chart: Chart, kind: str, question: str) -> str:
    values, named = worth(chart), colours_in(question)
    if kind == "value":
        return f"{10 * values[named[0]]}%" if chart.kind == "pie" else str(values[named[0]])
    if kind in ("largest", "smallest"):
        best = (max if kind == "largest" else min)(values.values())
        (colour,) = [name for name, value in values.items() if value == best]
        return colour
    if kind == "compare":
        one, other = named
        assert values[one] != values[other]
        return "yes" if values[one] > values[other] else "no"
    if kind == "items":
        return str(len(chart.items))
    if kind == "chart":
        return chart.kind
    return "yes" if named[0] in values else "no"


def said(kind: str, answer: str) -> str:
    if kind in ("largest", "smallest"):
        return colours_in(answer)[0]
    if kind in ("compare", "has"):
        return YES[answer]
    return NAMES[answer] if kind == "chart" else answer


@pytest.mark.parametrize("kind", KINDS)
def test_answers_follow_from_the_values(kind: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    answers = set()
    for index, chart in enumerate(CHARTS):
        assert len(worth(chart)) == len(chart.items)
        for language in ("en", "zh"):
            qa = make_question(random.Random(index), chart, kind, language)
            if qa is None:
                values = list(worth(chart).values())
                assert kind in ("largest", "smallest", "compare") and len(set(values)) < len(values)
                continue
            seen[chart.kind, language] = seen.get((chart.kind, language), 0) + 1
            answers.add(said(kind, qa.answer))
            assert told_apart(qa)
            assert said(kind, qa.answer) == truth(chart, kind, qa.question), (chart.items, qa)
            if kind != "chart":
                assert re.search(ITEM_WORDS[chart.kind], qa.question), qa
    assert len(seen) == 6 and min(seen.values()) >= 10 and len(answers) >= 2


@pytest.mark.parametrize("language", ["en", "zh"])
def test_captions_name_the_chart_and_every_value(language: str) -> None:
    for chart in CHARTS:
        name, rest = re.split("[:：] ?", caption(chart, language).answer)
        assert NAMES[name] == chart.kind
        parts = re.split("; |；", rest)
        values = [int(re.findall(r"\d+", part)[0]) for part in parts]
        told = dict(zip([colours_in(part)[0] for part in parts], values, strict=True))
        assert told == {colour: value * (10 if chart.kind == "pie" else 1) for colour, value in worth(chart).items()}
        assert all(part.endswith("%") == (chart.kind == "pie") for part in parts)


def test_every_kind_of_chart_has_templates_in_both_languages() -> None:
    for language in ("en", "zh"):
        assert set(ASK[language]) == set(KINDS)
        assert all(set(ways) == set(ITEM_WORDS) and all(ways.values()) for ways in ASK[language].values())
