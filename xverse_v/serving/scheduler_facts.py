"""What a scheduler is told and what it tells: limits, health and counters, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from xverse_v.inference.cache import CacheStats

Health = Literal["stopped", "ready", "draining", "failed"]


@dataclass(frozen=True)
class SchedulerLimits:
    """- ``rows``: most requests that decode together.
    - ``queue``: most requests that wait, those being prepared included.
    - ``seconds``: wall clock of one request, from submit to its last token.
    - ``preparers``: threads that open images and make prompts. At most ``rows`` requests are ready ahead of their turn,
      because a ready one holds its images decoded.
    - ``pass_tokens``: most prompt tokens of one pass, see `Engine`; None prefills each part of a prompt whole.
    """

    rows: int = 8
    queue: int = 64
    seconds: float = 300.0
    preparers: int = 2
    pass_tokens: int | None = 256


@dataclass(frozen=True)
class SchedulerStats:
    """A snapshot. Counters since the start; ``waiting``, ``preparing``, ``ready`` (for a row) and ``running`` are now.

    ``ended``: by finish reason ("stop", "length", "cancelled"); ``failed``: by error code. ``refused``: full queue.
    ``cached_tokens`` of the ``prompt_tokens`` were not prefilled. ``caches``: "prefix" and "features".
    """

    health: Health
    waiting: int
    preparing: int
    ready: int
    running: int
    submitted: int
    refused: int
    ended: Mapping[str, int]
    failed: Mapping[str, int]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    caches: Mapping[str, CacheStats]
