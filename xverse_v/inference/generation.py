"""One request on its way from prompt to answer: what was made so far, and when it ends.

What crosses: a `Job` in, tokens one at a time, `Chunk`s and at any moment an `Answer` out. The engine decides
which logits come and when; this file chooses tokens (`accept_together`), turns them into text, watches for the end, and
keeps the books of the receipt. It never calls the network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from xverse_v.errors import XverseError, error

from .answer import Alternative, Answer, Chunk, Conditions, FinishReason, Milliseconds, Receipt, Reuse, TokenLogprob
from .answer import versions as library_versions
from .constraint import Constraint
from .prompt import Prompt
from .sampling import SamplingSettings, choose, new_generator, token_logprobs
from .stopping import TextStream

Phase = Literal["images", "vision", "prefill"]


@dataclass(frozen=True)
class Job:
    """A prompt to answer. ``cancel``: set it from anywhere and the answer ends within one token, keeping what was made.

    ``reuse``: "off" ignores the prefix and feature caches, "images" shares system text and first images, "turns" also
    earlier turns. ``images_ms`` is what preparing the images took. ``profile`` names where defaults came from.
    ``tenant``: what was cached for one is never used for another. ``constraint``: what the answer must be.
    """

    prompt: Prompt
    settings: SamplingSettings
    reuse: Reuse = "turns"
    cancel: threading.Event = field(default_factory=threading.Event)
    images_ms: float = 0.0
    profile: str = "none"
    tenant: str = ""
    constraint: Constraint | None = None


class Generation:
    """State of one job. The engine is its only writer; anyone may read `answer` at any time."""

    def __init__(self, job: Job, tokenizer: PreTrainedTokenizerBase, conditions: Conditions, stop_ids: frozenset[int]):
        self.job = job
        self.finish_reason: FinishReason | None = None
        self.token_ids: list[int] = []
        self.generator = new_generator(job.settings.seed)
        self.seen: Tensor | None = None
        self.matcher = None if job.constraint is None else job.constraint.start()
        # Made for this request while it waited: float32[V, 3, T, T] and float[V, P, D] by image key.
        self.ahead_pixels: dict[str, Tensor] = {}
        self.ahead_features: dict[str, Tensor] = {}
        self._spent = {"images": job.images_ms, "vision": 0.0, "prefill": 0.0}
        self.cached_tokens = 0
        self.cached_features = 0
        self.batch_size = 1
        self.shared_passes = 0
        self._tokenizer = tokenizer
        self._conditions = conditions
        self._stop_ids = stop_ids
        self._stream = TextStream(tokenizer, job.settings.stop)
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._first_token_at = self._last_token_at = 0.0

    def accept(self, token: int, logits: Tensor) -> Chunk:
        """Take the next token, drawn from ``logits`` float32[N]; says what text it made and whether the answer
        ended. Raises E143 if the constraint cannot go on.
        """
        settings = self.job.settings
        self._last_token_at = time.perf_counter()
        self._first_token_at = self._first_token_at or self._last_token_at
        self.token_ids.append(token)
        if settings.repetition_penalty != 1.0:
            if self.seen is None:
                self.seen = torch.zeros_like(logits, dtype=torch.bool)
            self.seen[token] = True
        logprobs = (self._logprob(token, logits),) if settings.logprobs else ()
        self._logprobs += logprobs
        if token in self._stop_ids:
            return self._end("stop", "", (token,), logprobs)
        if self.matcher is not None:
            self.matcher.accept(token)
        text = self._stream.push(token)
        if self._stream.stopped:
            return self._end("stop", text, (token,), logprobs)
        if len(self.token_ids) >= settings.max_new_tokens:
            return self._end("length", text, (token,), logprobs)
        self._texts.append(text)
        return Chunk(text, (token,), None, logprobs)

    def cancel(self) -> Chunk:
        """End here. Text that was held back is given: nothing can follow it any more."""
        return self._end("cancelled", "", (), ())

    def cancelled(self) -> bool:
        return self.job.cancel.is_set()

    def answer(self) -> Answer:
        """The answer as it stands; one that has not ended counts as cancelled."""
        if self.finish_reason is None:
            self.cancel()
        assert self.finish_reason is not None
        return Answer(
            text="".join(self._texts),
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason,
            logprobs=tuple(self._logprobs),
            receipt=self._receipt(),
        )

    def spent(self, phase: Phase, milliseconds: float) -> None:
        """Add to the books of a phase; those of decoding are kept by the tokens themselves."""
        self._spent[phase] += milliseconds

    def _end(
        self, reason: FinishReason, text: str, token_ids: tuple[int, ...], logprobs: tuple[TokenLogprob, ...]
    ) -> Chunk:
        text += self._stream.flush()
        # The last piece may complete a stop string that was held as unfinished bytes until now.
        self.finish_reason = "stop" if self._stream.stopped else reason
        self._texts.append(text)
        return Chunk(text, token_ids, self.finish_reason, logprobs)

    def _logprob(self, token: int, logits: Tensor) -> TokenLogprob:
        chosen, top = token_logprobs(logits, token, self.job.settings.logprobs)
        alternatives = tuple(Alternative(token_id, self._piece(token_id), value) for token_id, value in top)
        return TokenLogprob(token, self._piece(token), chosen, alternatives)

    def _piece(self, token_id: int) -> str:
        """The vocabulary's own spelling (a space may be ``▁``, a byte ``<0xE5>``): it never loses which token it
        was.
        """
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        return piece if isinstance(piece, str) else ""

    def _receipt(self) -> Receipt:
        job, prompt = self.job, self.job.prompt
        return Receipt(
            images=tuple(image.receipt(prompt.patches_per_view) for image in prompt.images),
            prompt_tokens=len(prompt.token_ids),
            cached_tokens=self.cached_tokens,
            completion_tokens=len(self.token_ids),
            cached_features=self.cached_features,
            milliseconds=Milliseconds(**self._spent, decode=(self._last_token_at - self._first_token_at) * 1000),
            seed=job.settings.seed,
            settings=job.settings,
            reuse=job.reuse,
            batch_size=self.batch_size,
            shared_passes=self.shared_passes,
            profile=job.profile,
            versions=library_versions(),
            **asdict(self._conditions),
        )


def accept_together(active: Sequence[Generation], logits: Tensor, dtype: str) -> list[Chunk | Exception]:
    """Choose a token for each row of float32[B, N] and hand it over; E131 for a row of logits that are not numbers,
    E143 for one whose constraint cannot go on. ``dtype`` is what the network computes in.
    """
    failed: dict[int, Exception] = {}
    seen = allowed = None
    if any(generation.seen is not None for generation in active):
        none = torch.zeros_like(logits[0], dtype=torch.bool)
        seen = torch.stack([none if g.seen is None else g.seen for g in active])
    if any(generation.matcher is not None for generation in active):
        allowed = _allowed(active, logits, failed)
    chosen = choose(logits, [g.job.settings for g in active], seen, [g.generator for g in active], allowed)
    # A sum is finite only if all of it is: one pass over the logits. And one transfer for both, because on an
    # accelerator every transfer waits for the step to end.
    tokens, bad = torch.stack([chosen, (~torch.isfinite(logits.sum(-1))).long()]).tolist()
    outcomes: list[Chunk | Exception] = []
    for row, (generation, token) in enumerate(zip(active, tokens, strict=True)):
        if bad[row]:
            failed[row] = error("E131", position=len(generation.token_ids) + 1, dtype=dtype)
        if row in failed:
            outcomes.append(failed[row])
            continue
        try:
            outcomes.append(generation.accept(token, logits[row]))
        except XverseError as problem:
            outcomes.append(problem)
    return outcomes


def _allowed(active: Sequence[Generation], logits: Tensor, failed: dict[int, Exception]) -> Tensor:
    """bool[B, N]: the tokens each row may take. A row whose constraint cannot go on is put in ``failed``."""
    allowed = torch.ones(logits.shape, dtype=torch.bool)
    for row, generation in enumerate(active):
        if generation.matcher is not None:
            try:
                allowed[row] = generation.matcher.mask()
            except XverseError as problem:
                failed[row] = problem
    return allowed.to(logits.device)


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end an answer: the generation config's end ids, else the tokenizer's. Raises E132 if neither has one."""
    found = model.generation_config.eos_token_id if model.generation_config else None
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        raise error("E132")
    return frozenset([found] if isinstance(found, int) else found)
