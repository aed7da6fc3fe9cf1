"""Our own models measured: rows to requests of the engine, answers to predictions with the facts that made them.

What crosses: prompts in, predictions out as they finish. The engine prefills an image once for all neighbouring
questions about it and answers several rows at a time; in float32 neither changes a token. The released model takes one
image and one text, so a prompt of several parts is folded as VLMEvalKit folds it for this model: texts joined by line
breaks, the first image that is referred to. What was left out is counted in the prediction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Literal

from xverse_v.errors import XverseError
from xverse_v.inference.answer import UNQUANTISED, Answer, versions
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.generation import Generation
from xverse_v.inference.prompt import PreparedImage
from xverse_v.inference.sampling import SamplingSettings

from ..contract import ImageRef, Prediction, Prompt
from .images import ImageRule, Recent
from .packing import pack
from .refused import refusal

log = logging.getLogger(__name__)

ImagesTaken = Literal["first", "all"]
IMAGE_MARK = "<image>"
_LEAST_ROWS, _MOST_ROWS = 8, 64  # behind 64, a question costs hardly less
_ROWS_BYTES = 2**31
_TEXT_TOKENS = 256


class XverseModel:
    """Greedy answers of an `Assistant`, in the release's evaluation form of the prompt."""

    def __init__(
        self,
        assistant: Assistant,
        name: str,
        rule: ImageRule,
        *,
        images: ImagesTaken = "first",
        marks: bool = False,
        batch_size: int | None = None,
    ) -> None:
        """``images``: "first" as the release, or "all", in front of the text. ``marks`` puts the text "<image>" where
        images stood in a prompt of two or more, as the VLMEvalKit of April 2024 did. ``batch_size`` None: see
        `own_batch_size`."""
        self.name = name
        self.usage: dict[str, int] = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        batch_size = batch_size or own_batch_size(assistant)
        self._assistant, self._batch_size = assistant, batch_size
        self._rule, self._taken, self._marks = rule, images, marks
        self._images: Recent[PreparedImage] = Recent(
            lambda ref, alone: assistant.prompts.prepare(rule.open(ref, alone=alone))
        )
        self._warned = False
        self.facts: dict[str, object] = {
            "kind": "xverse_v",
            **asdict(assistant.engine.conditions),
            "max_tiles": int(assistant.prompts.processor.image_processor.max_tiles),
            "images_taken": images,
            "image_marks": marks,
            "reencode": rule.reencode,
            "decoding": "greedy",
            "versions": dict(versions()),
        }
        conditions = assistant.engine.conditions
        if conditions.dtype != "float32" or conditions.quantised != UNQUANTISED:
            self.facts["batch_size"] = batch_size  # with fewer bits, neighbours may move a close call

    def answers(self, prompts: Iterable[tuple[str, Prompt]]) -> Iterator[Prediction]:
        """A prediction for each prompt, as they finish. A prompt that is refused gives a prediction with its error.

        Raises E130 (memory) and E131 (broken logits), which are not one row's fault.
        """
        places: dict[int, tuple[str, int]] = {}
        refused: list[Prediction] = []

        def admitted() -> Iterator[Generation]:
            for key, prompt in prompts:
                try:
                    generation, unused = self._generation(prompt)
                except XverseError as problem:
                    refused.append(refusal(key, problem))
                    continue
                places[id(generation)] = (key, unused)
                yield generation

        for generation, chunk in self._assistant.engine.run(admitted(), self._batch_size):
            while refused:
                yield refused.pop(0)
            if chunk.finish_reason is not None:
                yield self._prediction(generation, *places.pop(id(generation)))
        yield from refused

    def _generation(self, prompt: Prompt) -> tuple[Generation, int]:
        """The engine's job for one prompt, and how many of its images the model does not see."""
        refs = [part for part in prompt.parts if isinstance(part, ImageRef)]
        taken = refs if self._taken == "all" else refs[:1]
        unused = len(refs) - len(taken)
        if unused and not self._warned:
            self._warned = True
            log.warning("prompts with several images: the model sees the first one of each, as in the release")
        request = Request(
            question=folded_text(prompt, marks=self._marks),
            images=tuple(self._images.get(ref, len(refs) == 1) for ref in taken),
            system=prompt.system or None,
            settings=SamplingSettings(max_new_tokens=prompt.max_new_tokens),
        )
        # Not of fixed length: where fewer tokens are left, the answer may have those; its facts say how many.
        return self._assistant.generation(request, fixed_length=False), unused

    def _prediction(self, generation: Generation, key: str, unused: int) -> Prediction:
        answer = generation.answer()
        for name in self.usage:
            self.usage[name] += getattr(answer.receipt, name)
        facts = _facts(answer, generation)
        if unused:
            facts["images_unused"] = unused
        return Prediction(key, answer.text, answer.finish_reason, facts)


def own_batch_size(assistant: Assistant) -> int:
    """Questions at the same time where nobody says: as many as keep their keys and values in 2 GiB with the longest
    prompt of one image, but 8 at least and 64 at most. Of the released model that is 8, of the built-in one 64."""
    views = 1 + int(assistant.prompts.processor.image_processor.max_tiles)
    vision = assistant.engine.model.config.vision_config
    tokens = views * (vision.image_size // vision.patch_size) ** 2 + _TEXT_TOKENS
    return min(_MOST_ROWS, max(_LEAST_ROWS, _ROWS_BYTES // (tokens * assistant.engine.kv_bytes_per_token)))


def folded_text(prompt: Prompt, *, marks: bool) -> str:
    """All texts of a prompt, joined by line breaks; with ``marks`` also "<image>" for each of two or more images.

    Source: VLMEvalKit ``vlm/base.py::message_to_promptimg``, today's and (marks) that of April 2024.
    """
    several = sum(isinstance(part, ImageRef) for part in prompt.parts) > 1
    texts = [part if isinstance(part, str) else IMAGE_MARK for part in prompt.parts]
    if not (marks and several):
        texts = [part for part in prompt.parts if isinstance(part, str)]
    return "\n".join(texts)


def _facts(answer: Answer, generation: Generation) -> dict[str, Any]:
    """What is the same for every batch size, order and state of the caches; times and hits are left out."""
    receipt = answer.receipt
    return {
        "prompt_token_ids": pack(generation.job.prompt.token_ids),
        "token_ids": list(answer.token_ids),
        "images": [asdict(image) for image in receipt.images],
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "max_new_tokens": receipt.settings.max_new_tokens,
    }
