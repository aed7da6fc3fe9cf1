"""Answers from another OpenAI-compatible server (vLLM, llama.cpp), with our door, keys and limits in front of it.

What crosses: checked `ChatRequest`s in; the other server's documents out, under our model's name. Every image is opened
here first, by the same door as everywhere, and sent on as a PNG of exactly what was decoded: the other server never
sees a client's bytes or fetches a client's address. Its failures become ours by what they mean to the client.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from xverse_v.errors import XverseError, error

from .auth import ANONYMOUS
from .backend import Call, Document, State
from .forward import forwarded
from .gate import Facts
from .metrics import Metrics
from .protocol import TilesRequest
from .settings import ServeSettings, Upstream
from .upstream_errors import failure_of, refusal_of

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 1.0
_SIDE_WORKERS = 2  # images opened at the same time


class ProxyBackend:
    """One other server. It counts as loading until its /v1/models has answered once."""

    def __init__(self, upstream: Upstream, settings: ServeSettings, metrics: Metrics) -> None:
        self._upstream = upstream
        self._settings = settings
        self._metrics = metrics
        self._model = upstream.model
        self._facts: dict[str, Any] = {}
        self._ready = self._stopping = False
        self._stop_at = math.inf
        self._waiting = self._active = 0
        self._seats = asyncio.Semaphore(settings.limits.batch)
        self._side = asyncio.Semaphore(_SIDE_WORKERS)
        self._clocks: set[asyncio.Timeout] = set()
        self._poll: asyncio.Task[None] | None = None
        headers = {"Authorization": f"Bearer {upstream.key}"} if upstream.key else {}
        # No proxies and no netrc from the environment: the address is the operator's and nobody else's.
        self._client = httpx.AsyncClient(
            base_url=upstream.url.rstrip("/") + "/",
            headers=headers,
            trust_env=False,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=settings.limits.batch + 2),
        )
        self.failure: XverseError | None = None

    @property
    def state(self) -> State:
        if self._stopping:
            return "stopping"
        return "ready" if self._ready else "loading"

    def start(self) -> None:
        self._poll = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        """Ask for its models until it answers."""
        while not self._ready:
            try:
                response = await self._client.get("models", timeout=_CONNECT_SECONDS)
                response.raise_for_status()
                found = {model["id"]: model for model in response.json()["data"]}
                self._model = self._model or next(iter(found))
                self._facts = {
                    name: found[self._model][name]
                    for name in ("max_model_len",)
                    if self._model in found and name in found[self._model]
                }
                self._ready = True
                log.info("%s answers at %s", self._model, self._upstream.url)
            except (httpx.HTTPError, ValueError, KeyError, TypeError, StopIteration) as reason:
                log.debug("%s: %s", self._upstream.url, reason)
                await asyncio.sleep(_POLL_SECONDS)

    async def complete(self, call: Call) -> Document:
        async with self._seat() as deadline, self._clock(deadline):
            response = await self._client.post("chat/completions", json=await self._body(call), headers=_headers(call))
            if response.status_code != 200:
                raise refusal_of(response.status_code, response.headers, response.content)
            try:
                document: Document = response.json()
                self._account(call, document.get("usage"), None)
            except (ValueError, AttributeError) as reason:
                raise failure_of("it sent no JSON object") from reason
        document["model"] = self._settings.model_name
        return document

    async def stream(self, call: Call) -> AsyncGenerator[Document, None]:
        wants_usage = call.request.stream_options is not None and call.request.stream_options.include_usage
        first: float | None = None
        async with self._seat() as deadline:
            async with self._clock(deadline):
                request = self._client.build_request(
                    "POST", "chat/completions", json=await self._body(call), headers=_headers(call)
                )
                response = await self._client.send(request, stream=True)
            try:
                lines = response.aiter_lines()
                if response.status_code != 200:
                    async with self._clock(deadline):
                        raise refusal_of(response.status_code, response.headers, await response.aread())
                while (document := await self._next(lines, deadline)) is not None:
                    if document.get("choices"):
                        first = time.perf_counter() - call.facts.began if first is None else first
                    if document.get("usage"):
                        self._account(call, document["usage"], first)
                    if document.get("choices") or wants_usage:
                        yield {**document, "model": self._settings.model_name}
            finally:
                await response.aclose()

    async def tiles(self, request: TilesRequest, facts: Facts) -> Document:
        raise error("E636")

    def model_facts(self) -> Mapping[str, Any]:
        self._refuse_unless_ready()
        return self._facts

    def gauges(self) -> Mapping[str, float]:
        return {"waiting": self._waiting, "running": self._active}

    async def close(self, seconds: float) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._poll is not None:
            self._poll.cancel()
        loop = asyncio.get_running_loop()
        self._stop_at = loop.time() + seconds
        for clock in self._clocks:
            clock.reschedule(min(clock.when() or math.inf, self._stop_at))
        while self._active and loop.time() < self._stop_at + 1:
            await asyncio.sleep(0.05)
        await self._client.aclose()

    def _refuse_unless_ready(self) -> None:
        if self._stopping:
            raise error("E618", retry_after=5)
        if not self._ready:
            raise error("E600", model=self._settings.model_name, retry_after=2)

    async def _body(self, call: Call) -> dict[str, Any]:
        assert self._model is not None
        body = await forwarded(call.request, self._model, self._settings.remote, self._settings.limits, self._side)
        if call.facts.tenant != ANONYMOUS:
            body["cache_salt"] = call.facts.tenant  # vLLM's word for whose cache it is; others ignore it
        return body

    @asynccontextmanager
    async def _seat(self) -> AsyncIterator[float]:
        """A place among those that are answered, after waiting for one; gives the loop time when it must be left."""
        self._refuse_unless_ready()
        limits = self._settings.limits
        if self._waiting >= limits.queue:
            raise error("E616", waiting=self._waiting, limit=limits.queue, retry_after=1)
        deadline = asyncio.get_running_loop().time() + limits.request_seconds
        self._waiting += 1
        try:
            async with self._clock(deadline):
                await self._seats.acquire()
        finally:
            self._waiting -= 1
        self._active += 1
        try:
            yield deadline
        finally:
            self._active -= 1
            self._seats.release()

    @asynccontextmanager
    async def _clock(self, deadline: float) -> AsyncIterator[None]:
        """Ends the block at the deadline or when the server stops. Raises E633, E618, and E630/E632 for a connection
        that fails inside. Never around a ``yield`` to a consumer, whose work it would end instead."""
        try:
            async with asyncio.timeout_at(min(deadline, self._stop_at)) as clock:
                self._clocks.add(clock)
                try:
                    yield
                finally:
                    self._clocks.discard(clock)
        except TimeoutError as reason:
            if self._stopping:
                raise error("E618", retry_after=5) from reason
            raise error("E633", seconds=f"{self._settings.limits.request_seconds:g}") from reason
        except httpx.ConnectError as reason:
            raise error("E630", retry_after=2) from reason
        except httpx.HTTPError as reason:
            raise failure_of(type(reason).__name__) from reason

    async def _next(self, lines: AsyncIterator[str], deadline: float) -> Document | None:
        """The next document of its stream, None behind its [DONE]. Raises E632 for an error event or an early end."""
        while True:
            async with self._clock(deadline):
                line = await anext(lines, None)
            if line is None:
                raise failure_of("its stream ended before [DONE]")
            if not line.startswith("data:"):
                continue  # a comment, an event name or the empty line between events
            data = line[len("data:") :].strip()
            if data == "[DONE]":
                return None
            try:
                document: Document = json.loads(data)
            except ValueError as reason:
                raise failure_of("an event of its stream is not JSON") from reason
            if not isinstance(document, dict):
                raise failure_of("an event of its stream is not an object")
            if "error" in document:
                raise failure_of("it failed in mid-stream")
            return document

    def _account(self, call: Call, usage: Any, first: float | None) -> None:
        """Counters, as far as the other server tells."""
        if not isinstance(usage, Mapping):
            return
        details = usage.get("prompt_tokens_details")
        counts = {
            "prompt": usage.get("prompt_tokens"),
            "cached": details.get("cached_tokens") if isinstance(details, Mapping) else None,
            "completion": usage.get("completion_tokens"),
        }
        self._metrics.answered({kind: n for kind, n in counts.items() if isinstance(n, int)}, first, None)


def _headers(call: Call) -> dict[str, str]:
    return {"X-Request-Id": call.facts.request_id}
