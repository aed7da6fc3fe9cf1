"""The server measured: over real HTTP against the built-in model, and what becomes of requests that fail."""

from __future__ import annotations

import re

import pytest

from xverse_v.errors import XverseError
from xverse_v.speed import clients, serving
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.clients import Load, Reply
from xverse_v.speed.serving import Served, ServingCase
from xverse_v.speed.sizes import SIZES
from xverse_v.speed.subject import shape_named
from xverse_v.speed.workloads import made_image, workloads

MADE_UP = Rate("made up", "FLOP/s", (1e9,), "no probe")
CEILINGS = Ceilings("made up", 1, {"float32": MADE_UP}, (MADE_UP,), MADE_UP)


def reply(seconds: float = 1.0, **changes) -> Reply:
    facts = {"status": 200, "text": "red", "times": [seconds, 2 * seconds], "prompt_tokens": 300, "tokens": 5}
    return Reply(**{**facts, **changes})


def test_fresh_images_are_all_different_and_shared_ones_are_ten():
    fresh, shared, long = workloads("any", 30)
    images = [{body["messages"][0]["content"][0]["image_url"]["url"] for body in w.bodies} for w in (fresh, shared)]
    assert [len(found) for found in images] == [30, 10]
    assert made_image(3) == made_image(3)
    assert all("response_format" in body for body in long.bodies)


def test_a_load_counts_answers_and_not_failures():
    load = Load([reply(0.1), reply(0.3), reply(status=429, code="busy")], 2.0, 0.6, 0.3)
    assert load.per_second == 1.0
    assert load.first() == pytest.approx((0.2, 0.29))
    assert load.each() == pytest.approx((0.05, 0.0725))
    found = load.as_dict()
    assert found["codes"] == {"busy": 1} and found["server_cpu_ms"] == 200


def test_failed_requests_are_an_error_and_no_rate():
    with pytest.raises(XverseError) as problem:
        serving.checked(Load([reply(), reply(status=503, code="full")], 1.0, None, 0.0), "fresh")
    assert problem.value.code == "E818" and problem.value.facts["failed"] == 1


def test_a_known_image_is_not_computed_again():
    replies = [reply()]
    fresh, step = serving.request_work(SIZES["tiny"], "fresh", replies, 1, "float32")
    shared, same = serving.request_work(SIZES["tiny"], "shared", replies, 1, "float32")
    assert shared.flops < fresh.flops / 3 and step == same


def test_another_answer_under_load_is_a_missed_goal():
    assert Served([], 10, 0).goals()[0].met and not Served([], 10, 1).goals()[0].met
    assert not Served([], 0, 0).goals()[0].met
    assert Served([], 1, 0, {"fresh": 0.5}).goals()[1].met is False


@pytest.mark.slow
def test_the_server_is_measured_over_http():
    case = ServingCase(shape_named("nano", "tiny"), "nano", clients=2, requests=4, batch=2)
    found = serving.measure_serving(case, CEILINGS)
    assert (found.compared, found.different) == (8, 0)
    rows = {(row.what, row.settings["workload"], row.settings["clients"]) for row in found.records}
    assert {("requests", "fresh", 1), ("requests", "shared", 2), ("first token, p50", "fresh", 2)} <= rows
    assert all(row.settings["answer tokens"] > 0 for row in found.records)


def test_a_server_that_does_not_start_says_why(tmp_path):
    server = clients.server_process(str(tmp_path), tmp_path / "log", name="any", batch=1, queue=1)
    with pytest.raises(XverseError) as problem, server:
        pass
    assert problem.value.code == "E817" and problem.value.facts["status"] != 0
    assert re.search(r"E\d{3} ", problem.value.facts["problem"])
