"""Charts: marks lie on what they name, values are what is drawn, styles vary."""

from __future__ import annotations

import numpy as np

from xverse_v.nano.charts import Chart, Item, make_chart
from xverse_v.nano.concepts import CONCEPTS
from xverse_v.nano.views import picture_meanings
from xverse_v.nano.world import split_seed

CHARTS = [make_chart(split_seed("check", index)) for index in range(150)]
DRAWN = CHARTS[:24]


def spot(chart: Chart, item: Item) -> tuple[int, int]:
    return round(item.y * chart.height), round(item.x * chart.width)


def off(pixels: np.ndarray, item: Item) -> np.ndarray:
    """int[...]: how far each pixel is from an item's paint, over the three channels."""
    return np.abs(pixels.astype(int) - np.round(255 * np.array(item.paint)).astype(int)).sum(-1)


def test_the_pixels_at_a_mark_have_the_items_colour() -> None:
    for chart in DRAWN:
        pixels = np.asarray(chart.draw())
        assert pixels.shape == (chart.height, chart.width, 3)
        for item in chart.items:
            y, x = spot(chart, item)
            near = off(pixels[y - 1 : y + 2, x - 1 : x + 2], item)
            assert near.min() < 40, (chart.seed, chart.kind, item, near)


def test_bars_are_as_high_and_slices_as_large_as_their_values() -> None:
    """The picture is measured, not the generator: columns of paint against the axis, areas against the whole."""
    measured = 0
    for chart in DRAWN:
        if chart.kind == "line":
            continue
        pixels = np.asarray(chart.draw())
        painted = [off(pixels, item) < 60 for item in chart.items]
        if chart.kind == "bar":
            _, bottom, _, height = chart.style.axes
            for item, mask in zip(chart.items, painted, strict=True):
                column = mask[:, spot(chart, item)[1]]
                assert abs(10 * column.sum() / (height * chart.height) - item.value) < 0.35, (chart.seed, item)
                assert abs(np.flatnonzero(column).max() - (1 - bottom) * chart.height) < 4
        else:
            areas = np.array([mask.sum() for mask in painted])
            shares = 10 * areas / areas.sum()
            assert np.abs(shares - [item.value for item in chart.items]).max() < 0.25, (chart.seed, shares)
        measured += 1
    assert measured > 10


def test_marks_name_every_item_in_the_global_view_in_patches_of_their_own() -> None:
    for chart in CHARTS:
        _, meanings = picture_meanings(chart)
        assert len(meanings) == len(chart.items) and all(view == 0 for view, _ in meanings)
        named = [{CONCEPTS[index] for index in names} for names in meanings.values()]
        values = {item.colour: item.values[-1] for item in chart.items}
        for names in named:
            (colour,) = [name.split()[1] for name in names if name.startswith("colour")]
            text = "".join(name.split()[1] for name in sorted(name for name in names if name.startswith("char")))
            assert text == str(values[colour] * (10 if chart.kind == "pie" else 1))
            assert f"kind {'slice' if chart.kind == 'pie' else chart.kind}" in names
            others = [value for name, value in values.items() if name != colour]
            assert ("rank largest" in names) == (values[colour] > max(others))
            assert ("rank smallest" in names) == (values[colour] < min(others))


def test_values_stay_on_the_axis_and_shares_make_a_whole() -> None:
    for chart in CHARTS:
        assert len({item.colour for item in chart.items}) == len(chart.items) >= 2
        for item in chart.items:
            assert 0 < item.x < 1 and 0 < item.y < 1
            assert all(1 <= value <= 9 for value in item.values)
        if chart.kind == "pie":
            assert sum(item.value for item in chart.items) == 10
        if chart.kind == "line":
            assert len({len(item.values) for item in chart.items}) == 1
    assert {chart.kind for chart in CHARTS} == {"bar", "line", "pie"}
    assert len({(chart.width, chart.height) for chart in CHARTS}) >= 5
    assert len({chart.style.title for chart in CHARTS}) >= 5
