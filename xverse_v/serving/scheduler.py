"""Many requests, one engine: the scheduler behind the server's routes.

What crosses: `Request`s in from any thread, a `Ticket` for each out. One thread owns the engine and lets requests join
and leave between tokens; a few others open images and make prompts; a clock ends what takes too long. Nothing here
knows HTTP, keys or JSON.

    scheduler = Scheduler(load("nano"), SchedulerLimits(rows=8))
    scheduler.start()
    ticket = scheduler.submit(Request("What is it?", (image_bytes,), tenant="key-1", schema={"type": "object"}))
    async with ticket:                       # leaving it early cancels
        async for chunk in ticket: ...       # raises XverseError where the answer fails
    answer = ticket.answer                   # receipt: prompt_tokens, cached_tokens, completion_tokens
    await asyncio.to_thread(scheduler.close, 30.0)

Errors of `submit`: E144 the queue is full (``facts["retry_after"]`` whole seconds), E146 shutting down, E147 the engine
thread has failed. Errors of a ticket: those of the prompt (E1xx, E5xx), E130 memory, E131 logits, E140 to E143 a
schema, E145 its time is over, E146, E147, E148 a failure of ours (logged with its trace).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import get_args

import torch

from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import Chunk, FinishReason
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.generation import Generation

from .scheduler_facts import Health, SchedulerLimits, SchedulerStats
from .scheduler_queue import Line, Pace
from .scheduler_ticket import Ticket

__all__ = ["Health", "Scheduler", "SchedulerLimits", "SchedulerStats", "Ticket"]

_log = logging.getLogger(__name__)

_JOIN_SECONDS = 10.0  # a thread in the middle of a pass ends with it; one that hangs must not keep the process


class Scheduler:
    """Owns an assistant: nobody else may ask it while the scheduler runs."""

    def __init__(self, assistant: Assistant, limits: SchedulerLimits | None = None) -> None:
        self.limits = limits or SchedulerLimits()
        self._assistant = assistant
        self._engine = assistant.engine
        self._engine.pass_tokens = self.limits.pass_tokens
        self._lock = threading.Lock()  # guards everything below; taken before a ticket's, never after it
        self._to_prepare, self._to_answer = threading.Condition(self._lock), threading.Condition(self._lock)
        self._to_watch, self._drained = threading.Condition(self._lock), threading.Condition(self._lock)
        self._health: Health = "stopped"
        self._failure: XverseError | None = None
        self._stopping = False
        self._line, self._pace = Line(), Pace()
        self._open: dict[int, Ticket] = {}  # every ticket that has not ended
        self._watched = float("inf")  # when the clock wakes next
        self._preparing = 0
        self._ready: deque[Ticket] = deque()
        self._running: dict[Generation, Ticket] = {}
        self._counts: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        work = [("engine", self._answer), ("clock", self._watch)]
        work += [(f"prepare-{number}", self._prepare_all) for number in range(self.limits.preparers)]
        self._threads = [threading.Thread(target=job, name=f"xverse-v-{name}", daemon=True) for name, job in work]

    def start(self) -> None:
        """Start the threads. Once."""
        self._health = "ready"
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, *, fixed_length: bool = True, seconds: float | None = None) -> Ticket:
        """Queue one request; never blocks. ``request.tenant`` names whose caches and whose turn it takes.

        ``fixed_length`` False lets ``max_new_tokens`` shrink to what fits. ``seconds`` may lower the limit, not raise
        it. Raises E144, E146, E147.
        """
        allowed = self.limits.seconds if seconds is None else min(seconds, self.limits.seconds)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._health != "ready":
                raise error("E146", running=len(self._running))
            waiting = len(self._line) + self._preparing + len(self._ready)
            if waiting >= self.limits.queue:
                self._counts["refused"] += 1
                retry = self._pace.seconds_for(waiting, time.perf_counter())
                raise error("E144", waiting=waiting, limit=self.limits.queue, retry_after=retry)
            self._counts["submitted"] += 1
            ticket = Ticket(self._counts["submitted"], request, fixed_length, allowed, self._closed)
            self._open[ticket.number] = ticket
            self._line.add(ticket)
            self._to_prepare.notify()
            if ticket.deadline < self._watched:
                self._to_watch.notify()
        return ticket

    @property
    def health(self) -> Health:
        """ "ready" takes requests; "draining" finishes what it has; "failed" needs a new process (see `failure`)."""
        return self._health

    @property
    def failure(self) -> XverseError | None:
        """E147, if the engine thread has ended by itself."""
        return self._failure

    def stats(self) -> SchedulerStats:
        """Callable from any thread at any time."""
        caches = self._assistant.cache_stats()
        with self._lock:
            return SchedulerStats(
                health=self._health,
                waiting=len(self._line),
                preparing=self._preparing,
                ready=len(self._ready),
                running=len(self._running),
                submitted=self._counts["submitted"],
                refused=self._counts["refused"],
                ended=dict(self._ended),
                failed=dict(self._failed),
                prompt_tokens=self._counts["prompt"],
                cached_tokens=self._counts["cached"],
                completion_tokens=self._counts["completion"],
                caches=caches,
            )

    def close(self, seconds: float = 30.0) -> None:
        """Refuse new requests, let those there are finish for at most ``seconds``, fail the rest with E146. Blocks."""
        with self._lock:
            if self._health == "stopped":
                return
            if self._health == "ready":
                self._health = "draining"
            self._drained.wait_for(lambda: not self._open, timeout=seconds)
            left = list(self._open.values())
        for ticket in left:
            ticket.fail(error("E146", running=len(left)))
        with self._lock:
            self._stopping = True
            for condition in (self._to_prepare, self._to_answer, self._to_watch):
                condition.notify_all()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        self._health = "stopped"

    # Threads ----------------------------------------------------------------------------------------------------------

    def _prepare_all(self) -> None:
        """Make prompts, as far ahead of the engine as there are rows."""

        def due() -> bool:
            return self._stopping or (len(self._line) > 0 and self._preparing + len(self._ready) < self.limits.rows)

        while True:
            with self._lock:
                self._to_prepare.wait_for(due)
                if self._stopping:
                    return
                ticket = self._line.take()
                self._preparing += 1
            self._prepare(ticket)
            with self._lock:
                self._preparing -= 1
                if not ticket.ended:
                    self._ready.append(ticket)
                    self._to_answer.notify()

    def _prepare(self, ticket: Ticket) -> None:
        try:
            generation = self._assistant.generation(ticket.request, fixed_length=ticket.fixed_length)
            ticket.prepared(generation)
            self._engine.look_ahead(generation)
        except Exception as reason:  # whatever it is, it is this request's
            ticket.fail(self._problem(ticket, reason))

    def _waiting(self) -> Iterator[Generation | None]:
        """What the engine asks for the next one. Sleeps only while no row is in use."""
        while True:
            with self._lock:
                self._to_answer.wait_for(lambda: self._ready or self._running or self._stopping)
                if self._stopping and not self._running:
                    return
                ticket = self._ready.popleft() if self._ready else None
                generation = None if ticket is None else ticket.start()
                if ticket is not None:
                    self._to_prepare.notify()
                    if generation is not None:
                        self._running[generation] = ticket
            yield generation

    def _answer(self) -> None:
        """The engine's thread."""
        try:
            for generation, outcome in self._engine.serve(self._waiting(), self.limits.rows):
                self._hand_over(generation, outcome)
        except BaseException as reason:
            _log.exception("the engine thread ended")
            self._fail_all(reason)

    def _hand_over(self, generation: Generation, outcome: Chunk | Exception) -> None:
        tokens = () if isinstance(outcome, Exception) else outcome.token_ids
        ended = isinstance(outcome, Exception) or outcome.finish_reason is not None
        with self._lock:
            ticket = self._running.pop(generation) if ended else self._running[generation]
            self._counts["completion"] += len(tokens)
            if len(generation.token_ids) == len(tokens) > 0:  # its first: the prompt is done
                self._counts["prompt"] += len(generation.job.prompt.token_ids)
                self._counts["cached"] += generation.cached_tokens
        if not isinstance(outcome, Exception):
            ticket.put(outcome)
            return
        ticket.fail(self._problem(ticket, outcome))
        if isinstance(outcome, torch.AcceleratorError):
            raise outcome  # a device that failed once fails every pass from then on

    def _watch(self) -> None:
        """The clock: ends what takes too long, whatever state it or the engine is in."""
        while True:
            with self._lock:
                if self._stopping:
                    return
                self._watched = min((ticket.deadline for ticket in self._open.values()), default=float("inf"))
                left = self._watched - time.perf_counter()
                if left > 0:
                    self._to_watch.wait(left if self._open else None)
                now = time.perf_counter()
                late = [ticket for ticket in self._open.values() if ticket.deadline <= now]
            for ticket in late:
                made = 0 if ticket.generation is None else len(ticket.generation.token_ids)
                ticket.fail(error("E145", seconds=f"{ticket.seconds:g}", tokens=made))

    # Ends -------------------------------------------------------------------------------------------------------------

    def _closed(self, ticket: Ticket) -> None:
        """A ticket has ended, in whatever thread."""
        with self._lock:
            del self._open[ticket.number]
            if not self._line.remove(ticket) and ticket in self._ready:
                self._ready.remove(ticket)
            self._to_prepare.notify()  # there may be room ahead again
            ended = self._ended if ticket.outcome in get_args(FinishReason) else self._failed
            ended[ticket.outcome] += 1
            if ticket.times.started is not None:
                self._pace.ended(time.perf_counter())
            if not self._open:
                self._drained.notify_all()

    def _problem(self, ticket: Ticket, reason: Exception) -> XverseError:
        """The error a client may see. A failure of ours keeps its trace to the log."""
        if isinstance(reason, XverseError):
            return reason
        _log.error("request %d failed", ticket.number, exc_info=reason)
        return error("E148", kind=type(reason).__name__, number=ticket.number)

    def _fail_all(self, reason: BaseException) -> None:
        """The engine thread ends: nobody is left to answer."""
        problem = error("E147", reason=f"{type(reason).__name__}: {reason}".splitlines()[0])
        with self._lock:
            self._failure, self._health = problem, "failed"
            tickets = list(self._open.values())
        for ticket in tickets:
            ticket.fail(problem)
