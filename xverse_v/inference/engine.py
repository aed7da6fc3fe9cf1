"""Prefill and decode over a KV cache, for any number of requests at once.

What crosses: `Job`s in, `Chunk`s out. The network runs in two named functions: `prefill`, the pass over (a part of) one
prompt, and `decode`, one new token for every row of the batch. Rows are prefilled one by one, exactly as they would be
alone, and then share decode steps; a row that ends leaves at once and the next waiting one takes its place. The engine
opens no images and writes no prompt.

Shapes: B rows, S tokens of a part, N vocabulary, V views, P patches a view, D decoder width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xverse_v.errors import XverseError, error
from xverse_v.model import XverseVForConditionalGeneration

from .answer import Chunk, Conditions
from .cache import FeatureCache, PrefixCache, chain_keys, content_key
from .generation import Generation, Job, Phase
from .kv import RowCache
from .memory import is_memory_error, memory_error
from .prompt import Part, PreparedImage
from .sampling import choose

T = TypeVar("T")

_EXPECTED_ANSWER = 256  # columns reserved ahead for an answer; longer ones let the cache grow


@torch.inference_mode()
def prefill(
    model: XverseVForConditionalGeneration, cache: RowCache, row: int, token_ids: Tensor, features: Tensor | None = None
) -> Tensor:
    """Append one part of a prompt to ``row``: int64[S] and the image tokens float[n, D] that replace its placeholders.

    Returns the logits after its last token, float32[N]. Only that position passes the head.
    """
    embeds = model.get_input_embeddings()(token_ids)
    places = token_ids == model.config.image_token_id
    wanted = 0 if features is None else features.shape[0]
    if int(places.sum()) != wanted:
        raise ValueError(f"{int(places.sum())} placeholder tokens in this part, but {wanted} image tokens")
    if features is not None:
        embeds[places] = features.to(embeds.dtype)
    start, new = cache.length(row), token_ids.shape[0]
    positions = torch.arange(start, start + new, device=token_ids.device)
    cache.open_row(row)
    logits: Tensor = model(
        inputs_embeds=embeds[None],
        position_ids=positions[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    cache.close(new)
    return logits[0, -1].float()


@torch.inference_mode()
def decode(model: XverseVForConditionalGeneration, cache: RowCache, tokens: Tensor) -> Tensor:
    """One token for each of the first B rows: int64[B] -> the logits after it, float32[B, N]."""
    count = tokens.shape[0]
    lengths = cache.open_rows(count, tokens.device)
    mask = None
    if cache.uneven:
        columns = torch.arange(cache.longest + 1, device=tokens.device)
        mask = columns[None, :] <= lengths[:, None]
    logits: Tensor = model(
        input_ids=tokens[:, None],
        attention_mask=mask,
        position_ids=lengths[:, None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    cache.close(1)
    return logits[:, -1].float()


class Engine:
    """Runs jobs on one model. Not for several threads at once: one engine has one model and one row of seats."""

    def __init__(
        self,
        model: XverseVForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        conditions: Conditions,
        prefix_cache: PrefixCache,
        feature_cache: FeatureCache,
    ) -> None:
        self.model = model.eval()  # dropout never runs here, whatever the model was used for before
        self.tokenizer = tokenizer
        self.conditions = conditions
        self.prefix_cache = prefix_cache
        self.feature_cache = feature_cache
        self.stop_ids = _stop_ids(model, tokenizer)
        facts = {name: getattr(conditions, name) for name in ("weights_id", "dtype", "device", "attention")}
        self._salt = content_key("model", facts)

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def kv_bytes_per_token(self) -> int:
        text = self.model.config.text_config
        values = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
        return int(values * self.model.dtype.itemsize)

    def generation(self, job: Job) -> Generation:
        """A job's state, checked against the context: nothing is ever cut. Raises E120 before any compute."""
        prompt, answer = len(job.prompt.token_ids), job.settings.max_new_tokens
        if prompt + answer > self.max_context:
            images = sum(image.grid.views for image in job.prompt.images) * job.prompt.patches_per_view
            raise error(
                "E120",
                needed=prompt + answer,
                limit=self.max_context,
                prompt=prompt,
                image_tokens=images,
                text_tokens=prompt - images,
                answer=answer,
                over=prompt + answer - self.max_context,
            )
        return Generation(job, self.tokenizer, self.conditions, self.stop_ids)

    def run(self, generations: Iterable[Generation], batch_size: int = 1) -> Generator[tuple[Generation, Chunk]]:
        """Answer all, at most ``batch_size`` at once, yielding every chunk with the generation it belongs to.

        Closing the iterator ends the work; so does a job's ``cancel``, for that job, within one token.
        """
        waiting = iter(generations)
        cache = RowCache(self.model.config.text_config.num_hidden_layers, batch_size)
        active: list[Generation] = []
        while True:
            while len(active) < batch_size and (generation := next(waiting, None)) is not None:
                generation.batch_size = batch_size
                chunk = self._start(cache, len(active), generation)
                if chunk.finish_reason is None:
                    active.append(generation)
                else:
                    cache.empty(len(active))
                yield generation, chunk
            if not active:
                return
            # Rows that were cancelled end without a token; the others go on in the next round.
            ended = [(generation, generation.cancel()) for generation in active if generation.cancelled()]
            chunks = ended or list(zip(active, self._step(cache, active), strict=True))
            for row in reversed(range(len(active))):
                if active[row].finish_reason is not None:
                    cache.move(len(active) - 1, row)
                    active[row] = active[-1]
                    active.pop()
            yield from chunks

    def _step(self, cache: RowCache, active: list[Generation]) -> list[Chunk]:
        """One decode step of every active row."""
        tokens = torch.tensor([generation.token_ids[-1] for generation in active], device=self.model.device)
        logits = self._attempt(lambda: decode(self.model, cache, tokens), active, "decode")
        return self._accept(active, logits)

    def _start(self, cache: RowCache, row: int, generation: Generation) -> Chunk:
        """Prefill one row and take its first token."""
        logits = self._attempt(lambda: self._prefill(cache, row, generation), [generation], "prefill")
        return generation.cancel() if logits is None else self._accept([generation], logits[None])[0]

    def _attempt(self, work: Callable[[], T], active: list[Generation], phase: Literal["prefill", "decode"]) -> T:
        """Do ``work``; if memory runs out, once more without the caches. It may be done twice: it writes the same
        places.

        What is only kept in case it serves again gives way to what is asked for now. Raises E130 if that is not enough.
        """
        try:
            return work()
        except RuntimeError as reason:
            if not is_memory_error(reason):
                raise
            if not self.prefix_cache.clear() + self.feature_cache.clear():
                raise self._memory_error(active, phase) from reason
        # Outside the handler, because a live traceback would keep the failed step's tensors.
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            return work()
        except RuntimeError as reason:
            if not is_memory_error(reason):
                raise
            raise self._memory_error(active, phase) from reason

    def _accept(self, active: list[Generation], logits: Tensor) -> list[Chunk]:
        """Choose a token for each row of float32[B, N] and hand it over. Raises E131 for logits that are not
        numbers.
        """
        seen = None
        if any(generation.job.settings.repetition_penalty != 1.0 for generation in active):
            none = torch.zeros_like(logits[0], dtype=torch.bool)
            seen = torch.stack([none if g.seen is None else g.seen for g in active])
        chosen = choose(logits, [g.job.settings for g in active], seen, [g.generator for g in active])
        # One transfer for both: on an accelerator every transfer waits for the step to end.
        broken = (~torch.isfinite(logits).all(-1)).long()
        tokens, bad = torch.stack([chosen, broken]).tolist()
        if any(bad):
            row = bad.index(1)
            raise error("E131", position=len(active[row].token_ids) + 1, dtype=self.conditions.dtype)
        return [g.accept(token, logits[row]) for row, (g, token) in enumerate(zip(active, tokens, strict=True))]

    def _prefill(self, cache: RowCache, row: int, generation: Generation) -> Tensor | None:
        """All parts of a prompt, from the cache as far as it reaches. The last logits float32[N], None if cancelled."""
        job, prompt = generation.job, generation.job.prompt
        cache.empty(row)
        cache.expect(len(prompt.token_ids) + min(job.settings.max_new_tokens, _EXPECTED_ANSWER))
        chain = self._chain(job)
        with self._timed(generation, "prefill"):
            known = self.prefix_cache.find(chain)
            for segment in known:
                cache.append(row, segment)
        generation.cached_tokens, generation.cached_features = cache.length(row), 0
        logits = None
        for index, part in enumerate(prompt.parts[len(known) :], start=len(known)):
            if generation.cancelled():
                return None
            features = self._features(part.images, generation)
            with self._timed(generation, "prefill"):
                ids = torch.tensor(prompt.token_ids[part.start : part.stop], device=self.model.device)
                logits = prefill(self.model, cache, row, ids, features)
                if index < len(chain):
                    self.prefix_cache.put(chain[: index + 1], cache.copy_out(row, part.start, part.stop))
        return logits

    def _chain(self, job: Job) -> list[str]:
        """Keys of the parts that may be shared, in order, as far as this job's ``reuse`` allows."""
        if job.reuse == "off" or not self.prefix_cache.enabled:
            return []
        shared: list[Part] = []
        for part in job.prompt.parts:
            if part.kind == "rest" or (part.kind == "turn" and job.reuse == "images"):
                break
            shared.append(part)
        ids = job.prompt.token_ids
        parts = [(ids[part.start : part.stop], [image.key for image in part.images]) for part in shared]
        return chain_keys(self._salt, parts)

    def _features(self, images: tuple[PreparedImage, ...], generation: Generation) -> Tensor | None:
        """Image tokens of a part, float[n, D] in order; None if it has no images."""
        found = []
        for image in images:
            key = content_key("features", {"model": self._salt, "image": image.key})
            features = self.feature_cache.get(key) if generation.job.reuse != "off" else None
            if features is None:
                with self._timed(generation, "images"):
                    pixels = image.pixel_values()
                with self._timed(generation, "vision"):
                    features = self._encode(pixels)
                if generation.job.reuse != "off":
                    self.feature_cache.put(key, features)
            else:
                generation.cached_features += 1
            found.append(features.flatten(0, 1))
        return torch.cat(found) if found else None

    @torch.inference_mode()
    def _encode(self, pixel_values: Tensor) -> Tensor:
        """float32[V, 3, T, T] of one image -> image tokens float[V, P, D]."""
        features: Tensor = self.model.get_image_features(
            pixel_values.to(self.model.device), return_dict=True
        ).pooler_output
        return features

    @contextmanager
    def _timed(self, generation: Generation, phase: Phase) -> Iterator[None]:
        """Add what the block takes to a phase of the receipt, waiting for the device so that each phase gets its
        own.
        """
        began = time.perf_counter()
        yield
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        generation.spent(phase, (time.perf_counter() - began) * 1000)

    def _memory_error(self, active: list[Generation], phase: str) -> XverseError:
        return memory_error(active, phase, self.model.device, self.kv_bytes_per_token)


def _stop_ids(model: XverseVForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end an answer: the generation config's end ids, else the tokenizer's. Raises E132 if neither has one."""
    found = model.generation_config.eos_token_id if model.generation_config else None
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        raise error("E132")
    return frozenset([found] if isinstance(found, int) else found)
