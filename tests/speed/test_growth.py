"""Slopes and their verdicts, the caches that curves are measured on, and pictures of them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from xverse_v.speed import growth, peaks, plots
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.growth import Curve, Point, Sizes
from xverse_v.speed.peers import Ours
from xverse_v.speed.records import Record, Sample, conditions
from xverse_v.speed.report import Section, markdown
from xverse_v.speed.subject import Subject, build_subject

MADE_UP = Rate("made up", "FLOP/s", (1e9,), "no probe")
CEILINGS = Ceilings("made up", 1, {"float32": MADE_UP}, (MADE_UP,), MADE_UP)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build_subject(None, "tiny", "float32", "cpu")


def curve(power: float, peaks_known: bool = True) -> Curve:
    points = [
        Point(x, (Sample(x**power, 1.0),), 0.5 * x, "matrix rate", 9 * x if peaks_known else None, x)
        for x in (1, 4, 16)
    ]
    return Curve("first token", "views", tuple(points))


def test_a_slope_is_the_power_of_growth():
    assert growth.slope([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert growth.slope([1, 10], [5, 5]) == pytest.approx(0)


def test_a_curve_steeper_than_its_roofline_is_a_missed_goal():
    time, memory = growth.verdicts([curve(1.05)])
    assert time.met and memory.met
    assert growth.verdicts([curve(1.2)])[0].met is False
    assert growth.verdicts([curve(1.0, peaks_known=False)])[1].met is None


def test_every_curve_is_measured_beside_its_roofline(subject):
    sizes = Sizes(views=(1, 3), questions=(1, 2), context=(128, 256), batch=(1, 2), repeats=1)
    curves = growth.measure_growth(subject, CEILINGS, sizes)
    assert [c.against for c in curves] == ["views", "questions", "context", "context", "batch"]
    for found in curves:
        xs, ys, least = found.time()
        assert len(xs) == 2 and xs[0] < xs[1] and min(ys) > 0 and 0 < least[0] <= least[1]
    assert len(growth.verdicts(curves)) == 10
    rows = growth.records_of(curves, subject)
    assert sum(row.unit == "s" for row in rows) == 10


def test_a_long_question_has_about_the_tokens_that_were_wanted(subject):
    for wanted in (512, 2048):
        text = growth.prompt_of(wanted, subject.processor.tokenizer)
        run = Ours(subject.assistant).answer_to((text,), 2)
        assert run.prompt_tokens == pytest.approx(wanted, abs=40)


def test_a_filled_cache_has_the_length_it_says_in_every_row(subject):
    cache = growth.filled_cache(subject.network, rows=3, context=200, more=5)
    assert [cache.length(row) for row in range(3)] == [200] * 3
    keys = cache.layers[0].keys
    assert keys.shape[0] >= 3 and keys.shape[2] >= 205
    assert torch.equal(keys[0, :, :200], keys[2, :, :200]) and keys[0, :, 199].abs().sum() > 0


def test_a_peak_is_at_least_what_was_held():
    found = peaks.peak_bytes(lambda: torch.ones(2**24).sum())
    assert found is None or found >= 0.9 * 2**26


def test_pictures_stand_beside_the_report(tmp_path):
    row = Record("first token", "xverse-v", "s", (2.0,), {"views": 7}, 1.5, "matrix rate")
    sections = [
        Section("Answers", [row]),
        Section("Growth", [], curves=[curve(1.0), curve(1.3, peaks_known=False)]),
        Section("Words", words=("nothing to draw",)),
    ]
    drawn = plots.illustrate(tmp_path / "today.md", sections)
    text = markdown("title", conditions(), drawn)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["today-1.png", "today-2.png"]
    for name in ("today-1.png", "today-2.png"):
        assert f"]({name})" in text
        with Image.open(tmp_path / name) as image:
            assert image.width > 600
