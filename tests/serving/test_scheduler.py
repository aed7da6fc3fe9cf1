"""Many requests at once: right answers, fair turns, bounds that hold, and failures that stay with their own."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from tests.inference.small_model import noise, small_assistant
from xverse_v.errors import XverseError
from xverse_v.inference import engine as engine_module
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.generation import Generation
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.serving.scheduler import Scheduler, SchedulerLimits
from xverse_v.serving.scheduler_queue import Line, Pace
from xverse_v.serving.scheduler_ticket import Ticket

PATIENCE = 120  # seconds; a bound for what must happen, never a measure


def ask(question: str = "What is it?", tokens: int = 6, **more) -> Request:
    return Request(question, settings=SamplingSettings(max_new_tokens=tokens), **more)


class Gate:
    """Holds every decode step until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        original = engine_module.decode

        def held(*args):
            self.reached.set()
            assert self.open.wait(PATIENCE)
            return original(*args)

        monkeypatch.setattr(engine_module, "decode", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


@pytest.fixture
def started() -> Iterator:
    """Makes started schedulers and closes them; none may leave a thread behind."""
    made: list[Scheduler] = []

    def start(assistant: Assistant | None = None, **limits) -> Scheduler:
        scheduler = Scheduler(assistant or small_assistant(), SchedulerLimits(**limits))
        scheduler.start()
        made.append(scheduler)
        return scheduler

    yield start
    for scheduler in made:
        scheduler.close(0.0)
        assert not any(thread.is_alive() for thread in scheduler._threads)


def result(ticket: Ticket):
    """The answer or the error, waited for in this thread."""

    async def wait():
        return await asyncio.wait_for(ticket.wait(), PATIENCE)

    try:
        return asyncio.run(wait())
    except XverseError as problem:
        return problem


def eventually(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)


def test_many_at_once_are_answered_as_one_by_one(started):
    kinds = [ask("What is it? " * (n % 3 + 1), n + 2, images=(noise(60, 60, n % 2),)[: n % 3]) for n in range(6)]
    expected = [small_assistant().batch([request])[0].text for request in kinds]
    scheduler = started(rows=4)

    async def one(request: Request) -> tuple[str, str]:
        async with scheduler.submit(request) as ticket:
            chunks = [chunk async for chunk in ticket]
        assert [chunk.finish_reason is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
        return "".join(chunk.text for chunk in chunks), ticket.answer.text

    async def everybody():
        return await asyncio.wait_for(asyncio.gather(*map(one, kinds * 4)), PATIENCE)

    answers = asyncio.run(everybody())
    assert answers == [(text, text) for text in expected * 4]
    stats = scheduler.stats()
    assert (stats.waiting, stats.preparing, stats.ready, stats.running) == (0, 0, 0, 0)
    assert (stats.submitted, sum(stats.ended.values()), stats.failed) == (24, 24, {})
    assert stats.completion_tokens == 4 * sum(n + 2 for n in range(6))
    assert 0 < stats.cached_tokens < stats.prompt_tokens
    assert stats.caches["prefix"].entries == 2


def test_a_thread_may_read_chunks_too(started):
    ticket = started().submit(ask(tokens=9))
    chunks = list(ticket.chunks())
    assert len(chunks) == 9 and "".join(chunk.text for chunk in chunks) == ticket.answer.text
    assert ticket.prompt_tokens == ticket.answer.receipt.prompt_tokens
    times = ticket.times
    assert times.submitted <= times.prepared <= times.started <= times.first_token <= times.ended


def test_a_full_queue_refuses_with_a_time_to_come_back(started, gate):
    scheduler = started(rows=1, queue=3)
    first = scheduler.submit(ask())
    assert gate.reached.wait(PATIENCE)
    others = [scheduler.submit(ask()) for _ in range(3)]
    with pytest.raises(XverseError) as caught:
        scheduler.submit(ask())
    assert (caught.value.code, caught.value.facts["limit"]) == ("E144", 3)
    assert 1 <= caught.value.facts["retry_after"] <= 60
    assert scheduler.stats().refused == 1
    others[1].cancel()  # its place is free at once
    late = scheduler.submit(ask())
    gate.open.set()
    assert [result(t).finish_reason for t in (first, others[0], others[2], late)] == ["length"] * 4


def test_cancelling_ends_within_one_token_and_the_others_go_on(started, gate):
    scheduler = started(rows=2)
    first, second = scheduler.submit(ask(tokens=500)), scheduler.submit(ask("a", tokens=30))
    assert gate.reached.wait(PATIENCE)
    first.cancel()
    gate.open.set()
    answer = result(first)
    assert answer.finish_reason == "cancelled" and len(answer.token_ids) <= 3
    assert len(result(second).token_ids) == 30
    assert scheduler.stats().ended == {"cancelled": 1, "length": 1}


def test_cancelling_a_request_that_waits_takes_it_out_of_line(started, gate):
    scheduler = started(rows=1)
    first = scheduler.submit(ask())
    assert gate.reached.wait(PATIENCE)
    waiting = [scheduler.submit(ask(f"{n}")) for n in range(4)]
    eventually(lambda: scheduler.stats().ready == 1)
    for ticket in waiting:
        ticket.cancel()
    assert all(ticket.ended for ticket in waiting)
    stats = scheduler.stats()
    assert (stats.waiting, stats.ready, stats.running) == (0, 0, 1)
    assert result(waiting[3]).code == "E149"
    gate.open.set()
    assert result(first).finish_reason == "length"


def test_leaving_the_block_cancels(started):
    scheduler = started()

    async def leave() -> Ticket:
        async with scheduler.submit(ask(tokens=900)) as ticket:
            await anext(ticket)
        return ticket

    ticket = asyncio.run(leave())
    assert result(ticket).finish_reason == "cancelled"


def test_time_that_is_over_ends_a_request_that_runs_and_one_that_waits(started, gate):
    scheduler = started(rows=1)
    running, waiting = scheduler.submit(ask(), seconds=0.5), scheduler.submit(ask("a"), seconds=0.3)
    unhurried = scheduler.submit(ask("b"))
    for ticket in (running, waiting):
        problem = result(ticket)  # the engine itself hangs behind the gate
        assert problem.code == "E145" and float(problem.facts["seconds"]) <= 0.5
    gate.open.set()
    assert result(unhurried).finish_reason == "length"
    assert scheduler.stats().failed == {"E145": 2}


def test_seconds_may_only_be_lowered(started):
    scheduler = started(seconds=5.0)
    assert scheduler.submit(ask(), seconds=50.0).seconds == 5.0
    assert scheduler.submit(ask(), seconds=2.0).seconds == 2.0


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


def test_an_idle_engine_asks_nothing(started):
    scheduler = started()
    result(scheduler.submit(ask()))
    eventually(lambda: scheduler.stats().running == 0)
    before, spent = scheduler._engine.row_cache, []
    scheduler._engine.row_cache = lambda rows: spent.append(rows) or before(rows)
    time.sleep(0.3)
    assert len(spent) <= 1, "the loop of the engine turns while there is nothing to do"
    assert result(scheduler.submit(ask())).finish_reason == "length"


def test_images_are_opened_and_cut_outside_the_engines_thread(started, monkeypatch):
    from xverse_v.inference import features, prompt

    threads: dict[str, set[str]] = {"open": set(), "cut": set(), "encode": set()}

    def noted(name: str, original):
        def work(*args, **kwargs):
            threads[name].add(threading.current_thread().name)
            return original(*args, **kwargs)

        return work

    monkeypatch.setattr(prompt, "open_image", noted("open", prompt.open_image))
    monkeypatch.setattr(prompt.PreparedImage, "pixel_values", noted("cut", prompt.PreparedImage.pixel_values))
    monkeypatch.setattr(features.ImageTokens, "_encode", noted("encode", features.ImageTokens._encode))
    scheduler = started()
    tickets = [scheduler.submit(ask(images=(noise(60, 60, n),))) for n in range(4)]
    assert {result(ticket).finish_reason for ticket in tickets} == {"length"}
    assert all(used and all("prepare" in name for name in used) for used in threads.values()), threads


def test_prepared_requests_are_bounded_by_the_rows(started, gate):
    """A ready request holds its images decoded, so the line in front is of requests as they came."""
    scheduler = started(rows=2, queue=50)
    tickets = [scheduler.submit(ask()) for _ in range(12)]
    assert gate.reached.wait(PATIENCE)
    eventually(lambda: scheduler.stats().ready == 2)
    stats = scheduler.stats()
    assert (stats.preparing, stats.waiting) == (0, 12 - 2 - stats.running) and stats.running <= 2
    gate.open.set()
    assert {result(ticket).finish_reason for ticket in tickets} == {"length"}


def waiting_ticket(number: int, tenant: str) -> Ticket:
    return Ticket(number, ask(tenant=tenant), True, 60.0, lambda ticket: None)


def test_tenants_take_turns():
    line = Line()
    tickets = [waiting_ticket(n, tenant) for n, tenant in enumerate("aaaabac")]
    for ticket in tickets:
        line.add(ticket)
    assert line.remove(tickets[1]) and not line.remove(tickets[1])
    assert not line.remove(waiting_ticket(9, "nobody"))
    assert len(line) == 6
    assert [line.take().number for _ in range(6)] == [0, 4, 6, 2, 3, 5]
    assert len(line) == 0
    with pytest.raises(KeyError):
        line.take()


def test_the_time_to_come_back_follows_the_pace():
    pace = Pace()
    assert pace.seconds_for(100, 0.0) == 1
    for second in range(10):
        pace.ended(float(second * 2))
    assert pace.seconds_for(8, 20.0) == 16
    assert pace.seconds_for(1000, 20.0) == 60
    assert pace.seconds_for(0, 20.0) == 1


def test_prompts_may_be_made_in_many_threads_at_once():
    """The tokenizer, the template and the tiler are shared; the engine's thread decodes with the first meanwhile."""
    assistant = small_assistant()
    requests = [ask(f"question {n} " * 9, images=(noise(84, 60, n),)) for n in range(4)]
    expected = [assistant.generation(request).job.prompt for request in requests]
    problems: list[object] = []

    def work(seed: int) -> None:
        for turn in range(12):
            n = (seed + turn) % 4
            made = assistant.generation(requests[n]).job.prompt
            if made.token_ids != expected[n].token_ids or made.images[0].key != expected[n].images[0].key:
                problems.append(n)
            if not torch.equal(made.images[0].pixel_values(), expected[n].images[0].pixel_values()):
                problems.append(("pixels", n))
            assistant.engine.tokenizer.decode(list(made.token_ids))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
