"""Answers from a model in this process: loads it in the background, then hands requests to the scheduler.

What crosses: checked `ChatRequest`s in, OpenAI's documents out. Loading happens in a thread of its own, so that the
server answers /health from its first moment. This file knows no HTTP beyond the shape of its documents.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import UNQUANTISED, Answer, Conditions
from xverse_v.inference.assistant import Assistant, tile_limit
from xverse_v.inference.prompt import ImageInput
from xverse_v.media import open_image

from .backend import Call, Document, State
from .errors import as_error
from .gate import Facts
from .images import image_source, is_inline
from .metrics import Metrics
from .protocol import ChatRequest, ImageUrl, TilesRequest
from .replies import Envelope
from .scheduler import Scheduler, SchedulerLimits
from .scheduler_ticket import Ticket
from .settings import ServeSettings
from .tiles import tile_document
from .translate import common_detail, image_places, images_of, text_of, translate

log = logging.getLogger(__name__)

_SIDE_WORKERS = 2  # images opened at the same time outside the scheduler, which has threads of its own


class LocalBackend:
    """One loaded model behind a scheduler.

    ``load`` makes the assistant; it is called once, in a thread. ``failed`` is called, from that thread, if it raises.
    """

    def __init__(
        self,
        load: Callable[[], Assistant],
        settings: ServeSettings,
        metrics: Metrics,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._failed = failed
        self._settings = settings
        self._metrics = metrics
        self._scheduler: Scheduler | None = None
        self._assistant: Assistant | None = None
        self._stopping = threading.Event()
        self._side = asyncio.Semaphore(_SIDE_WORKERS)
        self.failure: XverseError | None = None

    @property
    def state(self) -> State:
        if self._stopping.is_set():
            return "stopping"
        if self.failure is not None or (self._scheduler and self._scheduler.health == "failed"):
            return "failed"
        return "ready" if self._scheduler else "loading"

    def start(self) -> None:
        threading.Thread(target=self._begin, name="xverse-v-load", daemon=True).start()

    def _begin(self) -> None:
        try:
            assistant = self._load()
        except Exception as problem:
            if not isinstance(problem, XverseError):
                log.exception("loading the model failed")
            self.failure = as_error(problem)
            self._failed()
            return
        limits = self._settings.limits
        scheduler = Scheduler(assistant, SchedulerLimits(limits.batch, limits.queue, limits.request_seconds))
        scheduler.start()
        self._assistant, self._scheduler = assistant, scheduler
        log.info("%s is ready", self._settings.model_name)

    async def complete(self, call: Call) -> Document:
        async with self._naming_images(call.request):
            ticket, envelope = await self._submit(call)
            async with ticket:
                answer = await ticket.wait()
        self._account(call, ticket, answer)
        return envelope.completion(answer)

    async def stream(self, call: Call) -> AsyncGenerator[Document, None]:
        async with self._naming_images(call.request):
            ticket, envelope = await self._submit(call)
            async with ticket:
                begun = False
                async for chunk in ticket:
                    if not begun:
                        begun = True
                        yield envelope.first_chunk()
                    if document := envelope.chunk(chunk):
                        yield document
        answer = ticket.answer
        yield envelope.last_chunk(answer.finish_reason)
        self._account(call, ticket, answer)
        if envelope.with_usage:
            yield envelope.usage_chunk(answer)

    async def tiles(self, request: TilesRequest, facts: Facts) -> Document:
        assistant, _ = self._ready()
        context = assistant.engine.max_context
        async with self._side:
            source = await asyncio.to_thread(image_source, request.image, self._settings.remote)
            return await asyncio.to_thread(tile_document, request, source, assistant.prompts, context, facts.language)

    def model_facts(self) -> Mapping[str, Any]:
        assistant, _ = self._ready()
        tiler = assistant.prompts.processor.image_processor
        return {
            "max_model_len": assistant.engine.max_context,
            "input_modalities": ["text", "image"],
            "tokens_per_view": assistant.prompts.processor.patches_per_view,
            "max_tiles": tiler.max_tiles,
            "orientation": tiler.orientation,
            "dtype": assistant.engine.conditions.dtype,
            "weights_id": assistant.engine.conditions.weights_id,
        }

    def gauges(self) -> Mapping[str, float]:
        if self._scheduler is None:
            return {}
        stats = self._scheduler.stats()
        names = ("waiting", "preparing", "running", "submitted", "refused")
        found: dict[str, float] = {name: getattr(stats, name) for name in names}
        for cache, counters in stats.caches.items():
            found |= {f"{cache}_cache_{name}": value for name, value in asdict(counters).items()}
        return found

    async def close(self, seconds: float) -> None:
        self._stopping.set()
        if self._scheduler is not None:
            await asyncio.to_thread(self._scheduler.close, seconds)

    def _ready(self) -> tuple[Assistant, Scheduler]:
        if self._assistant is None or self._scheduler is None:
            raise error("E600", model=self._settings.model_name, retry_after=2)
        return self._assistant, self._scheduler

    async def _submit(self, call: Call) -> tuple[Ticket, Envelope]:
        """Queue the request. Raises what is wrong with it, or that the queue is full."""
        assistant, scheduler = self._ready()
        images = await self._images(call.request, assistant)
        meaning = translate(call.request, assistant.settings, self._settings.limits, call.facts.tenant, images)
        call.facts.notes += meaning.notes
        chosen = meaning.request.settings
        if chosen is not None and not chosen.greedy:
            call.facts.seed = chosen.seed
        if self._settings.log_prompts:
            log.info("%s asked %s", call.facts.request_id, _as_logged(call.request))
        ticket = scheduler.submit(meaning.request, fixed_length=meaning.fixed_length)
        conditions = assistant.engine.conditions
        options = call.request.stream_options
        envelope = Envelope(
            model=self._settings.model_name,
            fingerprint=_fingerprint(conditions),
            end_ids=assistant.engine.stop_ids,
            top=call.request.top_logprobs or 0,
            with_usage=options is not None and options.include_usage,
        )
        return ticket, envelope

    async def _images(self, request: ChatRequest, assistant: Assistant) -> Callable[[ImageUrl], ImageInput]:
        """What the scheduler is given for each image: data URLs as they came, to be opened by the scheduler's threads.

        What is on the network is fetched here, under a bound of its own. Where one request wants both low and full
        detail, the images are also opened here, each with its own tiles.
        """
        wanted = [image for _, image in image_places(request)]
        mixed = common_detail(request) is None
        if not mixed and all(is_inline(image.url) for image in wanted):
            return lambda image: image.url
        found: dict[int, ImageInput] = {}
        for image in wanted:
            async with self._side:
                source: ImageInput = await asyncio.to_thread(image_source, image.url, self._settings.remote)
                if mixed:
                    most = tile_limit(image.detail, 1 if image.detail == "low" else request.max_tiles)
                    source = await asyncio.to_thread(assistant.prompts.prepare, source, most)
                found[id(image)] = source
        return lambda image: found[id(image)]

    @asynccontextmanager
    async def _naming_images(self, request: ChatRequest) -> AsyncIterator[None]:
        """Gives an image's error the name of the field it came in.

        The scheduler opens images without knowing their fields, so after a failure, and only then, they are opened
        again to see which one it is.
        """
        try:
            yield
        except XverseError as problem:
            if problem.code.startswith("E5") and "param" not in problem.facts:
                async with self._side:
                    problem.facts["param"] = await asyncio.to_thread(_refused_image, request, problem.code)
            raise

    def _account(self, call: Call, ticket: Ticket, answer: Answer) -> None:
        """Counters, and the answer's words where the log may have them."""
        receipt, times = answer.receipt, ticket.times
        each = None
        if times.first_token is not None and times.ended is not None and receipt.completion_tokens > 1:
            each = (times.ended - times.first_token) / (receipt.completion_tokens - 1)
        first = None if times.first_token is None else times.first_token - call.facts.began
        counts = {
            "prompt": receipt.prompt_tokens,
            "cached": receipt.cached_tokens,
            "completion": receipt.completion_tokens,
        }
        self._metrics.answered(counts, first, each)
        if self._settings.log_prompts:
            log.info("%s answered %r", call.facts.request_id, answer.text)


def _refused_image(request: ChatRequest, code: str) -> str:
    """The field of the first image that is refused with ``code``. Those that were fetched are not fetched again."""
    for place, image in image_places(request):
        try:
            if is_inline(image.url):
                open_image(image.url, paths=False)
        except XverseError as problem:
            if problem.code == code:
                return place
    return "messages"


def _as_logged(request: ChatRequest) -> str:
    """Messages with their texts; of an image only how long its address is."""
    said = []
    for message in request.messages:
        images = [f"<image, {len(image.url)} characters>" for image in images_of(message)]
        said.append({"role": message.role, "text": text_of(message), "images": images})
    return repr(said)


def _fingerprint(conditions: Conditions) -> str:
    """OpenAI's ``system_fingerprint``: the same for as long as nothing changes that an answer depends on."""
    parts = [conditions.weights_id[:12], conditions.dtype, conditions.device]
    return "_".join(["fp", *parts, *([] if conditions.quantised == UNQUANTISED else [conditions.quantised])])
