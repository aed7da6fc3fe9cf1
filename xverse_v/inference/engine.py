"""Any number of requests on one model: who prefills, who decodes, who leaves.

What crosses: `Generation`s in, `Chunk`s out. Rows are prefilled one by one, exactly as they would be alone, and then
share decode steps; a row that ends leaves at once and the next waiting one takes its place. A failure belongs to the
request that met it. The engine opens no images, writes no prompt, and waits for nobody: its source does.

Shapes: B rows, N vocabulary.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xverse_v.errors import XverseError, error
from xverse_v.model import XverseVForConditionalGeneration

from .answer import Chunk, Conditions
from .cache import FeatureCache, PrefixCache, content_key
from .constraint import JsonConstraints
from .features import ImageTokens
from .generation import Generation, Job
from .kv import RowCache
from .memory import attempt, is_memory_error, memory_error
from .passes import decode
from .prefilling import Prefilling, shared_chain
from .sampling import choose

Outcome = Chunk | Exception


@dataclass
class _Rows:
    """Who sits where: ``active`` in the first rows of ``cache``, ``joining`` in a row behind them."""

    cache: RowCache
    active: list[Generation]
    joining: Prefilling | None = None


class Engine:
    """Runs jobs on one model. Not for several threads at once: one engine has one model and one row of seats.

    ``pass_tokens``: most prompt tokens of one pass, and how many are prefilled between two decode steps before no
    further pass begins, so that a long prompt does not hold up the answers beside it; None prefills a part of a prompt
    whole, and fills every free row first.
    """

    def __init__(
        self,
        model: XverseVForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        conditions: Conditions,
        prefix_cache: PrefixCache,
        feature_cache: FeatureCache,
        pass_tokens: int | None = None,
    ) -> None:
        self.model = model.eval()  # dropout never runs here, whatever the model was used for before
        self.tokenizer = tokenizer
        self.conditions = conditions
        self.prefix_cache = prefix_cache
        self.feature_cache = feature_cache
        self.pass_tokens = pass_tokens
        self.stop_ids = _stop_ids(model, tokenizer)
        facts = {name: getattr(conditions, name) for name in ("weights_id", "dtype", "device", "attention")}
        self._salt = content_key("model", facts)
        self._images = ImageTokens(self.model, feature_cache, self._salt)
        self.constraints = JsonConstraints(tokenizer, model.config.text_config.vocab_size, lambda: self.stop_ids)

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

    def look_ahead(self, generation: Generation) -> None:
        """Do what can be done for a waiting request in another thread: cut its images' views, see `ImageTokens.ahead`.

        Images whose prefill is kept already are left alone.
        """
        known = self.prefix_cache.known(self._chain(generation.job))
        for part in generation.job.prompt.parts[known:]:
            self._images.ahead(part.images, generation)

    def run(self, generations: Iterable[Generation], batch_size: int = 1) -> Generator[tuple[Generation, Chunk]]:
        """Answer all, at most ``batch_size`` at once, yielding every chunk with the generation it belongs to.

        Closing the iterator ends the work; so does a job's ``cancel``, for that job, within one token. The first
        failure is raised and ends all.
        """
        for generation, outcome in self.serve(generations, batch_size):
            if isinstance(outcome, Exception):
                raise outcome
            yield generation, outcome

    def serve(
        self, waiting: Iterable[Generation | None], batch_size: int
    ) -> Generator[tuple[Generation, Chunk | Exception]]:
        """As `run`, for requests that come while others are answered, and with failures as outcomes of their own.

        ``waiting`` is asked for the next one whenever a row is free. It gives None if nothing is waiting now, and ends
        when nothing will come any more; while no row is in use it should wait instead, because nothing else is to be
        done. What it raises ends all.

        A request ends with a chunk that has a finish reason, or with an exception: E130 if its prompt did not fit in
        memory, or it was the longest row when a decode step did not; E131; E143; or whatever else its prefill raised. A
        decode step that fails otherwise fails every row in it. The others, and those that come, go on.
        """
        source = iter(waiting)
        rows, more = self._empty_rows(batch_size), True
        while True:
            left = float("inf") if self.pass_tokens is None else self.pass_tokens
            while left > 0 and len(rows.active) < batch_size and (more or rows.joining):
                if rows.joining is None:
                    try:
                        generation = next(source)
                    except StopIteration:
                        more = False
                        break
                    if generation is None:
                        break
                    rows.joining = self._join(rows, generation, batch_size)
                joining = rows.joining
                cost, outcome = self._advance(rows, joining)
                left -= cost
                if outcome is not None:
                    yield joining.generation, outcome
            if rows.active:
                yield from self._round(rows)
            elif not rows.joining:
                if not more:
                    return
                rows = self._empty_rows(batch_size)  # nobody is left: the buffer goes

    def _empty_rows(self, batch_size: int) -> _Rows:
        return _Rows(RowCache(self.model.config.text_config.num_hidden_layers, batch_size), [])

    def _join(self, rows: _Rows, generation: Generation, batch_size: int) -> Prefilling:
        generation.batch_size = batch_size
        return Prefilling(
            self.model,
            rows.cache,
            len(rows.active),
            generation,
            self.prefix_cache,
            self._chain(generation.job),
            self._images,
            self.pass_tokens,
        )

    def _advance(self, rows: _Rows, joining: Prefilling) -> tuple[int, Outcome | None]:
        """One piece of a prompt: the tokens it cost, and its outcome once there is one, be it the first token."""
        generation, cost = joining.generation, 0
        try:
            if generation.cancelled():
                outcome: Outcome = generation.cancel()
            else:
                cost = attempt(joining.step, self._make_room, self.model.device)
                if joining.logits is None or not joining.done:
                    return cost, None
                outcome = self._accept([generation], joining.logits[None])[0]
        except Exception as reason:  # whatever it is, it is this request's; the others go on
            outcome = self._named(reason, [generation], "prefill")
        rows.joining = None
        if isinstance(outcome, Exception) or outcome.finish_reason is not None:
            rows.cache.empty(joining.row)
        else:
            if joining.row != len(rows.active):  # rows have left meanwhile
                rows.cache.move(joining.row, len(rows.active))
            rows.active.append(generation)
        return cost, outcome

    def _round(self, rows: _Rows) -> list[tuple[Generation, Outcome]]:
        """Rows that were cancelled leave without a token; else one decode step of every row."""
        outcomes: list[tuple[Generation, Outcome]]
        outcomes = [(generation, generation.cancel()) for generation in rows.active if generation.cancelled()]
        outcomes = outcomes or self._step(rows)
        leaving = {id(g) for g, outcome in outcomes if isinstance(outcome, Exception) or outcome.finish_reason}
        for row in reversed(range(len(rows.active))):
            if id(rows.active[row]) in leaving:
                rows.cache.move(len(rows.active) - 1, row)
                rows.active[row] = rows.active[-1]
                rows.active.pop()
        return outcomes

    def _step(self, rows: _Rows) -> list[tuple[Generation, Outcome]]:
        """One decode step of every active row."""
        active, cache = rows.active, rows.cache
        tokens = torch.tensor([generation.token_ids[-1] for generation in active], device=self.model.device)
        try:
            logits = attempt(lambda: decode(self.model, cache, tokens), self._make_room, self.model.device)
        except Exception as reason:
            if is_memory_error(reason):
                # The buffer is as wide as its longest row, so that one goes and the others are tried again.
                longest = max(active, key=lambda g: len(g.job.prompt.token_ids) + len(g.token_ids))
                return [(longest, self._named(reason, active, "decode"))]
            return [(generation, reason) for generation in active]
        return list(zip(active, self._accept(active, logits), strict=True))

    def _accept(self, active: list[Generation], logits: Tensor) -> list[Outcome]:
        """Choose a token for each row of float32[B, N] and hand it over; E131 for a row of logits that are not numbers,
        E143 for one whose constraint cannot go on.
        """
        failed: dict[int, Exception] = {}
        seen = allowed = None
        if any(generation.seen is not None for generation in active):
            none = torch.zeros_like(logits[0], dtype=torch.bool)
            seen = torch.stack([none if g.seen is None else g.seen for g in active])
        if any(generation.matcher is not None for generation in active):
            allowed = self._allowed(active, logits, failed)
        chosen = choose(logits, [g.job.settings for g in active], seen, [g.generator for g in active], allowed)
        # A sum is finite only if all of it is: one pass over the logits. And one transfer for both, because on an
        # accelerator every transfer waits for the step to end.
        tokens, bad = torch.stack([chosen, (~torch.isfinite(logits.sum(-1))).long()]).tolist()
        outcomes: list[Outcome] = []
        for row, (generation, token) in enumerate(zip(active, tokens, strict=True)):
            if bad[row]:
                position = len(generation.token_ids) + 1
                failed[row] = error("E131", position=position, dtype=self.conditions.dtype)
            if row in failed:
                outcomes.append(failed[row])
                continue
            try:
                outcomes.append(generation.accept(token, logits[row]))
            except XverseError as problem:
                outcomes.append(problem)
        return outcomes

    def _allowed(self, active: list[Generation], logits: Tensor, failed: dict[int, Exception]) -> Tensor:
        """bool[B, N]: the tokens each row may take. A row whose constraint cannot go on is put in ``failed``."""
        allowed = torch.ones(logits.shape, dtype=torch.bool)
        for row, generation in enumerate(active):
            if generation.matcher is not None:
                try:
                    allowed[row] = generation.matcher.mask()
                except XverseError as problem:
                    failed[row] = problem
        return allowed.to(logits.device)

    def _make_room(self) -> int:
        """What is only kept in case it serves again gives way to what is asked for now. Bytes freed."""
        return self.prefix_cache.clear() + self.feature_cache.clear()

    def _named(self, reason: Exception, active: list[Generation], phase: str) -> Exception:
        """E130 for a memory error, else the reason itself."""
        if not is_memory_error(reason):
            return reason
        problem: XverseError = memory_error(active, phase, self.model.device, self.kv_bytes_per_token)
        problem.__cause__ = reason
        return problem

    def _chain(self, job: Job) -> list[str]:
        return shared_chain(job, self._salt) if self.prefix_cache.enabled else []


def _stop_ids(model: XverseVForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end an answer: the generation config's end ids, else the tokenizer's. Raises E132 if neither has one."""
    found = model.generation_config.eos_token_id if model.generation_config else None
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        raise error("E132")
    return frozenset([found] if isinstance(found, int) else found)
