"""The desk: one thing at a time, in order, whoever leaves."""

from __future__ import annotations

import threading

import pytest

from xverse_v.errors import XverseError
from xverse_v.serving.demo.desk import Desk, Waiting


@pytest.fixture
def desk():
    desk = Desk(longest_line=3)
    yield desk
    desk.close()


def held(desk):
    """Work that runs until it is let go; returns its ticket and the event that lets it go."""
    started, go = threading.Event(), threading.Event()

    def work(tell):
        started.set()
        go.wait(20)
        tell("done")

    ticket = desk.take(work, threading.Event())
    assert started.wait(20)
    return ticket, go


def test_what_work_tells_arrives_in_order_and_ends(desk):
    ticket = desk.take(lambda tell: [tell(number) for number in range(5)], threading.Event())
    assert [item for item in ticket if not isinstance(item, Waiting)] == [0, 1, 2, 3, 4]


def test_one_at_a_time_first_come_first_served(desk):
    running, seen, overlaps = [], [], []

    def work(name):
        def run(tell):
            running.append(name)
            overlaps.append(len(running))
            seen.append(name)
            running.remove(name)

        return run

    first, go = held(desk)
    tickets = [desk.take(work(name), threading.Event()) for name in "abc"]
    assert [desk.ahead_of(ticket) for ticket in tickets] == [1, 2, 3]
    go.set()
    for ticket in (first, *tickets):
        list(ticket)
    assert seen == ["a", "b", "c"] and set(overlaps) == {1}


def test_the_place_in_the_line_is_told(desk):
    _, go = held(desk)
    waiting = iter(desk.take(lambda tell: tell("mine"), threading.Event()))
    assert next(waiting) == Waiting(1)
    go.set()
    assert "mine" in list(waiting)


def test_who_gives_up_in_the_line_is_never_served(desk):
    _, go = held(desk)
    ran, cancel = threading.Event(), threading.Event()
    ticket = desk.take(lambda tell: ran.set(), cancel)
    cancel.set()
    assert not [item for item in ticket if not isinstance(item, Waiting)]
    go.set()
    assert list(desk.take(lambda tell: tell(1), threading.Event()))[-1] == 1
    assert not ran.is_set()


def test_a_failure_belongs_to_the_one_who_asked(desk):
    def fails(tell):
        tell("before")
        raise ValueError("mine")

    seen = []
    with pytest.raises(ValueError, match="mine"):
        for item in desk.take(fails, threading.Event()):
            seen.append(item)
    assert "before" in seen
    assert list(desk.take(lambda tell: tell("open"), threading.Event()))[-1] == "open"


def test_a_consumer_that_goes_away_stops_nobody(desk):
    abandoned = iter(desk.take(lambda tell: [tell(n) for n in range(1000)], threading.Event()))
    next(abandoned)
    del abandoned
    assert list(desk.take(lambda tell: tell("next"), threading.Event()))[-1] == "next"


def test_a_full_line_is_refused(desk):
    _, go = held(desk)
    tickets = [desk.take(lambda tell: None, threading.Event()) for _ in range(3)]
    with pytest.raises(XverseError, match="E666"):
        desk.take(lambda tell: None, threading.Event())
    go.set()
    for ticket in tickets:
        list(ticket)


def test_closing_cancels_what_waits_and_runs():
    desk = Desk()
    cancel, waiting = threading.Event(), threading.Event()
    desk.take(lambda tell: cancel.wait(20), cancel)
    desk.take(lambda tell: None, waiting)
    desk.close()
    assert cancel.is_set() and waiting.is_set() and not desk._thread.is_alive()
