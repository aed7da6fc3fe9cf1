"""One request at the server, from submit to its last chunk: what the consumer holds and waits on.

What crosses: chunks and failures in from the engine thread (or the clock), the same chunks out to one consumer, either
an asyncio task (``async for chunk in ticket``, ``await ticket.wait()``) or a thread (``for chunk in ticket.chunks()``).
A ticket ends exactly once: with a chunk that has a finish reason, or with an error. It knows no queue and no model.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import Answer, Chunk, FinishReason
from xverse_v.inference.assistant import Request
from xverse_v.inference.generation import Generation


@dataclass
class Times:
    """When things happened, in seconds of `time.perf_counter`; None is not yet. ``started``: the engine took it."""

    submitted: float
    prepared: float | None = None
    started: float | None = None
    first_token: float | None = None
    ended: float | None = None


class Ticket(AsyncIterator[Chunk]):
    """Made by `Scheduler.submit`. One consumer at a time.

    - ``async for chunk in ticket``: chunks as they are made; the last one has a ``finish_reason``. Raises the request's
      `XverseError` where the answer failed, also after some chunks.
    - ``await ticket.wait()``: the whole `Answer`; wakes its task once.
    - ``ticket.chunks()``: as the first, for a thread.
    - ``ticket.cancel()``: from any thread; ends within one token with the finish reason "cancelled".
    - ``async with ticket:`` cancels on the way out, which is what a client that went away needs.

    ``times`` and ``prompt_tokens`` (None until prepared) may be read at any time.
    """

    def __init__(
        self, number: int, request: Request, fixed_length: bool, seconds: float, when_ended: Callable[[Ticket], None]
    ) -> None:
        self.number = number
        self.request = request
        self.fixed_length = fixed_length
        self.seconds = seconds
        self.times = Times(time.perf_counter())
        self.generation: Generation | None = None
        self._lock = threading.Lock()
        self._chunks: deque[Chunk] = deque()
        self._when_ended = when_ended
        self._failure: XverseError | None = None
        self._finish: FinishReason | None = None
        self._ended = False
        self._cancelled = False
        self._wake: Callable[[], None] | None = None
        self._wake_at_end = False  # a consumer of `wait` sleeps through the chunks

    # The consumer's side ----------------------------------------------------------------------------------------------

    @property
    def tenant(self) -> str:
        return self.request.tenant

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def prompt_tokens(self) -> int | None:
        return None if self.generation is None else len(self.generation.job.prompt.token_ids)

    def __aiter__(self) -> Ticket:
        return self

    async def __anext__(self) -> Chunk:
        while (chunk := self._next()) is None:
            if self._ended:
                raise StopAsyncIteration
            await self._changed(at_end=False)
        return chunk

    async def wait(self) -> Answer:
        """The whole answer. Raises the request's `XverseError`; E149 if it was cancelled before it was prepared."""
        while not self._ended:
            await self._changed(at_end=True)
        return self.answer

    def chunks(self) -> Iterator[Chunk]:
        """Chunks for a thread that may block."""
        while True:
            while (chunk := self._next()) is None:
                if self._ended:
                    return
                happened = threading.Event()
                if self._sleep(happened.set, at_end=False):
                    happened.wait()
            yield chunk

    @property
    def answer(self) -> Answer:
        """The answer of a ticket that has ended. Raises what `wait` raises, or ``RuntimeError`` before the end."""
        if not self._ended:
            raise RuntimeError("the answer is not finished; use wait()")
        if self._failure is not None:
            raise self._failure
        if self.generation is None:
            raise error("E149", number=self.number)
        return self.generation.answer()

    def cancel(self) -> None:
        """End within one token, from any thread. A request that waits ends now."""
        with self._lock:
            self._cancelled = True
            generation = self.generation
        if generation is not None:
            generation.job.cancel.set()
        if self.times.started is None:
            self.put(Chunk("", (), "cancelled"))

    async def __aenter__(self) -> Ticket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended:
            self.cancel()

    # The scheduler's side ---------------------------------------------------------------------------------------------

    def prepared(self, generation: Generation) -> None:
        """The prompt is made; from here on a cancel reaches the engine."""
        with self._lock:
            self.generation = generation
            self.times.prepared = time.perf_counter()
            if self._cancelled or self._ended:
                generation.job.cancel.set()

    @property
    def deadline(self) -> float:
        return self.times.submitted + self.seconds

    @property
    def outcome(self) -> str:
        """Of a ticket that has ended: its finish reason or its error code."""
        return self._failure.code if self._failure is not None else str(self._finish)

    def start(self) -> Generation | None:
        """The engine takes it; None if it has ended."""
        with self._lock:
            if self._ended:
                return None
            self.times.started = time.perf_counter()
            return self.generation

    def put(self, chunk: Chunk) -> None:
        """A chunk for the consumer; dropped if the ticket has ended, for instance by its clock."""
        with self._lock:
            if self._ended:
                return
            if chunk.token_ids and self.times.first_token is None:
                self.times.first_token = time.perf_counter()
            self._chunks.append(chunk)
            self._finish = chunk.finish_reason
            self._ended = chunk.finish_reason is not None
            wake = self._awake(at_end=self._ended)
        self._tell(wake)

    def fail(self, problem: XverseError) -> None:
        """End with an error after the chunks given so far, unless it has ended already."""
        with self._lock:
            if self._ended:
                return
            self._failure, self._ended = problem, True
            wake, generation = self._awake(at_end=True), self.generation
        if generation is not None:
            generation.job.cancel.set()
        self._tell(wake)

    def _tell(self, wake: Callable[[], None] | None) -> None:
        """Without the lock, because others take locks of their own."""
        if self._ended and self.times.ended is None:
            self.times.ended = time.perf_counter()
            self._when_ended(self)
        if wake is not None:
            wake()

    def _awake(self, at_end: bool) -> Callable[[], None] | None:
        """Who is to be woken, taken off the hook; to be called without the lock."""
        if self._wake_at_end and not at_end:
            return None
        wake, self._wake = self._wake, None
        return wake

    def _next(self) -> Chunk | None:
        """The next chunk if there is one. Raises the failure behind the last chunk."""
        with self._lock:
            if self._chunks:
                return self._chunks.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def _sleep(self, wake: Callable[[], None], at_end: bool) -> bool:
        """Ask to be woken by the next change. False if there is one already."""
        with self._lock:
            if self._ended or (self._chunks and not at_end):
                return False
            self._wake, self._wake_at_end = wake, at_end
            return True

    async def _changed(self, at_end: bool) -> None:
        loop = asyncio.get_running_loop()
        happened: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            # The loop may be gone when a server is torn down while a request still runs.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, happened)

        if self._sleep(wake, at_end):
            await happened


def _resolve(happened: asyncio.Future[None]) -> None:
    if not happened.done():
        happened.set_result(None)
