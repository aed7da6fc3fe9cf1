"""How benchmarks talk to a judge: many prompts at once, again for the replies that could not be read.

A judge that does not answer raises, and the scoring with it; nothing is ever made up for it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..contract import Judge

Read = TypeVar("Read")


def ask_until_read(
    judge: Judge,
    prompts: Mapping[str, str],
    read: Callable[[str, str], Read | None],
    temperatures: Sequence[float],
    *,
    max_tokens: int,
    system: str = "",
) -> dict[str, Read]:
    """What was read from the judge's replies, by key; a key whose replies were all unreadable is missing.

    `prompts`: key -> prompt. `read(key, reply)`: the reading, or ``None`` to ask again. One round a temperature, with
    the prompts still open.
    """
    found: dict[str, Read] = {}
    for attempt, temperature in enumerate(temperatures):
        left = [key for key in prompts if key not in found]
        if not left:
            break
        replies = judge.ask(
            [prompts[key] for key in left],
            temperature=temperature,
            max_tokens=max_tokens,
            system=system,
            attempt=attempt,
        )
        for key, reply in zip(left, replies, strict=True):
            reading = read(key, reply)
            if reading is not None:
                found[key] = reading
    return found
