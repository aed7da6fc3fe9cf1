"""Other ways to run the same weights, to be timed beside the engine in the same process.

In: our network, its processor. Out: `Way`s, each answering one image question greedily with every token timed. Peers
take the very tensors of our network, so no way has other weights and none needs a second copy. A peer is built as its
users would have it: `release` as the released code computes (LoRA of rank 128 kept beside the linears, attention in
plain products, all 24 layers of the tower, logits of every position of the prompt, keys and values joined anew at each
token); it is not that code, which needs libraries of 2023. `transformers` is the library's own InternVL class, which
computes the same graph. Nothing here compares or prints.

Shapes: S tokens of the prompt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import peft
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, DynamicCache, InternVLConfig, InternVLForConditionalGeneration
from transformers.generation import BaseStreamer

from xverse_v.inference.answer import Reuse
from xverse_v.inference.assistant import Assistant
from xverse_v.model import XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.speed.records import Sample
from xverse_v.weights.load import skeleton

RELEASE_RANK, RELEASE_ALPHA = 128, 256
OURS, RELEASE, STOCK = "xverse-v", "release's way", "transformers"


@dataclass(frozen=True)
class Run:
    """One answered question: the tokens, the time to the first, the time of all the others. phases: seconds of parts of
    the first token, where the way keeps such books."""

    token_ids: tuple[int, ...]
    prompt_tokens: int
    first: Sample
    rest: Sample
    phases: Mapping[str, float] = field(default_factory=dict)

    @property
    def each(self) -> Sample:
        """Seconds a token after the first."""
        steps = max(1, len(self.token_ids) - 1)
        return Sample(self.rest.wall / steps, self.rest.cpu / steps)


class Way(Protocol):
    """Something that answers. exact: in float32 its tokens must be those of the others."""

    name: str
    note: str
    exact: bool

    def answer(self, image: Image.Image, question: str, new_tokens: int) -> Run:
        """Greedy, exactly `new_tokens` tokens, nothing kept from before."""
        ...


class _Marks(BaseStreamer):
    """When each token came. transformers hands it the prompt first, which is no token of the answer."""

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self.began = (time.perf_counter(), time.process_time())
        self.marks: list[tuple[float, float]] = []

    def put(self, value: Any) -> None:
        if self._skip:
            self._skip -= 1
        else:
            self.marks.append((time.perf_counter(), time.process_time()))

    def end(self) -> None:
        """Nothing is held back."""

    def run(self, token_ids: Sequence[int], prompt_tokens: int) -> Run:
        first, last = self.marks[0], self.marks[-1]
        return Run(
            tuple(token_ids),
            prompt_tokens,
            Sample(first[0] - self.began[0], first[1] - self.began[1]),
            Sample(last[0] - first[0], last[1] - first[1]),
        )


class Ours:
    """The engine. reuse: "off" keeps nothing from an earlier question; "turns" asks behind an image that is known."""

    def __init__(
        self,
        assistant: Assistant,
        *,
        name: str = OURS,
        note: str = "the engine of this package",
        reuse: Reuse = "off",
        exact: bool = True,
    ) -> None:
        self.name, self.note, self.exact = name, note, exact
        self._assistant = assistant
        self._reuse: Reuse = reuse

    def answer(self, image: Image.Image, question: str, new_tokens: int) -> Run:
        return self.answer_to((image, question), new_tokens)

    def answer_to(self, content: Sequence[Image.Image | str], new_tokens: int) -> Run:
        """As `answer`, with any number of images in front of the question, also none."""
        marks = _Marks()
        stream = self._assistant.stream(
            *content, max_new_tokens=new_tokens, temperature=0.0, repetition_penalty=1.0, reuse=self._reuse
        )
        for chunk in stream:
            for token in chunk.token_ids:
                marks.put(token)
        answer = stream.answer
        spent = asdict(answer.receipt.milliseconds)
        phases = {name: spent[name] / 1000 for name in ("images", "vision", "prefill")}
        return replace(marks.run(answer.token_ids, answer.receipt.prompt_tokens), phases=phases)


class Release:
    """As the released code computes; see the module's docstring."""

    name, exact = RELEASE, True
    note = (
        f"LoRA r={RELEASE_RANK} unmerged, plain attention, 24 tower layers, logits of the whole prompt, joined cache; "
        "rebuilt, not its own code"
    )

    def __init__(self, network: XverseVForConditionalGeneration, processor: XverseVProcessor) -> None:
        self._processor = processor
        self._network = with_tensors_of(network, attention="eager")
        tower = self._network.model.vision_tower.encoder.layers
        # The 24th layer: its output is thrown away, as in the release, so the weights of the 23rd will do.
        self._last_layer = tower[-1]
        targets = r"model\.language_model\.layers\..*_proj"
        config = peft.LoraConfig(
            r=RELEASE_RANK, lora_alpha=RELEASE_ALPHA, lora_dropout=0.05, target_modules=targets, bias="none"
        )
        # peft starts B at zero: the cost of an adapter and the answers of the merged weights.
        peft.inject_adapter_in_model(config, self._network)
        self._network.requires_grad_(False).eval().to(network.device, network.dtype)

    @torch.inference_mode()
    def answer(self, image: Image.Image, question: str, new_tokens: int) -> Run:
        marks = _Marks()
        inputs = prompt_inputs(self._processor, image, question, self._network.device)
        core, cache = self._network.model, DynamicCache()
        features = self._features(inputs["pixel_values"])
        embeds = core.get_input_embeddings()(inputs["input_ids"])
        places = inputs["input_ids"] == self._network.config.image_token_id
        embeds = embeds.masked_scatter(places.unsqueeze(-1), features.to(embeds.dtype))
        logits = self._network(inputs_embeds=embeds, past_key_values=cache, use_cache=True).logits.float()
        tokens = [int(logits[0, -1].argmax())]
        marks.put(tokens[-1])
        while len(tokens) < new_tokens:
            step = torch.tensor([tokens[-1:]], device=self._network.device)
            logits = self._network(input_ids=step, past_key_values=cache, use_cache=True).logits.float()
            tokens.append(int(logits[0, -1].argmax()))
            marks.put(tokens[-1])
        return marks.run(tokens, inputs["input_ids"].shape[1])

    def _features(self, pixels: Tensor) -> Tensor:
        core = self._network.model
        hidden = core.vision_tower(pixels.to(self._network.dtype)).last_hidden_state
        self._last_layer(hidden, attention_mask=None)
        projected: Tensor = core.multi_modal_projector(hidden[:, 1:])
        return projected


class Stock:
    """transformers' InternVL class and its `generate`, merged weights, fused attention, one question at a time."""

    name, exact = STOCK, True
    note = "InternVLForConditionalGeneration.generate, merged weights, sdpa, 23 tower layers"

    def __init__(self, network: XverseVForConditionalGeneration, processor: XverseVProcessor) -> None:
        self._processor = processor
        self._network = stock_network(network)

    @torch.inference_mode()
    def answer(self, image: Image.Image, question: str, new_tokens: int) -> Run:
        marks = _Marks(skip=1)
        inputs = prompt_inputs(self._processor, image, question, self._network.device)
        pixels = inputs.pop("pixel_values").to(self._network.dtype)
        found = self._network.generate(
            **inputs,
            pixel_values=pixels,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=self._network.config.image_token_id,
            pad_token_id=0,
            streamer=marks,
        )
        prompt = inputs["input_ids"].shape[1]
        return marks.run(found[0, prompt:].tolist(), prompt)


def prompt_inputs(
    processor: XverseVProcessor, image: Image.Image, question: str, device: torch.device
) -> dict[str, Tensor]:
    """`input_ids` int64[1, S], `attention_mask`, `pixel_values` float32[V, 3, T, T]: the engine's prompt for a
    question without system text."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=[image], text=[text], return_tensors="pt", add_special_tokens=False)
    wanted = ("input_ids", "attention_mask", "pixel_values")
    return {name: inputs[name].to(device) for name in wanted}


def stock_network(network: XverseVForConditionalGeneration) -> InternVLForConditionalGeneration:
    """The library's class around our tensors; it computes the same graph to the last bit (docs/numerics.md)."""
    ours = network.config
    config = InternVLConfig(
        text_config=ours.text_config.to_dict(),
        image_token_id=ours.image_token_id,
        downsample_ratio=1.0,
        vision_feature_layer=-1,  # our tower ends where the release's features are taken
        vision_feature_select_strategy="default",
        projector_hidden_act=ours.projector_hidden_act,
        tie_word_embeddings=False,
    )
    config.vision_config = CLIPVisionConfig(**ours.vision_config.to_dict())
    with torch.device("meta"):
        stock = InternVLForConditionalGeneration._from_config(config, dtype=network.dtype)
    state = network.state_dict()
    norm = {name: torch.ones_like(p, device=network.device) for name, p in _post_norm(stock)}
    stock.load_state_dict({**state, **norm}, strict=True, assign=True)
    tower, decoder = stock.model.vision_tower, stock.model.language_model
    positions = tower.embeddings.position_ids.shape[-1]
    tower.embeddings.position_ids = torch.arange(positions, device=network.device)[None]
    decoder.rotary_emb = type(decoder.rotary_emb)(config=config.text_config).to(network.device)
    return stock.requires_grad_(False).eval()


def _post_norm(stock: InternVLForConditionalGeneration) -> list[tuple[str, Tensor]]:
    """CLIP's last norm, which our model does not store and no feature passes."""
    return [(name, p) for name, p in stock.named_parameters() if ".post_layernorm." in name]


def with_tensors_of(
    network: XverseVForConditionalGeneration, *, attention: str | None = None
) -> XverseVForConditionalGeneration:
    """The same tensors in a second network, with another attention kernel if one is named."""
    attention = attention or network.config._attn_implementation
    twin = skeleton(deepcopy(network.config), attention=attention, dtype=network.dtype)
    twin.load_state_dict(network.state_dict(), strict=True, assign=True)
    return twin.to(network.device)
