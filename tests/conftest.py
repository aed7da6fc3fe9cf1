"""Shared fixtures: the golden recordings, the images they were made with, and the tiny model put together by hand.

The tiny model is assembled here straight from the three parts, tensor by tensor, without the package's converter: the
golden tests then check the network alone, and the converter is checked against this model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVImageProcessor, XverseVProcessor
from xverse_v.model.prompt import chat_template, native_tokenizer, special_strings

# The models here are tiny: two threads cost more than they bring, and on a busy machine they wait for each other.
torch.set_num_threads(1)
# An example that takes long says something about the machine, not about the code.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "tiny"
TOKENIZERS = {"nobos": "XVERSE-tiny-Chat", "bos": "XVERSE-tiny-Chat-bos-tokenizer"}


def golden(name: str) -> Any:
    """One recording, parsed."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def made_array(kind: str, width: int, height: int, seed: int) -> np.ndarray:
    """The golden README's pictures, uint8[H, W, 3]."""
    if kind == "noise":
        return np.random.RandomState(seed).randint(0, 256, size=(height, width, 3), dtype=np.uint8)
    assert kind == "wave", kind
    x, y = np.arange(width, dtype=np.int64)[None], np.arange(height, dtype=np.int64)[:, None]
    red = (x * 255) // max(1, width - 1) + 0 * y
    green = (y * 255) // max(1, height - 1) + 0 * x
    blue = ((x // 16 + y // 16 + seed) % 2) * 200 + ((x * 7 + y * 13 + seed * 31) % 56)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def made_image(kind: str, width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(made_array(kind, width, height, seed))


def golden_image(name: str) -> Image.Image:
    """Image A, B or D of model.json."""
    facts = golden("model")["images"][name]
    return made_image(facts["kind"], facts["w"], facts["h"], facts["seed"])


def tiny_processor(variant: str = "nobos") -> XverseVProcessor:
    source = json.loads((TINY / TOKENIZERS[variant] / "tokenizer.json").read_text(encoding="utf-8"))
    native = native_tokenizer(source)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(native)),
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
    )
    template = chat_template(special_strings(native), "<|endoftext|>")
    return XverseVProcessor(
        XverseVImageProcessor(orientation="release", apply_exif=False), tokenizer, chat_template=template
    )


def tiny_config(**changes: Any) -> XverseVConfig:
    vision = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, patch_size=14)
    text = json.loads((TINY / "XVERSE-tiny-Chat" / "config.json").read_text())
    kept = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "rms_norm_eps")
    kept += ("max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")
    decoder = {name: text[name] for name in kept} | {"vocab_size": text["vocab_size"] + 1}
    return XverseVConfig(
        vision_config=vision | {"image_size": 224}, text_config=decoder, image_token_id=text["vocab_size"], **changes
    )


def tiny_state() -> dict[str, torch.Tensor]:
    """Our names to the release's tensors, float32, LoRA merged as W + 2 * (B @ A)."""

    def part(path: str) -> dict[str, torch.Tensor]:
        return torch.load(TINY / path, weights_only=True)

    clip = part("clip-vit-tiny-patch14/pytorch_model.bin")
    decoder = part("XVERSE-tiny-Chat/pytorch_model-00001-of-00002.bin")
    decoder |= part("XVERSE-tiny-Chat/pytorch_model-00002-of-00002.bin")
    adapter = part("adapter_and_lora.bin")["model"]
    state = {}
    for key, value in clip.items():
        if key.startswith("vision_model.") and ".layers.3." not in key and "post_layernorm" not in key:
            state["model.vision_tower." + key.removeprefix("vision_model.")] = value
    state.pop("model.vision_tower.embeddings.position_ids", None)
    for ours, theirs in (("linear_1", "llama_proj.0"), ("linear_2", "llama_proj.2"), ("layer_norm", "ln_vision")):
        for kind, initial in (("weight", torch.ones(64)), ("bias", torch.zeros(64))):
            value = adapter.get(f"{theirs}.{kind}", initial if ours == "layer_norm" else None)
            state[f"model.multi_modal_projector.{ours}.{kind}"] = value
    for key, value in decoder.items():
        if key.endswith("rotary_emb.inv_freq"):
            continue
        value = value.float()
        lora = "llama_model.base_model.model." + key.removesuffix(".weight")
        if f"{lora}.lora_A.weight" in adapter:
            value = value + 2.0 * (adapter[f"{lora}.lora_B.weight"].float() @ adapter[f"{lora}.lora_A.weight"].float())
        if key in ("model.embed_tokens.weight", "lm_head.weight"):
            value = torch.cat([value, torch.zeros(1, value.shape[1])])
        state["lm_head.weight" if key == "lm_head.weight" else f"model.language_model.{key[6:]}"] = value
    return {key: value.float() for key, value in state.items()}


@pytest.fixture(scope="session")
def tiny_model() -> XverseVForConditionalGeneration:
    """The release's tiny random weights in float32, eval mode. Shared: do not change it."""
    model = XverseVForConditionalGeneration(tiny_config())
    model.load_state_dict(tiny_state(), strict=True)
    return model.eval()


@pytest.fixture(scope="session", params=["nobos", "bos"])
def either_processor(request: pytest.FixtureRequest) -> tuple[str, XverseVProcessor]:
    """Both tokenizer variants of the recordings, with the variant's name."""
    return request.param, tiny_processor(request.param)


@pytest.fixture(scope="session")
def processor() -> XverseVProcessor:
    return tiny_processor()


@pytest.fixture(scope="session")
def tiny_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: XverseVForConditionalGeneration, processor: XverseVProcessor
) -> Path:
    """The tiny model as an ordinary transformers folder (no manifest)."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
