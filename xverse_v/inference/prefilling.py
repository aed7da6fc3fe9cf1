"""A prompt on its way into one row of the KV cache, in pieces between which other rows may decode.

What crosses: a generation, its row and what is kept from before in; in the end the logits behind its prompt. A prompt
is always prefilled in the same pieces, whether anything is cached or not, so a hit skips work and changes no bit. The
last piece may be done together with that of other rows (`finish_together`), which is equal in tokens, not in bits.
This file chooses no token and does not say who joins whom.

Shapes: N vocabulary, P patches a view, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from xverse_v.model import XverseVForConditionalGeneration

from .cache import PrefixCache, chain_keys, content_key
from .features import ImageTokens, timed
from .generation import Generation, Job
from .kv import RowCache
from .passes import prefill, prefill_together
from .prompt import Part

_EXPECTED_ANSWER = 256  # columns reserved ahead for an answer; longer ones let the cache grow


class Prefilling:
    """One row's prompt. Call `step` until `done`; then `logits` are there. A step that raised may be done again.

    ``pass_tokens`` bounds the tokens of one pass of the decoder; None is a whole part.
    """

    def __init__(
        self,
        model: XverseVForConditionalGeneration,
        cache: RowCache,
        row: int,
        generation: Generation,
        prefixes: PrefixCache,
        chain: list[str],
        images: ImageTokens,
        pass_tokens: int | None = None,
    ) -> None:
        self.generation = generation
        self.row = row
        self.logits: Tensor | None = None
        self._model, self._cache, self._images, self._prefixes = model, cache, images, prefixes
        self._chain = chain
        self._pass_tokens = pass_tokens
        self._index = -1  # the part that is next; -1 before anything is done
        self._features: list[Tensor] = []  # image tokens of that part so far, [n, D] each
        self._used = 0  # how many of its image tokens are prefilled
        cache.empty(row)

    @property
    def done(self) -> bool:
        return self._index == len(self.generation.job.prompt.parts)

    @property
    def rest(self) -> tuple[int, ...]:
        """The tokens that are left when they are all that is left to do, and may be done together; else none."""
        prompt = self.generation.job.prompt
        last = self._index == len(prompt.parts) - 1 and not prompt.parts[-1].images
        return prompt.token_ids[self._cache.length(self.row) :] if last else ()

    def step(self) -> int:
        """Do the next piece: what is kept into the row, the vision tower over one image, or the decoder over some
        tokens. Tokens it cost.
        """
        if self._index < 0:
            self._begin()
            return 0
        part = self.generation.job.prompt.parts[self._index]
        while len(self._features) < len(part.images):
            found, made = self._images.take(part.images[len(self._features)], self.generation)
            self._features.append(found.flatten(0, 1))
            if made:
                return self._features[-1].shape[0]
        return self._pass(part)

    def _begin(self) -> None:
        """What is kept of this prompt goes into the row."""
        job, generation = self.generation.job, self.generation
        self._cache.empty(self.row)
        self._cache.expect(len(job.prompt.token_ids) + min(job.settings.max_new_tokens, _EXPECTED_ANSWER))
        with timed(generation, "prefill", self._model.device):
            known = self._prefixes.find(self._chain)
            for segment in known:
                self._cache.append(self.row, segment)
        generation.cached_tokens = self._cache.length(self.row)
        self._index = len(known)

    def finish(self, logits: Tensor) -> None:
        """The `rest` was done elsewhere: float32[N] behind it."""
        self.logits, self._index = logits, self._index + 1

    def _pass(self, part: Part) -> int:
        """The decoder over the next tokens of a part; whole, it is kept."""
        start = self._cache.length(self.row)
        stop = part.stop if self._pass_tokens is None else min(part.stop, start + self._pass_tokens)
        with timed(self.generation, "prefill", self._model.device):
            if start < stop:  # if not, only keeping it had failed
                ids = self.generation.job.prompt.token_ids[start:stop]
                places = ids.count(self._model.config.image_token_id)
                features = torch.cat(self._features)[self._used : self._used + places] if places else None
                tensor = torch.tensor(ids, device=self._model.device)
                self.logits = prefill(self._model, self._cache, self.row, tensor, features)
                self._used += places
            if stop == part.stop:
                if self._index < len(self._chain):
                    kept = self._cache.copy_out(self.row, part.start, part.stop)
                    self._prefixes.put(self._chain[: self._index + 1], kept)
                self._index, self._features, self._used = self._index + 1, [], 0
        return stop - start


def finish_together(model: XverseVForConditionalGeneration, cache: RowCache, prefillings: Sequence[Prefilling]) -> None:
    """The `rest` of several prompts, in rows one behind the other, in one pass of the decoder.

    As with decode steps, every receipt names the milliseconds of the whole pass: that is how long its row took, and
    its neighbours share that time. If it raises, nothing was done.
    """
    with ExitStack() as books:
        for prefilling in prefillings:
            books.enter_context(timed(prefilling.generation, "prefill", model.device))
        rests = [prefilling.rest for prefilling in prefillings]
        found = prefill_together(model, cache, prefillings[0].row, rests)
    for prefilling, logits in zip(prefillings, found, strict=True):
        prefilling.generation.shared_passes += cache.shared
        prefilling.finish(logits)


def shared_chain(job: Job, salt: str) -> list[str]:
    """Keys of the parts that may be shared within the job's tenant, in order, as far as its ``reuse`` allows."""
    if job.reuse == "off":
        return []
    shared: list[Part] = []
    for part in job.prompt.parts:
        if part.kind == "rest" or (part.kind == "turn" and job.reuse == "images"):
            break
        shared.append(part)
    ids = job.prompt.token_ids
    parts = [(ids[part.start : part.stop], [image.key for image in part.images]) for part in shared]
    return chain_keys(content_key("tenant", {"model": salt, "tenant": job.tenant}), parts)
