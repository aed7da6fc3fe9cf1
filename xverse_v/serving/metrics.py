"""What a server counts, in Prometheus' form: requests, waits, tokens, caches.

Every series lives in this object's own registry, so two servers in one process do not add up. Labels come from short
fixed lists: a route, a status, an error code. Never a key, a model's words or a path a client made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
_ROUTES = frozenset(
    {"/health", "/metrics", "/version", "/openapi.json", "/v1/models", "/v1/chat/completions", "/v1/tiles"}
)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters and gauges of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("xverse_v_requests", "Requests answered.", ["route", "status"], registry=registry)
        self._errors = Counter("xverse_v_errors", "Requests that failed, by error code.", ["code"], registry=registry)
        self._in_flight = Gauge(
            "xverse_v_requests_in_flight", "Requests being answered now.", ["route"], registry=registry
        )
        self._duration = self._seconds("request_seconds", "From a request's first byte to its answer's last.", "route")
        self._first = self._seconds("time_to_first_token_seconds", "From a request's arrival to its first token.")
        self._each = self._seconds("time_per_output_token_seconds", "Mean time between an answer's tokens.")
        self._tokens = Counter(
            "xverse_v_tokens", "Tokens of prompts, of those from the cache, of answers.", ["kind"], registry=registry
        )
        self._ignored = Counter("xverse_v_ignored_fields", "Fields that mean nothing here.", registry=registry)
        self._state = Gauge(
            "xverse_v_engine",
            "What the engine holds now, or has counted since it started.",
            ["what"],
            registry=registry,
        )

    def _seconds(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"xverse_v_{name}", text, labels, registry=self._registry, buckets=_SECONDS)

    def route(self, path: str) -> str:
        """The label of a path."""
        if path.startswith("/v1/models/"):
            return "/v1/models"
        return path if path in _ROUTES else OTHER

    @contextmanager
    def in_flight(self, route: str) -> Iterator[None]:
        with self._in_flight.labels(route).track_inprogress():
            yield

    def finished(self, route: str, status: int, code: str | None, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(seconds)
        if code is not None:
            self._errors.labels(code).inc()

    def ignored(self, fields: int) -> None:
        self._ignored.inc(fields)

    def answered(self, usage: Mapping[str, int], first: float | None, each: float | None) -> None:
        """Tokens of one answer by kind, seconds to its first token and between its tokens, where known."""
        for kind, count in usage.items():
            self._tokens.labels(kind).inc(count)
        if first is not None:
            self._first.observe(first)
        if each is not None:
            self._each.observe(each)

    def page(self, state: Mapping[str, float]) -> bytes:
        """The page for Prometheus, with ``state`` of the engine as it is now."""
        for what, value in state.items():
            self._state.labels(what).set(value)
        return generate_latest(self._registry)
