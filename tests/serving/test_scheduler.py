"""Many requests at once: right answers, fair turns, bounds that hold, and failures that stay with their own."""

import asyncio

import pytest

from tests.inference.small_model import noise, small_assistant
from tests.serving.scheduling import PATIENCE, ask, eventually, result
from xverse_v.errors import XverseError
from xverse_v.inference.assistant import Request
from xverse_v.serving.scheduler_ticket import Ticket


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
