"""Views are bit-equal or it is an error; loading is measured in a process of its own."""

from __future__ import annotations

import re

import pytest
import torch

from xverse_v.errors import XverseError
from xverse_v.speed import images, loading
from xverse_v.speed.generate import noise_image
from xverse_v.speed.peers import OURS, RELEASE
from xverse_v.speed.sizes import SIZES, build_network, build_processor, write_folder
from xverse_v.weights.load import load_model


def test_both_ways_give_the_same_views_and_are_timed():
    records = images.measure_images(sizes=((300, 500), (200, 200)), repeats=2)
    assert [record.who for record in records] == [OURS, RELEASE] * 2
    assert [record.settings["views"] for record in records] == [3, 3, 1, 1]
    assert len(images.goals(records)) == 2


def test_one_bit_off_is_an_error():
    views = images.our_views(noise_image(230, 220))
    other = views.clone()
    other[0, 0, 0, 0] = torch.nextafter(other[0, 0, 0, 0], torch.tensor(9.0))
    with pytest.raises(XverseError) as problem:
        images.check_equal(views, other, 230, 220)
    assert problem.value.code == "E815" and problem.value.facts["count"] == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("speed") / "tiny"
    write_folder(build_network(SIZES["tiny"]), build_processor(SIZES["tiny"]), place)
    return place


def test_a_written_size_loads_as_it_was(folder):
    loaded, made = load_model(folder).state_dict(), build_network(SIZES["tiny"]).state_dict()
    assert loaded.keys() == made.keys() and all(torch.equal(loaded[name], made[name]) for name in made)


def test_loading_is_timed_beside_a_plain_read(folder):
    records = loading.measure_loading(folder, dtype="float32", repeats=1)
    assert [r.what for r in records].count("loading, every page read") == 2
    assert {r.settings.get("page cache") for r in records} == {"cold", "warm", None}
    goals = loading.goals(records)
    assert [goal.met is None for goal in goals] == [False, False]


def test_plain_reads_and_loads_start_alike_and_are_first_equally_often(folder, monkeypatch):
    """Both in a process of their own: what was forgotten a moment ago is read faster on some machines."""
    order = []

    def in_process(place, how):
        order.append(how)
        return {"read_seconds": 1.0, "load_seconds": 1.0, "weights_bytes": 1, "peak_bytes": 1}

    monkeypatch.setattr(loading, "in_process", in_process)
    monkeypatch.setattr(loading, "forget", lambda files: order.append("forgotten"))
    loading.measure_loading(folder, dtype="float32", repeats=2)
    cold, warm = order[:8], order[8:]
    assert cold[::2] == ["forgotten"] * 4 and cold[1::2] == warm == ["plain", "float32", "float32", "plain"]


def test_a_plain_read_is_no_load(folder):
    found = loading.in_process(folder, loading.PLAIN)
    assert list(found) == ["read_seconds"] and found["read_seconds"] > 0


def test_a_loading_process_that_fails_says_why(tmp_path):
    with pytest.raises(XverseError) as problem:
        loading.in_process(tmp_path, "float32")
    assert problem.value.code == "E816" and re.search(r"E\d{3} ", problem.value.facts["problem"])
