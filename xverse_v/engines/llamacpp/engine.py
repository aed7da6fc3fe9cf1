"""The engine of `inference`, with rows in llama.cpp's memory. Sampling, stopping, batching and receipts are its own.

What crosses: as there. A prompt is computed in passes of at most `PASS_TOKENS` tokens, between which an answer can be
cancelled and others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable

from transformers import PreTrainedTokenizerBase

from xverse_v.inference.answer import Chunk, Conditions
from xverse_v.inference.cache import FeatureCache, PrefixCache
from xverse_v.inference.engine import Engine
from xverse_v.inference.generation import Generation
from xverse_v.model import XverseVForConditionalGeneration

from .context import PASS_TOKENS, Context
from .rows import LlamaRows

_log = logging.getLogger(__name__)


class LlamaCppEngine(Engine):
    """``rows``: most requests at once, whatever is asked for; the receipt tells how many could share a step."""

    def __init__(
        self,
        model: XverseVForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        conditions: Conditions,
        prefix_cache: PrefixCache,
        feature_cache: FeatureCache,
        native: Context,
        rows: int,
        bytes_per_token: int,
    ) -> None:
        super().__init__(model, tokenizer, conditions, prefix_cache, feature_cache, PASS_TOKENS)
        self.native = native
        self.rows = rows
        self._bytes_per_token = bytes_per_token

    @property
    def kv_bytes_per_token(self) -> int:
        return self._bytes_per_token

    def row_cache(self, rows: int) -> LlamaRows:
        return LlamaRows(self.native, rows, self._bytes_per_token)

    def serve(
        self, waiting: Iterable[Generation | None], batch_size: int, least_free: int = 1
    ) -> Generator[tuple[Generation, Chunk | Exception]]:
        """As there, with at most ``rows`` at once: more would not fit in the memory llama.cpp has reserved."""
        if batch_size > self.rows:
            _log.info("llama.cpp was loaded for %d rows at once, %d were asked for", self.rows, batch_size)
        return super().serve(waiting, min(batch_size, self.rows), min(least_free, self.rows))
