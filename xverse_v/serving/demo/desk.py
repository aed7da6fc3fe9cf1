"""The one thread that uses the model, and the line in front of it.

What crosses: pieces of work in (functions that are given a `tell`), what they tell out, in another thread. However many
visitors there are, one piece runs at a time, first come first served, so no two of them ever touch the model or its
caches together. A consumer that goes away stops nobody: its work ends when its `cancel` is set or it is done. The file
knows no model, no images and no web.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from xverse_v.errors import error

T = TypeVar("T")
Work = Callable[[Callable[[T], None]], None]

LONGEST_LINE = 32
_LOOK_EVERY = 0.2  # seconds between looks at one's place in the line


@dataclass(frozen=True)
class Waiting:
    """How many pieces of work come before this one, the running one included; 0 is being served."""

    ahead: int


@dataclass(frozen=True)
class _Ended:
    """The last thing a ticket gets: why it ended, None if well."""

    problem: BaseException | None


class Ticket(Generic[T]):
    """A place in the line. Iterate it once: `Waiting` while the place changes, then what the work tells.

    Raises what the work raised. ``cancel`` ends it: at once while it waits; once running it is the work's to obey.
    """

    def __init__(self, desk: Desk, work: Work[T], cancel: threading.Event) -> None:
        self.work, self.cancel = work, cancel
        self.news: queue.SimpleQueue[T | _Ended] = queue.SimpleQueue()
        self._desk = desk

    def __iter__(self) -> Iterator[T | Waiting]:
        told: int | None = None
        while True:
            try:
                item = self.news.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                ahead = self._desk.ahead_of(self)
                if self.cancel.is_set() and self._desk.leave(self):
                    return
                if ahead != told:
                    told = ahead
                    yield Waiting(ahead)
                continue
            if isinstance(item, _Ended):
                if item.problem is not None:
                    raise item.problem
                return
            yield item


class Desk:
    """Runs work in its own daemon thread. ``longest_line``: pieces that may wait; one more is refused with E666."""

    def __init__(self, longest_line: int = LONGEST_LINE) -> None:
        self._longest = longest_line
        self._line: deque[Ticket[object]] = deque()
        self._serving: Ticket[object] | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="xverse-v demo model", daemon=True)
        self._thread.start()

    def take(self, work: Work[T], cancel: threading.Event) -> Ticket[T]:
        """Stand in line. Raises E666 if it is full."""
        ticket: Ticket[T] = Ticket(self, work, cancel)
        with self._changed:
            if len(self._line) >= self._longest:
                raise error("E666", waiting=len(self._line))
            self._line.append(ticket)  # type: ignore[arg-type]  # the desk only passes on what the work tells
            self._changed.notify()
        return ticket

    def ahead_of(self, ticket: Ticket[T]) -> int:
        """Pieces of work before this one; 0 if it runs or has run."""
        with self._changed:
            places: list[object] = list(self._line)
            return places.index(ticket) + (self._serving is not None) if ticket in places else 0

    def leave(self, ticket: Ticket[T]) -> bool:
        """Out of the line, if it still stands there."""
        with self._changed:
            if ticket not in self._line:
                return False
            self._line.remove(ticket)  # type: ignore[arg-type]
            return True

    def close(self) -> None:
        """Serve nobody new and cancel what waits or runs; returns when the thread has ended, or after ten seconds."""
        with self._changed:
            self._closed = True
            for ticket in [*self._line, *([self._serving] if self._serving else [])]:
                ticket.cancel.set()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._serving = None
                while not self._line and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                ticket = self._serving = self._line.popleft()
            problem: BaseException | None = None
            try:
                if not ticket.cancel.is_set():
                    ticket.work(ticket.news.put)
            except BaseException as reason:  # whatever it is, it belongs to the one who asked, and the desk stays open
                problem = reason
            ticket.news.put(_Ended(problem))
