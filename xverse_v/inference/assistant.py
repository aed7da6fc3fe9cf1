"""Ask a loaded model: once, streamed, in batches, or as a conversation. The room's front desk.

What crosses: images, questions and settings in; `Answer`s and `Chunk`s out. This file turns a call into a job and
leaves prompts to prompt.py and computing to engine.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack

from xverse_v.errors import XverseError, error
from xverse_v.media import ImageSource

from .answer import Answer, Chunk, Reuse
from .cache import CacheStats
from .engine import Engine
from .generation import Generation, Job
from .prompt import ImageInput, Message, PromptBuilder
from .sampling import SamplingOptions, SamplingSettings, bad_setting, with_options

if TYPE_CHECKING:
    from .conversation import Conversation

Detail = Literal["low", "auto", "high"]
NO_PROFILE = "none"
DEFAULT_BATCH_SIZE = 8
# What fits behind the prompt is taken, if a profile asks for more; below this many tokens nobody would call it an
# answer.
_SHORTEST_DEFAULT_ANSWER = 16


@dataclass(frozen=True)
class Request:
    """One question of a batch. ``history`` are the messages before it, oldest first; ``settings`` None is the
    profile's.

    ``detail``: "low" is the global view alone; "auto" and "high" are up to the processor's own number of tiles, or
    ``max_tiles``. ``tenant``: on whose behalf; what is cached for one tenant is never used for another. ``schema``: the
    answer is JSON that is valid against this JSON schema (``{"type": "object"}`` is any object); needs the extra
    ``serve``.
    """

    question: str
    images: tuple[ImageInput, ...] = ()
    system: str | None = None
    history: tuple[Message, ...] = ()
    max_tiles: int | None = None
    detail: Detail = "auto"
    settings: SamplingSettings | None = None
    reuse: Reuse = "turns"
    tenant: str = ""
    schema: Mapping[str, Any] | None = None


class AnswerStream(Iterator[Chunk]):
    """Chunks of one answer as they are made; then, or whenever it is asked for, the `answer`.

    `cancel` may be called from another thread or a signal handler: the answer ends within one token and keeps its text.
    Leaving a ``with`` block, or `close`, cancels too.
    """

    def __init__(self, engine: Engine, generation: Generation) -> None:
        self._generation = generation
        self._chunks = engine.run([generation])

    def __next__(self) -> Chunk:
        return next(self._chunks)[1]

    @property
    def answer(self) -> Answer:
        """The whole answer; what is still to come is made first, unless the stream was cancelled or failed."""
        for _ in self:
            pass
        return self._generation.answer()

    def cancel(self) -> None:
        self._generation.job.cancel.set()

    def close(self) -> None:
        self.cancel()
        self._chunks.close()

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Assistant:
    """A loaded model with its caches. Made by `xverse_v.load`. One thread at a time may ask."""

    def __init__(
        self, engine: Engine, prompts: PromptBuilder, profiles: Mapping[str, SamplingSettings], profile: str
    ) -> None:
        self.engine = engine
        self.prompts = prompts
        self.profiles = profiles
        self.profile = profile
        if profile not in profiles:
            raise error("E108", profile=profile, known=", ".join(profiles))

    @property
    def settings(self) -> SamplingSettings:
        """What a call that sets nothing uses."""
        return self.profiles[self.profile]

    def ask(
        self,
        *content: ImageSource,
        system: str | None = None,
        max_tiles: int | None = None,
        detail: Detail = "auto",
        settings: SamplingSettings | None = None,
        reuse: Reuse = "turns",
        **options: Unpack[SamplingOptions],
    ) -> Answer:
        """One answer: ``ask("a.png", "What is it?")``. Images first, the question last; a question alone is text only.

        An image is a path, a data URL, bytes or a PIL image. Without ``system`` the prompt has the release's evaluation
        form, with it the demo's. Keywords of `SamplingSettings` override ``settings``, which overrides the profile.
        Raises E1xx for the request, E5xx for an image.
        """
        request = self._request(content, system, max_tiles, detail, self._settings(settings, options), reuse)
        return self.stream_request(request, fixed_length=_fixed_length(settings, options)).answer

    def stream(
        self,
        *content: ImageSource,
        system: str | None = None,
        max_tiles: int | None = None,
        detail: Detail = "auto",
        settings: SamplingSettings | None = None,
        reuse: Reuse = "turns",
        **options: Unpack[SamplingOptions],
    ) -> AnswerStream:
        """As `ask`, chunk by chunk. The prompt is made and checked now; computing starts with the first chunk."""
        request = self._request(content, system, max_tiles, detail, self._settings(settings, options), reuse)
        return self.stream_request(request, fixed_length=_fixed_length(settings, options))

    def batch(self, requests: Sequence[Request], *, batch_size: int = DEFAULT_BATCH_SIZE) -> list[Answer]:
        """All answers, in order. In float32 each equals what `ask` gives alone. The first failure is raised."""
        answers: dict[int, Answer] = {}
        for index, outcome in self.map(requests, batch_size=min(batch_size, max(1, len(requests)))):
            if isinstance(outcome, XverseError):
                raise outcome
            answers[index] = outcome
        return [answers[index] for index in range(len(requests))]

    def map(
        self, requests: Iterable[Request], *, batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Iterator[tuple[int, Answer | XverseError]]:
        """(index, answer) of each request as it finishes, not in order; a request that is refused gives its error.

        Requests are taken from the iterable when a place in the batch is free, so it may be endless. Give questions
        about one image one after another: they share its prefill.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise bad_setting("batch_size", batch_size, "a whole number, at least 1", "不小于 1 的整数")
        places: dict[int, int] = {}
        refused: list[tuple[int, XverseError]] = []

        def admitted() -> Iterator[Generation]:
            for index, request in enumerate(requests):
                try:
                    generation = self.generation(request, fixed_length=request.settings is not None)
                except XverseError as problem:
                    refused.append((index, problem))
                    continue
                places[id(generation)] = index
                yield generation

        for generation, chunk in self.engine.run(admitted(), batch_size):
            while refused:
                yield refused.pop(0)
            if chunk.finish_reason is not None:
                yield places.pop(id(generation)), generation.answer()
        yield from refused

    def chat(
        self,
        *,
        system: str | None = None,
        max_tiles: int | None = None,
        detail: Detail = "auto",
        settings: SamplingSettings | None = None,
        reuse: Reuse = "turns",
        **options: Unpack[SamplingOptions],
    ) -> Conversation:
        """An empty conversation with these settings."""
        from .conversation import Conversation

        fixed = _fixed_length(settings, options)
        return Conversation(self, system, max_tiles, detail, self._settings(settings, options), reuse, fixed)

    def cache_stats(self) -> dict[str, CacheStats]:
        """Counters of the prefix cache and the feature cache."""
        return {"prefix": self.engine.prefix_cache.stats(), "features": self.engine.feature_cache.stats()}

    def _settings(self, settings: SamplingSettings | None, options: SamplingOptions) -> SamplingSettings:
        return with_options(settings or self.settings, options)

    def _request(
        self,
        content: tuple[ImageSource, ...],
        system: str | None,
        max_tiles: int | None,
        detail: Detail,
        settings: SamplingSettings,
        reuse: Reuse,
    ) -> Request:
        question = content[-1] if content else None
        if not isinstance(question, str):
            raise error("E103", images=len(content), last=type(question).__name__ if content else "nothing")
        if len(content) == 1 and _names_a_file(question):
            # A path and nothing else is a forgotten question, not a text to answer.
            raise error("E103", images=1, last=question)
        return Request(question, content[:-1], system, (), max_tiles, detail, settings, reuse)

    def stream_request(self, request: Request, *, fixed_length: bool = True) -> AnswerStream:
        """As `stream`, for a request with a history. ``fixed_length`` False lets ``max_new_tokens`` shrink to what
        fits.
        """
        return AnswerStream(self.engine, self.generation(request, fixed_length=fixed_length))

    def generation(self, request: Request, *, fixed_length: bool = True) -> Generation:
        """Prompt and settings of one request. ``fixed_length``: the caller chose ``max_new_tokens``, so it must fit."""
        if request.reuse not in ("off", "images", "turns"):
            raise bad_setting("reuse", request.reuse, "off, images or turns", " off、images 或 turns")
        began = time.perf_counter()
        messages = [*request.history, Message("user", request.question, request.images)]
        if request.system is not None:
            messages.insert(0, Message("system", request.system))
        prompt = self.prompts.build(messages, tile_limit(request.detail, request.max_tiles))
        settings = request.settings or self.settings
        room = self.engine.max_context - len(prompt.token_ids)
        if not fixed_length and _SHORTEST_DEFAULT_ANSWER <= room < settings.max_new_tokens:
            settings = replace(settings, max_new_tokens=room)
        constraint = None
        if request.schema is not None:
            if settings.stop:  # such an answer would end by "stop" and be no JSON
                raise bad_setting("stop", settings.stop, "none beside a schema", "空，因为同时给出了 schema")
            constraint = self.engine.constraints.for_schema(request.schema)
        milliseconds = (time.perf_counter() - began) * 1000
        return self.engine.generation(
            Job(
                prompt=prompt,
                settings=settings,
                reuse=request.reuse,
                cancel=threading.Event(),
                images_ms=milliseconds,
                profile=self.profile,
                tenant=request.tenant,
                constraint=constraint,
            )
        )


def _fixed_length(settings: SamplingSettings | None, options: SamplingOptions) -> bool:
    return settings is not None or "max_new_tokens" in options


def tile_limit(detail: Detail, max_tiles: int | None) -> int | None:
    """Raises E101 for an unknown detail and E109 if the two say different things."""
    if detail not in ("low", "auto", "high"):
        raise bad_setting("detail", detail, "low, auto or high", " low、auto 或 high")
    if detail == "low" and max_tiles not in (None, 1):
        raise error("E109", max_tiles=max_tiles)
    return 1 if detail == "low" else max_tiles


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long or not a possible name: it is a question
        return False
