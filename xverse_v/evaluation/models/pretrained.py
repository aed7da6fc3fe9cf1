"""Any image-text-to-text folder of transformers measured, with its own processor and chat template.

What crosses: prompts in, predictions out. Only models the installed transformers knows, only safetensors, only files of
the folder: Python code of a model is never run and nothing is fetched. Decoding is greedy with none of the folder's own
sampling or penalties, so models differ by their weights and prompts alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import versions

from ..contract import ImageRef, Prediction, Prompt
from .images import ImageRule, Recent
from .packing import pack
from .refused import refusal


@dataclass(frozen=True)
class _Asked:
    """One prompt ready for the network: the template's text, RGB images in order, the longest answer in tokens."""

    key: str
    text: str
    images: tuple[Image.Image, ...]
    max_new_tokens: int


class PretrainedModel:
    """Greedy answers of one loaded model. Made by `opening.open_model`, which checks what it loads."""

    def __init__(
        self, network: Any, processor: Any, name: str, weights_id: str, rule: ImageRule, *, batch_size: int = 1
    ) -> None:
        """``batch_size`` above 1 pads the shorter prompts on the left; with this model's own attention that may move
        the last bits, so it is part of the facts. Raises E774 if the tokenizer has no token to pad with."""
        tokenizer = processor.tokenizer
        if batch_size > 1 and tokenizer.pad_token_id is None:
            raise error("E774", name="--batch-size", got=batch_size, expected="1 (the tokenizer has no pad token)")
        tokenizer.padding_side = "left"
        self.name = name
        self.usage: dict[str, int] = {"prompt_tokens": 0, "completion_tokens": 0}
        self._network, self._processor, self._batch_size = network.eval(), processor, batch_size
        self._end_ids = _keep_ids_only(network, tokenizer)
        self._images: Recent[Image.Image] = Recent(lambda ref, alone: _rgb(rule.open(ref, alone=alone)))
        self._limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        self.facts: Mapping[str, object] = {
            "kind": "transformers",
            "model_type": network.config.model_type,
            "weights_id": weights_id,
            "dtype": str(network.dtype).removeprefix("torch."),
            "device": str(network.device),
            "attention": network.config.get_text_config()._attn_implementation or "eager",
            "threads": torch.get_num_threads(),
            "batch_size": batch_size,
            "reencode": rule.reencode,
            "decoding": "greedy",
            "versions": dict(versions()),
        }

    def answers(self, prompts: Iterable[tuple[str, Prompt]]) -> Iterator[Prediction]:
        """A prediction for each prompt, in order but for refused ones, which give a prediction with their error."""
        together: list[_Asked] = []
        for key, prompt in prompts:
            try:
                asked = self._asked(key, prompt)
            except XverseError as problem:
                yield refusal(key, problem)
                continue
            # Rows share a batch if they have as many images and as long an answer: processors take no mixed batch.
            if together and (len(together) == self._batch_size or not _alike(together[0], asked)):
                yield from self._answer(together)
                together = []
            together.append(asked)
        if together:
            yield from self._answer(together)

    def _asked(self, key: str, prompt: Prompt) -> _Asked:
        refs = [part for part in prompt.parts if isinstance(part, ImageRef)]
        images = tuple(self._images.get(ref, len(refs) == 1) for ref in refs)
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in prompt.parts]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": prompt.system}]})
        text = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return _Asked(key, text, images, prompt.max_new_tokens)

    @torch.inference_mode()
    def _answer(self, asked: Sequence[_Asked]) -> Iterator[Prediction]:
        inputs = self._inputs(asked)
        length, longest = int(inputs["input_ids"].shape[1]), asked[0].max_new_tokens
        if self._limit is not None and length + longest > self._limit:
            if len(asked) > 1:  # one row's fault is not its neighbours'
                for one in asked:
                    yield from self._answer([one])
                return
            yield refusal(asked[0].key, error("E773", prompt=length, answer=longest, limit=self._limit))
            return
        generated = self._network.generate(**inputs, max_new_tokens=longest, do_sample=False, num_beams=1)
        masks = inputs["attention_mask"].bool()
        for one, ids, mask, made in zip(asked, inputs["input_ids"], masks, generated[:, length:], strict=True):
            yield self._prediction(one, ids[mask].tolist(), _until_end(made.tolist(), self._end_ids))

    def _inputs(self, asked: Sequence[_Asked]) -> Any:
        images = [list(one.images) for one in asked] if asked[0].images else None
        options: dict[str, Any] = {"padding": True} if len(asked) > 1 else {}
        start = self._processor.tokenizer.bos_token
        if start and asked[0].text.startswith(start):
            options["add_special_tokens"] = False  # the template wrote the start token already
        inputs = self._processor(images=images, text=[one.text for one in asked], return_tensors="pt", **options)
        inputs = inputs.to(self._network.device)
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.is_floating_point():
                inputs[name] = value.to(self._network.dtype)
        return inputs

    def _prediction(self, asked: _Asked, ids: list[int], made: list[int]) -> Prediction:
        text = self._processor.tokenizer.decode(made, skip_special_tokens=True).strip()
        self.usage["prompt_tokens"] += len(ids)
        self.usage["completion_tokens"] += len(made)
        facts = {
            "prompt_token_ids": pack(ids),
            "token_ids": made,
            "images": [{"width": image.width, "height": image.height} for image in asked.images],
            "prompt_tokens": len(ids),
            "completion_tokens": len(made),
            "max_new_tokens": asked.max_new_tokens,
        }
        return Prediction(asked.key, text, "stop" if made and made[-1] in self._end_ids else "length", facts)


def _alike(one: _Asked, other: _Asked) -> bool:
    return len(one.images) == len(other.images) and one.max_new_tokens == other.max_new_tokens


def _keep_ids_only(network: Any, tokenizer: Any) -> frozenset[int]:
    """Replace the folder's generation settings by their token ids: `generate` fills every setting a call leaves open
    from them, a repetition penalty for one. Returns the ids that end an answer."""
    from transformers import GenerationConfig

    own = network.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    end_ids = [] if ends is None else list(ends) if isinstance(ends, list | tuple) else [ends]
    pad = next((token for token in (own.pad_token_id, tokenizer.pad_token_id, *end_ids) if token is not None), None)
    network.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=end_ids or None, pad_token_id=pad
    )
    return frozenset(end_ids)


def _until_end(made: list[int], end_ids: frozenset[int]) -> list[int]:
    """A row's own ids: what a batch appended behind its end token is padding."""
    end = next((place for place, token in enumerate(made) if token in end_ids), None)
    return made if end is None else made[: end + 1]


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
