"""Any number of requests on one model: who prefills, who decodes, who leaves.

What crosses: `Generation`s in, `Chunk`s out. Images and long prompts are prefilled one by one, exactly as they would be
alone; the short ends of those that join at the same moment share a pass, and then all share decode steps. A row that
ends leaves at once and the next waiting one takes its place. A failure belongs to the request that met it. The engine
opens no images, writes no prompt, and waits for nobody: its source does.

Shapes: B rows, N vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable

import torch
from transformers import PreTrainedTokenizerBase

from xverse_v.errors import XverseError, error
from xverse_v.model import XverseVForConditionalGeneration

from .answer import Chunk, Conditions
from .cache import FeatureCache, PrefixCache, content_key
from .constraint import JsonConstraints
from .features import ImageTokens
from .generation import Generation, Job, accept_together, stop_ids
from .kv import RowCache
from .memory import attempt, is_memory_error, memory_error
from .passes import can_prefill_together, decode
from .prefilling import Prefilling, finish_together, shared_chain
from .seats import Seats

Outcome = Chunk | Exception

_log = logging.getLogger(__name__)

_SHORT = 256  # tokens; a longer end of a prompt fills the machine by itself
_REFILL = 4  # of all rows, one in so many is free before `run` fills them again
_TOGETHER = 1024  # most tokens of one pass over several ends, filling included


class Engine:
    """Runs jobs on one model. Not for several threads at once: one engine has one model and one row of seats.

    ``pass_tokens``: most prompt tokens of one pass, and how many are prefilled between two decode steps before no
    further pass begins, so that a long prompt does not hold up the answers beside it; None prefills a part of a prompt
    whole, and fills every free row first. Of a pass that several share, what fills it up counts, too.
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
        self.stop_ids = stop_ids(model, tokenizer)
        facts = {key: getattr(conditions, key) for key in ("weights_id", "dtype", "device", "attention", "quantised")}
        self._salt = content_key("model", facts)
        self._images = ImageTokens(self.model, feature_cache, self._salt)
        self.constraints = JsonConstraints(tokenizer, model.config.text_config.vocab_size, lambda: self.stop_ids)

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def _longest_end(self) -> int:
        """Most tokens of the end of a prompt that shares its pass with others."""
        return min(_SHORT, self.pass_tokens or _SHORT) if can_prefill_together(self.model) else 0

    @property
    def _most_together(self) -> int:
        return min(_TOGETHER, self.pass_tokens or _TOGETHER)

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

        Closing it ends the work, a job's ``cancel`` that job, within one token. The first failure is raised. Nobody is
        kept waiting for an answer here, so rows are filled again only when several are free: their prompts then share
        passes that would else be made for each.
        """
        for generation, outcome in self.serve(generations, batch_size, -(-batch_size // _REFILL)):
            if isinstance(outcome, Exception):
                raise outcome
            yield generation, outcome

    def serve(
        self, waiting: Iterable[Generation | None], batch_size: int, least_free: int = 1
    ) -> Generator[tuple[Generation, Chunk | Exception]]:
        """As `run`, for requests that come while others are answered, and with failures as outcomes of their own.

        ``waiting`` is asked for the next one whenever a row is free. It gives None if nothing is waiting now, and ends
        when nothing will come any more; while no row is in use it should wait instead, because nothing else is to be
        done. What it raises ends all. Rows are filled when at least ``least_free`` of them are free.

        A request ends with a chunk that has a finish reason, or with an exception: E130 if its prompt did not fit in
        memory, or it was the longest row when a decode step did not; E131; E143; or whatever else its prefill raised. A
        decode step that fails otherwise fails every row in it. The others, and those that come, go on.
        """
        source = iter(waiting)
        rows, more = Seats(self.row_cache(batch_size)), True
        while True:
            may_join = rows.joining or batch_size - rows.seated >= least_free
            left, idle = (self.pass_tokens or float("inf")) if may_join else 0, False
            while left > 0 and rows.seated < batch_size and (more or rows.joining):
                if rows.joining is None:
                    try:
                        generation = next(source)
                    except StopIteration:
                        more = False
                        break
                    if generation is None:
                        idle = True
                        break
                    rows.joining = self._join(rows, generation, batch_size)
                cost, outcomes = self._advance(rows, rows.joining)
                left -= cost
                yield from outcomes
            yield from self._seat(rows)
            if rows.active:
                yield from self._round(rows)
            elif not rows.joining:
                if not more:
                    return
                if idle:  # nobody is left and nobody waits: the buffer goes
                    rows = Seats(self.row_cache(batch_size))

    def row_cache(self, rows: int) -> RowCache:
        """Empty rows. An engine whose decoder keeps its keys and values elsewhere gives others."""
        return RowCache(self.model.config.text_config.num_hidden_layers, rows)

    def _join(self, rows: Seats, generation: Generation, batch_size: int) -> Prefilling:
        generation.batch_size = batch_size
        chain, cache = self._chain(generation.job), self.prefix_cache
        images, most = self._images, self.pass_tokens
        return Prefilling(self.model, rows.cache, rows.seated, generation, cache, chain, images, most)

    def _advance(self, rows: Seats, joining: Prefilling) -> tuple[int, list[tuple[Generation, Outcome]]]:
        """One piece of a prompt, or a place among those that are ready for their short end: the tokens it cost, filling
        included, and what came of it for anybody.
        """
        generation, rest, cost = joining.generation, len(joining.rest), 0
        gone: Outcome | None = None
        try:
            if generation.cancelled():
                gone = generation.cancel()
            elif not 0 < rest <= self._longest_end:
                rest, cost = 0, attempt(joining.step, self._make_room, self.model.device)
                if not joining.done:
                    return cost, []
        except Exception as reason:  # whatever it is, it is this request's; the others go on
            gone = self._named(reason, [generation], "prefill")
        rows.joining = None
        if gone is not None:
            rows.cache.empty(joining.row)
            return cost, [(generation, gone)]
        fits = rows.tokens_together(rest) <= self._most_together and rows.suits(rest)
        outcomes = [] if fits else self._seat(rows)
        cost += rows.tokens_together(rest) - rows.tokens_together()
        if joining.row != rows.seated:  # rows have left meanwhile
            rows.cache.move(joining.row, rows.seated)
            joining.row = rows.seated
        rows.ready.append(joining)
        return cost, outcomes + (self._seat(rows) if joining.done else [])

    def _seat(self, rows: Seats) -> list[tuple[Generation, Outcome]]:
        """Those that are ready get the end of their prompt and their first token, and decode from now on."""
        ready, rows.ready = rows.ready, []
        outcomes = self._finish(rows.cache, [prefilling for prefilling in ready if not prefilling.done])
        ends = [(prefilling.generation, prefilling.logits) for prefilling in ready if prefilling.logits is not None]
        begun = [generation for generation, _ in ends]
        try:
            logits = [row for _, row in ends]
            found = accept_together(begun, torch.stack(logits), self.conditions.dtype) if ends else []
        except Exception as reason:  # as in a decode step
            found = [self._named(reason, begun, "prefill")] * len(begun)
        outcomes += zip(begun, found, strict=True)
        rows.active += [prefilling.generation for prefilling in ready]
        self._leave(rows, outcomes)
        return outcomes

    def _finish(self, cache: RowCache, ready: list[Prefilling]) -> list[tuple[Generation, Outcome]]:
        """The ends of these prompts in one pass; if it fails, one by one, which shows whose failure it is."""
        if len(ready) > 1:
            try:
                attempt(lambda: finish_together(self.model, cache, ready), self._make_room, self.model.device)
            except Exception as reason:
                _log.warning("%d prompts are prefilled one by one: %s", len(ready), reason)
        failed: list[tuple[Generation, Outcome]] = []
        for prefilling in ready:
            try:
                if not prefilling.done:
                    attempt(prefilling.step, self._make_room, self.model.device)
            except Exception as reason:
                failed.append((prefilling.generation, self._named(reason, [prefilling.generation], "prefill")))
        return failed

    def _round(self, rows: Seats) -> list[tuple[Generation, Outcome]]:
        """Rows that were cancelled leave without a token; else one decode step of every row."""
        outcomes: list[tuple[Generation, Outcome]]
        outcomes = [(generation, generation.cancel()) for generation in rows.active if generation.cancelled()]
        outcomes = outcomes or self._step(rows)
        self._leave(rows, outcomes)
        return outcomes

    def _leave(self, rows: Seats, outcomes: list[tuple[Generation, Outcome]]) -> None:
        """The rows whose request has ended are free, and those that go on are the first ones again."""
        ended = {id(g): outcome for g, outcome in outcomes if isinstance(outcome, Exception) or outcome.finish_reason}
        for row in reversed(range(len(rows.active))):
            if (outcome := ended.get(id(rows.active[row]))) is not None:
                rows.cache.move(len(rows.active) - 1, row, scrub=isinstance(outcome, Exception))
                rows.active[row] = rows.active[-1]
                rows.active.pop()

    def _step(self, rows: Seats) -> list[tuple[Generation, Outcome]]:
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
        for generation in active:
            generation.shared_passes += cache.shared
        return list(zip(active, accept_together(active, logits, self.conditions.dtype), strict=True))

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
