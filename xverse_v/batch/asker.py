"""The answering function of a batch run for our own engine: questions into requests, answers into fields of a row.

The one file of the room that knows the engine. What a row says is decided here, and so is what counts as a setting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from xverse_v import __version__
from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import Answer
from xverse_v.inference.assistant import Assistant, Detail, Request, tile_limit
from xverse_v.inference.sampling import SamplingOptions, with_options

from .run import Question


class Asker:
    """Turns questions into requests of the engine and answers into the fields of a row."""

    def __init__(
        self,
        assistant: Assistant,
        options: SamplingOptions,
        *,
        system: str | None = None,
        max_tiles: int | None = None,
        detail: Detail = "auto",
        batch_size: int = 8,
    ) -> None:
        """`options` stand in place of the profile's values. Raises E101, E109 and E112 before a single row is tried."""
        self.assistant, self.system, self.batch_size = assistant, system, batch_size
        self.settings = with_options(assistant.settings, options)
        # A request without settings of its own may have its answer's length shrunk to what still fits.
        self._own_settings = bool(options) or not self.settings.greedy
        most = int(assistant.prompts.processor.image_processor.max_tiles)
        limit = tile_limit(detail, max_tiles)
        if limit is not None and not 1 <= limit <= most:
            raise error("E112", got=limit, most=most)
        self.max_tiles = most if limit is None else limit

    def settings_document(self) -> dict[str, Any]:
        """All that decides an answer besides its line. The number of threads and the batch size are left out: in
        float32 they change no token."""
        conditions = self.assistant.engine.conditions
        return {
            "version": __version__,
            "weights_id": conditions.weights_id,
            "dtype": conditions.dtype,
            "quantised": conditions.quantised,
            "orientation": conditions.orientation,
            "max_tiles": self.max_tiles,
            "system": self.system,
            **asdict(self.settings),
        }

    def answer(self, questions: Iterable[Question]) -> Iterator[tuple[int, Mapping[str, Any] | XverseError]]:
        """The answering function of `run_batch`."""
        requests = map(self._request, questions)
        for place, outcome in self.assistant.map(requests, batch_size=self.batch_size):
            yield place, outcome if isinstance(outcome, XverseError) else self._fields(outcome)

    def _request(self, question: Question) -> Request:
        settings = self.settings
        if not settings.greedy:
            # Each row draws for itself: the same seed for all would give one question under two ids the same answer,
            # and one generator for the run would make an answer depend on what was asked before it.
            settings = replace(settings, seed=row_seed(settings.seed, question.id))
        return Request(
            question=question.text,
            images=question.images,
            system=self.system if question.system is None else question.system,
            max_tiles=self.max_tiles,
            settings=settings if self._own_settings else None,
        )

    def _fields(self, answer: Answer) -> dict[str, Any]:
        receipt = answer.receipt
        fields: dict[str, Any] = {
            "answer": answer.text,
            "finish_reason": answer.finish_reason,
            "images": [asdict(image) for image in receipt.images],
            "prompt_tokens": receipt.prompt_tokens,
            "completion_tokens": receipt.completion_tokens,
        }
        if not self.settings.greedy:
            fields["seed"] = receipt.seed
        if self.settings.logprobs:
            fields["logprobs"] = [asdict(token) for token in answer.logprobs]
        return fields


def row_seed(seed: int, identity: str | int) -> int:
    """63 bits from the run's seed and the row's id."""
    digest = hashlib.sha256(f"{seed} {identity!r}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
