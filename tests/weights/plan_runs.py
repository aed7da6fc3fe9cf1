"""Runs whose memory is measured: the real engine on small random networks, and the tracker.

The tracker is torch's profiler: it sees every byte that torch's CPU allocator hands out and takes back, temporaries
inside kernels included. That it tells the truth is checked against the process's own memory in test_plan_process.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile
from transformers import CLIPVisionConfig, LlamaConfig

from tests.conftest import tiny_processor
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.loading import assemble
from xverse_v.inference.prompt import PreparedImage
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration
from xverse_v.weights.plan import InferenceOptions, plan_inference, views_of
from xverse_v.weights.plan_table import Device, Plan
from xverse_v.weights.shapes import shape_from_config

IMAGE_TOKEN, END = 512, 3
UNTRACKED = "cutting the views"
"""The one phase made of arrays, not of tensors; the process's memory shows it, the tracker does not."""


def network(
    *,
    vision_width: int = 64,
    vision_layers: int = 2,
    width: int = 96,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int | None = None,
    feed_forward: int = 256,
    vocabulary: int = 600,
    vision_act: str = "quick_gelu",
    dtype: torch.dtype = torch.float32,
) -> XverseVForConditionalGeneration:
    """A random network with 64 image tokens a view that never ends an answer by itself."""
    vision = CLIPVisionConfig(
        hidden_size=vision_width,
        intermediate_size=4 * vision_width,
        num_hidden_layers=vision_layers,
        num_attention_heads=4,
        image_size=224,
        patch_size=28,
        hidden_act=vision_act,
    )
    text = LlamaConfig(
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        vocab_size=vocabulary,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=END,
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    model = XverseVForConditionalGeneration(XverseVConfig(vision, text, image_token_id=IMAGE_TOKEN))
    with torch.no_grad():
        model.lm_head.weight[END] = 0  # a logit of 0 is never the largest of 600
    model.generation_config.eos_token_id = END
    return model.to(dtype).eval()


def stored_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes torch's CPU allocator had given out at once during `work`, on top of what it had before.

    Only what was given out during `work` is taken off again when it is freed: for older memory the profiler may
    report the size of an earlier block at the same address.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events, waiting = [], list(recorded.profiler.kineto_results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    most, given_out = 0, dict[int, int]()
    for _, address, size in sorted(events, key=lambda event: event[0]):
        if size > 0:
            given_out[address] = size
        else:
            given_out.pop(address, None)
        most = max(most, sum(given_out.values()))
    assert most > 0
    return most


def tracked_bytes(plan: Plan) -> int:
    """What the plan says the tracker will see."""
    return plan.resident_bytes + max(phase.bytes for phase in plan.phases if phase.name != UNTRACKED)


def here() -> Device:
    return Device("cpu", threads=torch.get_num_threads())


@contextmanager
def tensors_own_their_views() -> Iterator[None]:
    """Views are made by numpy and lent to torch; give them to torch's allocator, which the tracker watches."""
    lent = PreparedImage.pixel_values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedImage, "pixel_values", lambda self: lent(self).clone())
        yield


@dataclass(frozen=True)
class AnswerRun:
    """Questions about images, answered together, or one conversation of several turns."""

    name: str
    images: tuple[tuple[int, int], ...] = ()
    words: int = 20
    new_tokens: int = 8
    batch: int = 1
    turns: int = 1
    network: dict[str, Any] = field(default_factory=dict)

    def assistant(self, model: XverseVForConditionalGeneration) -> Assistant:
        """A fresh one: what it keeps for reuse starts empty."""
        processor = tiny_processor()
        processor.patches_per_view = model.config.patches_per_view
        return assemble(model, processor, weights_id="random")

    def ask(self, assistant: Assistant) -> int:
        """Do the work. Returns the prompt's tokens, those of the last turn."""
        settings = SamplingSettings(max_new_tokens=self.new_tokens)
        images = [tuple(_noise(size, row) for size in self.images) for row in range(self.batch)]
        question = "a " * self.words
        if self.turns > 1:
            chat = assistant.chat()
            answers = [
                chat.say(question, images=images[0] if turn == 0 else (), max_new_tokens=self.new_tokens)
                for turn in range(self.turns)
            ]
        else:
            requests = [Request(question=question, images=row, settings=settings) for row in images]
            answers = assistant.batch(requests, batch_size=self.batch)
        assert all(answer.receipt.completion_tokens == self.new_tokens for answer in answers)
        return int(answers[-1].receipt.prompt_tokens)

    def compare(self) -> tuple[int, Plan]:
        """Measured peak of tensors, weights included, and the plan for the same run."""
        model = network(**self.network)
        prompt = self.ask(self.assistant(model))
        with tensors_own_their_views():
            assistant = self.assistant(model)
            measured = stored_bytes(model) + peak_bytes(lambda: self.ask(assistant))
        return measured, plan_inference(shape_from_config(model.config, name=self.name), self.options(model, prompt))

    def options(self, model: XverseVForConditionalGeneration, prompt: int) -> InferenceOptions:
        image_tokens = sum(views_of(self.images, 9)) * model.config.patches_per_view
        text = prompt - image_tokens - (self.turns - 1) * self.new_tokens
        return InferenceOptions(
            images=self.images,
            question_tokens=text // self.turns,
            new_tokens=self.new_tokens,
            turns=self.turns,
            batch=self.batch,
            requests=self.batch,
            dtype=str(model.dtype).removeprefix("torch."),
            device=here(),
        )


def _noise(size: tuple[int, int], seed: int) -> Image.Image:
    return Image.effect_noise(size, 50 + seed).convert("RGB")
