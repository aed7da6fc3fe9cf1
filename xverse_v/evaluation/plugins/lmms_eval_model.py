"""Our models inside lmms-eval: its chat model class. Imported by lmms-eval alone, and only when the model is chosen.

What crosses: requests (a function from a document to messages, generation settings) in; texts with token counts out, in
the order of the requests. Questions about one image that come one after another share its prefill. Settings we cannot
honour are refused, not dropped; the one exception is `until`, see `settings_of`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch

from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import Answer
from xverse_v.inference.assistant import Request
from xverse_v.inference.generation import Generation
from xverse_v.inference.loading import load, pick_device
from xverse_v.inference.sampling import SamplingSettings

_API: Any = import_module("lmms_eval.api.model")
_INSTANCE: Any = import_module("lmms_eval.api.instance")
_DEFAULT_NEW_TOKENS = 1024  # what lmms-eval's own chat models use where a task says nothing
_DEFAULT_BATCH = 8


class XverseV(_API.lmms):
    """``--model xverse_v --model_args pretrained=nano|FOLDER[,dtype=...,images=first|all,system_prompt=...]``."""

    is_simple = False

    def __init__(
        self,
        pretrained: str = "nano",
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | str | None = None,
        images: str = "all",
        system_prompt: str | None = None,
        **others: Any,
    ) -> None:
        """``images``: "all" of a question in front of its text, or "first" as the release takes them. ``batch_size``
        "auto" is 8. Raises E774 for an argument or value that is none of these, E105/E106 as loading does."""
        super().__init__()
        if others:
            raise error(
                "E774", name="--model_args", got=", ".join(sorted(others)), expected="pretrained, dtype, images"
            )
        if images not in ("first", "all"):
            raise error("E774", name="images", got=images, expected="first, all")
        self.batch_size = _DEFAULT_BATCH if batch_size == "auto" else int(batch_size)
        self.device = torch.device(pick_device(_own_device(device)))
        self.assistant = load(pretrained, device=str(self.device), dtype=dtype)
        self.system_prompt = self._resolve_system_prompt(system_prompt) if system_prompt else None
        self._first_only = images == "first"
        self._rank, self._world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """A `GenerationResult` for each request. Raises the first problem, naming the task and the document."""
        results: list[Any] = [None] * len(requests)
        places: dict[int, int] = {}
        for generation, chunk in self.assistant.engine.run(self._generations(requests, places), self.batch_size):
            if chunk.finish_reason is not None:
                results[places.pop(id(generation))] = _result(generation.answer())
        return results

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("xverse_v answers generate_until tasks; this task asks for log-likelihoods")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("xverse_v answers generate_until tasks; this task asks in several rounds")

    def _generations(self, requests: Sequence[Any], places: dict[int, int]) -> Iterator[Generation]:
        """Jobs in order; ``places`` says where each answer belongs."""
        for place, request in enumerate(requests):
            _, doc_to_messages, settings, doc_id, task, split = request.args
            try:
                asked = self._request(doc_to_messages(self.task_dict[task][split][doc_id]), settings_of(settings))
                # Tasks allow answers longer than any context; what fits behind the prompt is taken.
                generation = self.assistant.generation(asked, fixed_length=False)
            except XverseError as problem:
                raise RuntimeError(f"{task}, {split} document {doc_id}: {problem}") from problem
            places[id(generation)] = place
            yield generation

    def _request(self, messages: Sequence[Mapping[str, Any]], settings: SamplingSettings) -> Request:
        """One question from chat messages: system texts and a single user turn. Raises E774 for any other form."""
        images: list[Any] = []
        texts: list[str] = []
        system = [self.system_prompt] if self.system_prompt else []
        for message in messages:
            if message["role"] not in ("system", "user"):
                raise error(
                    "E774", name="message role", got=message["role"], expected="system, user (no few-shot turns)"
                )
            content = message["content"]
            for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if part["type"] == "text":
                    (system if message["role"] == "system" else texts).append(part["text"])
                elif part["type"] == "image":
                    images.append(part["url"])
                else:
                    raise error("E774", name="message content", got=part["type"], expected="text, image")
        taken = images[:1] if self._first_only else images
        return Request("\n".join(texts), tuple(taken), "\n".join(system) or None, settings=settings)


def settings_of(given: Mapping[str, Any]) -> SamplingSettings:
    """lmms-eval's generation settings as ours. ``until`` is left out, as its own chat models leave it out: where a task
    names none, lmms-eval fills in a blank line, which would cut answers.

    Raises E774 for a beam search, which the engine does not do, and for a setting nobody here knows.
    """
    known = {"until", "max_new_tokens", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", "num_beams"}
    if unknown := sorted(set(given) - known - {"image_aspect_ratio", "use_cache"}):
        raise error("E774", name="--gen_kwargs", got=", ".join(unknown), expected=", ".join(sorted(known)))
    if (given.get("num_beams") or 1) != 1:
        raise error("E774", name="num_beams", got=given["num_beams"], expected="1")
    longest = given.get("max_new_tokens") or given.get("max_gen_toks") or _DEFAULT_NEW_TOKENS
    settings = SamplingSettings(max_new_tokens=int(longest))
    temperature = float(given.get("temperature") or 0.0)
    if not given.get("do_sample", temperature > 0) or temperature == 0:
        return settings
    top_p, top_k = given.get("top_p"), given.get("top_k")
    return replace(
        settings, temperature=temperature, top_p=1.0 if top_p is None else float(top_p), top_k=int(top_k or 0)
    )


def _result(answer: Answer) -> Any:
    counts = _INSTANCE.TokenCounts(
        input_tokens=answer.receipt.prompt_tokens, output_tokens=answer.receipt.completion_tokens
    )
    return _INSTANCE.GenerationResult(text=answer.text.strip(), token_counts=counts)


def _own_device(device: str | None) -> str | None:
    """Each process of a launch its own GPU, where none or just "cuda" was named."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1 and torch.cuda.is_available()
    if several and device in (None, "cuda"):
        return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    return device
