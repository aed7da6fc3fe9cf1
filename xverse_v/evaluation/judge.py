"""A model that grades, over any OpenAI-compatible endpoint: many at once, nothing paid for twice, costs counted.

What crosses: prompts in, the judge's own words out, in order. Which answers need a judge, what a prompt says and how a
reply is read belong to the scorers. Replies are kept in a JSON-lines file, one line each as soon as it is there, under
a key of everything that decides them, so a rerun or a resumed run asks only what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xverse_v.errors import XverseError, error

from .endpoint import Endpoint, Reply
from .judge_cache import JudgeCache, JudgeQuestion
from .parallel import in_parallel

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 8
_NOT_THE_PROMPT = (401, 403, 404)  # a wrong key or model name: the other prompts would only repeat it


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens, in and out."""

    prompt: float
    completion: float
    currency: str = "USD"


@dataclass
class JudgeUsage:
    """What judging cost so far: replies asked for, how many the cache had, tries repeated, prompts left unanswered.

    Token counts are the endpoint's own and cover what was asked anew; ``cached_*`` is what the cache saved.
    """

    asked: int = 0
    cached: int = 0
    retries: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0

    def money(self, prices: Prices) -> float:
        """What the tokens asked anew cost, in ``prices.currency``."""
        return (self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion) / 1_000_000

    def summary(self, prices: Prices | None = None) -> str:
        """One line for people: what was asked, what the cache saved, what it cost."""
        money = "" if prices is None else f", {self.money(prices):.4f} {prices.currency}"
        return (
            f"{self.asked} replies asked for ({self.retries} tries repeated), {self.cached} from the cache, "
            f"{self.failed} unanswered; {self.prompt_tokens} + {self.completion_tokens} tokens{money}"
        )

    def as_dict(self, prices: Prices | None = None) -> dict[str, object]:
        facts: dict[str, object] = dict(vars(self))
        if prices is not None:
            facts |= {"money": round(self.money(prices), 6), "currency": prices.currency}
        return facts


class EndpointJudge:
    """The room's `Judge`. One thread at a time may call `ask`; it asks with ``concurrency`` threads of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        cache: Path | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        prices: Prices | None = None,
    ) -> None:
        """``cache``: the JSON-lines file, made if missing. Raises E767 if it holds lines that are none of ours, E774
        for a concurrency below 1.
        """
        if concurrency < 1:
            raise error("E774", name="--judge-concurrency", got=concurrency, expected=">= 1")
        self.name = endpoint.settings.model
        self.usage = JudgeUsage()
        self.prices = prices
        self.served_models: set[str] = set()
        self._endpoint = endpoint
        self._cache = JudgeCache(cache)
        self._concurrency = concurrency

    def ask(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        system: str = "",
        attempt: int = 0,
    ) -> list[str]:
        """The reply to each prompt, stripped, in order; equal prompts are asked once.

        ``attempt`` numbers repeated questions about one answer: without it a second try would be read from the cache.
        Every prompt is tried before anything is raised, and what was answered is kept: E768 with the count of those
        that were not and the first reason. An empty reply is a failure, not an answer.
        """
        questions = [
            JudgeQuestion(self.name, self._endpoint.base_url, prompt, system, temperature, max_tokens, attempt)
            for prompt in prompts
        ]
        replies: dict[str, str] = {}
        open_questions: dict[str, JudgeQuestion] = {}
        for question in questions:
            known = self._cache.get(question)
            if known is None:
                open_questions[question.key] = question
            elif question.key not in replies:
                replies[question.key] = known.text
                self._count_cached(known)
        problems = self._ask_anew(list(open_questions.values()), replies)
        if problems:
            unanswered = sum(question.key not in replies for question in questions)
            self.usage.failed += unanswered
            raise error(
                "E768",
                failed=unanswered,
                total=len(questions),
                judge=self.name,
                problem=problems[0].parts("en")["fact"],
                problem_zh=problems[0].parts("zh")["fact"],
            )
        return [replies[question.key] for question in questions]

    def facts(self) -> dict[str, object]:
        """Name, endpoint, the names the server answered under, and the costs: what a result has to say of its judge."""
        return {
            "judge": self.name,
            "base_url": self._endpoint.base_url,
            "served_models": sorted(self.served_models),
            "usage": self.usage.as_dict(self.prices),
        }

    def _ask_anew(self, questions: Sequence[JudgeQuestion], replies: dict[str, str]) -> list[XverseError]:
        """Ask and keep; fills ``replies`` by key and returns what went wrong. A judge that is gone is not asked on."""
        problems: list[XverseError] = []
        in_a_row = 0
        with closing(in_parallel(self._ask_one, questions, self._concurrency)) as outcomes:
            for question, reply in outcomes:
                if not isinstance(reply, XverseError):
                    in_a_row = 0
                    self._cache.put(question, reply)
                    self._count_asked(reply)
                    replies[question.key] = reply.text.strip()
                    continue
                log.warning("the judge did not answer: %s", reply.parts("en")["fact"])
                problems.append(reply)
                in_a_row += reply.code == "E763"
                if reply.facts.get("status") in _NOT_THE_PROMPT or in_a_row > self._concurrency:
                    break
        return problems

    def _ask_one(self, question: JudgeQuestion) -> Reply:
        messages = [{"role": "user", "content": question.prompt}]
        if question.system:
            messages.insert(0, {"role": "system", "content": question.system})
        reply = self._endpoint.complete(messages, temperature=question.temperature, max_tokens=question.max_tokens)
        if not reply.text.strip():
            problem = f"an empty reply (finish_reason {reply.finish_reason}, max_tokens {question.max_tokens})"
            raise error("E764", url=self._endpoint.base_url, attempts=reply.attempts, problem=problem)
        return reply

    def _count_asked(self, reply: Reply) -> None:
        self.usage.asked += 1
        self.usage.retries += reply.attempts - 1
        self.usage.prompt_tokens += reply.prompt_tokens
        self.usage.completion_tokens += reply.completion_tokens
        if reply.served_model:
            self.served_models.add(reply.served_model)

    def _count_cached(self, reply: Reply) -> None:
        self.usage.cached += 1
        self.usage.cached_prompt_tokens += reply.prompt_tokens
        self.usage.cached_completion_tokens += reply.completion_tokens
        if reply.served_model:
            self.served_models.add(reply.served_model)
