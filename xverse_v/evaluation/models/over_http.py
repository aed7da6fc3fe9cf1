"""A model behind an OpenAI-compatible endpoint measured: ours on a server, vLLM's, or a closed one.

What crosses: prompts in, predictions out as they finish. Images travel as data URLs, parts in the order of the prompt.
Tokens and tiles on the other side are its own affair; what it reports of them is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

from xverse_v.errors import XverseError

from ..contract import ImageRef, Prediction, Prompt
from ..endpoint import Endpoint, Reply
from ..parallel import in_parallel
from .images import ImageRule
from .refused import refusal

_NOT_THE_ROW = (401, 403, 404)  # a key, a permission, a model's name: every row would fail the same way


class EndpointModel:
    """Answers at temperature 0 of one model name of one endpoint, ``concurrency`` requests at a time."""

    def __init__(self, endpoint: Endpoint, name: str, rule: ImageRule, *, concurrency: int = 4) -> None:
        self.name = name
        self.usage: dict[str, int] = {"prompt_tokens": 0, "completion_tokens": 0, "retries": 0}
        self.facts: Mapping[str, object] = {
            "kind": "endpoint",
            "base_url": endpoint.base_url,
            "model": endpoint.settings.model,
            "reencode": rule.reencode,
            "decoding": "the endpoint's own" if endpoint.settings.newer_fields else "temperature 0",
        }
        self._endpoint, self._rule, self._concurrency = endpoint, rule, concurrency

    def answers(self, prompts: Iterable[tuple[str, Prompt]]) -> Iterator[Prediction]:
        """A prediction for each prompt, as they finish. A row whose request is refused, or that alone gets no answer
        in all tries, gives one with its error.

        Raises E762 for a wrong key or model name, and E763 or E764 when more rows in a row went without an answer than
        are asked at once: then the endpoint is gone. What was under way is still waited for and given out before that.
        """
        fatal: XverseError | None = None
        unanswered = 0

        def asked() -> Iterator[tuple[str, Prompt]]:
            for item in prompts:
                if fatal is not None:
                    return
                yield item

        with closing(in_parallel(self._ask, asked(), self._concurrency)) as outcomes:
            for (key, _), reply in outcomes:
                if not isinstance(reply, XverseError):
                    unanswered = 0
                    yield self._prediction(key, reply)
                    continue
                unanswered += reply.code in ("E763", "E764")
                if reply.facts.get("status") in _NOT_THE_ROW or unanswered > self._concurrency:
                    fatal = fatal or reply
                if fatal is None:
                    yield refusal(key, reply)
        if fatal is not None:
            raise fatal

    def _prediction(self, key: str, reply: Reply) -> Prediction:
        self.usage["prompt_tokens"] += reply.prompt_tokens
        self.usage["completion_tokens"] += reply.completion_tokens
        self.usage["retries"] += reply.attempts - 1
        return Prediction(key, reply.text.strip(), reply.finish_reason, _facts(reply))

    def _ask(self, item: tuple[str, Prompt]) -> Reply:
        prompt = item[1]
        return self._endpoint.complete(self.messages(prompt), temperature=0.0, max_tokens=prompt.max_new_tokens)

    def messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        """The prompt in OpenAI's shape. A prompt without images is one string, which every server reads."""
        alone = sum(isinstance(part, ImageRef) for part in prompt.parts) == 1
        content: str | list[dict[str, Any]] = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": self._rule.data_url(part, alone=alone)}}
            for part in prompt.parts
        ]
        if all(isinstance(part, str) for part in prompt.parts):
            content = "\n".join(str(part) for part in prompt.parts)
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        return [*system, {"role": "user", "content": content}]


def _facts(reply: Reply) -> dict[str, Any]:
    return {
        "served_model": reply.served_model,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }
