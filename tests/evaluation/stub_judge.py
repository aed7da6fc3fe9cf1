"""A judge that answers from a function and remembers what it was asked; no endpoint, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """One prompt put to the judge."""

    prompt: str
    temperature: float
    max_tokens: int
    system: str
    attempt: int


class StubJudge:
    name = "stub"

    def __init__(self, reply: Callable[[Asked], str] | str) -> None:
        self._reply = reply
        self.asked: list[Asked] = []
        self.calls = 0

    def ask(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        system: str = "",
        attempt: int = 0,
    ) -> list[str]:
        self.calls += 1
        new = [Asked(prompt, temperature, max_tokens, system, attempt) for prompt in prompts]
        self.asked += new
        return [self._reply if isinstance(self._reply, str) else self._reply(asked) for asked in new]
