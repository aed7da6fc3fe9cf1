"""A random model with 28-pixel tiles and 4 image tokens a view: the whole engine in a few milliseconds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.conftest import tiny_processor
from xverse_v.inference.assistant import Assistant
from xverse_v.inference.loading import assemble
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVImageProcessor, XverseVProcessor

PATCHES = 4
QUESTIONS = ("What is it?", "What colour is the big word?", "图片里有什么？", "a", "Is the 12 cm cat on the left? " * 5)
SIZES = ((28, 28), (30, 150), (150, 30), (60, 60), (84, 84), (20, 200))


def small_config() -> XverseVConfig:
    vision = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    text = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, vocab_size=513)
    ids = dict(pad_token_id=1, bos_token_id=2, eos_token_id=3)
    return XverseVConfig(
        vision_config=vision | {"patch_size": 14, "image_size": 28},
        text_config=text | ids | {"max_position_embeddings": 1024},
        image_token_id=512,
    )


@cache
def small_model(seed: int = 0) -> XverseVForConditionalGeneration:
    """Weights wide enough that images and questions change the answer; float32. Shared: do not change it."""
    model = XverseVForConditionalGeneration(small_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    model.generation_config.eos_token_id = 3
    return model.eval()


@cache
def small_processor() -> XverseVProcessor:
    whole = tiny_processor()
    tiler = XverseVImageProcessor(tile_size=28, orientation="release", apply_exif=False)
    return XverseVProcessor(tiler, whole.tokenizer, chat_template=whole.chat_template, patches_per_view=PATCHES)


def small_assistant(model: XverseVForConditionalGeneration | None = None, **settings: Any) -> Assistant:
    """A fresh assistant, with caches of its own."""
    return assemble(model or small_model(), small_processor(), weights_id="small", **settings)


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8))


def smallest_margin(answer_logprobs: Any) -> float:
    """How far the first of two logits is ahead, at the closest token; answers were asked with ``logprobs=2``."""
    return min(token.top[0].logprob - token.top[1].logprob for token in answer_logprobs)


def out_of_memory(*args: object, **kwargs: object) -> None:
    """Stands in for a step that runs out of memory."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.95 GiB")
