"""What goes wrong stays with its own request, and closing leaves nothing behind."""

import threading

import pytest
import torch
from PIL import Image

from tests.serving.scheduling import PATIENCE, ask, eventually, result
from xverse_v.errors import XverseError
from xverse_v.inference import engine as engine_module
from xverse_v.inference.generation import Generation


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ask(images=("data:image/png;base64,AAAA",)), "E521"),
        (ask(images=(b"",)), "E510"),
        (ask(tokens=5000), "E120"),
        (ask(schema={"not": {}}), "E140"),
        (ask(images=(Image.new("RGB", (40, 40)),), max_tiles=99), "E112"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_request_fails_alone(started, request_, code):
    scheduler = started(rows=3)
    good, bad, other = scheduler.submit(ask()), scheduler.submit(request_), scheduler.submit(ask("a"))
    assert result(bad).code == code
    assert (len(result(good).token_ids), len(result(other).token_ids)) == (6, 6)
    assert scheduler.health == "ready" and scheduler.stats().failed == {code: 1}


def test_a_failure_of_ours_is_the_requests_and_its_trace_is_in_the_log(started, monkeypatch, caplog):
    scheduler = started()
    monkeypatch.setattr(Generation, "accept", lambda *a: 1 / 0)
    problem = result(scheduler.submit(ask()))
    assert (problem.code, problem.facts["kind"]) == ("E148", "ZeroDivisionError")
    assert "ZeroDivisionError" in caplog.text and "in accept_together" in caplog.text
    monkeypatch.undo()
    assert result(scheduler.submit(ask())).finish_reason == "length"


@pytest.mark.parametrize("reason", [torch.AcceleratorError("CUDA error: illegal memory access"), SystemError("broken")])
def test_a_device_or_a_thread_that_is_lost_shows_in_health(started, monkeypatch, caplog, reason):
    scheduler = started(rows=2)

    def lost(*args):
        raise reason

    if isinstance(reason, SystemError):
        monkeypatch.setattr(engine_module.Engine, "_round", lost)
    else:
        monkeypatch.setattr(engine_module, "decode", lost)
    tickets = [scheduler.submit(ask()) for _ in range(4)]
    codes = {result(ticket).code for ticket in tickets}
    assert codes <= {"E147", "E148"}
    eventually(lambda: scheduler.health == "failed")
    assert scheduler.failure is not None and str(reason) in scheduler.failure.facts["reason"]
    with pytest.raises(XverseError) as caught:
        scheduler.submit(ask())
    assert caught.value.code == "E147"
    assert scheduler.stats().health == "failed"


def test_closing_finishes_what_is_there_and_takes_nothing_new(started, gate):
    scheduler = started(rows=1)
    tickets = [scheduler.submit(ask()) for _ in range(3)]
    assert gate.reached.wait(PATIENCE)
    closing = threading.Thread(target=scheduler.close, args=(PATIENCE,))
    closing.start()
    eventually(lambda: scheduler.health == "draining")
    with pytest.raises(XverseError) as caught:
        scheduler.submit(ask())
    assert caught.value.code == "E146"
    gate.open.set()
    assert [result(ticket).finish_reason for ticket in tickets] == ["length"] * 3
    closing.join(PATIENCE)
    assert scheduler.health == "stopped"


def test_closing_ends_what_does_not_finish_in_time(started):
    scheduler = started(rows=1)
    tickets = [scheduler.submit(ask(tokens=900)), scheduler.submit(ask())]
    next(tickets[0].chunks())
    scheduler.close(0.0)
    assert [result(ticket).code for ticket in tickets] == ["E146", "E146"]
    assert scheduler.health == "stopped"
    scheduler.close(0.0)
