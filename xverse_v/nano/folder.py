"""The built-in model as an ordinary model folder: at the start of its two stages, and as it is shipped.

What crosses: the checkpoints of `tower` and `words` -> `write_start`, a folder with a fresh projector that the
trainer takes like any other; a trained folder and its scores -> `ship`, the same folder with its model card. This
file trains and measures nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration
from xverse_v.nano import checkpoint
from xverse_v.nano.card import model_card
from xverse_v.nano.decoder import decoder_config
from xverse_v.nano.sequences import image_id, tokenizer
from xverse_v.nano.tower import vision_config
from xverse_v.nano.vocabulary import END, PAD, START, UNKNOWN
from xverse_v.weights.manifest import write_manifest
from xverse_v.weights.parity import record_parity
from xverse_v.weights.settings import TokenizerPlan, model_config, write_settings

DTYPE = torch.float16  # the weights are small numbers: float16 keeps three more bits of them than bfloat16
GENERATION = {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 128}
CARD = "README.md"


def nano_config() -> XverseVConfig:
    """The configuration of the built-in model."""
    return XverseVConfig(vision_config(), decoder_config(), image_token_id=image_id())


def empty_model() -> XverseVForConditionalGeneration:
    """The product's network at the built-in model's size."""
    return XverseVForConditionalGeneration(nano_config())


def join_parts(tower: Path, words: Path, seed: int) -> XverseVForConditionalGeneration:
    """The whole model from the two checkpoints, with a projector of the network's own random start."""
    torch.manual_seed(seed)
    model = empty_model()
    seeing, speaking = checkpoint.load_module(tower), checkpoint.load_module(words)
    parts = {
        f"model.vision_tower.{name.removeprefix('tower.').removeprefix('vision_model.')}": value
        for name, value in seeing.items()
        if name.startswith("tower.") and "post_layernorm" not in name and not name.endswith("position_ids")
    }
    parts |= {
        f"model.language_model.{name.removeprefix('decoder.model.')}": value
        for name, value in speaking.items()
        if name.startswith("decoder.model.")
    }
    parts["lm_head.weight"] = speaking["decoder.lm_head.weight"]
    fresh = {name: value for name, value in model.state_dict().items() if ".multi_modal_projector." in name}
    model.load_state_dict(parts | fresh, strict=True)
    return model


def tokenizer_plan() -> TokenizerPlan:
    """The built-in tokenizer as the settings writer takes it."""
    rows = tokenizer().get_vocab_size()
    names = {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **names,
        "model_max_length": nano_config().text_config.max_position_embeddings,
    }
    return TokenizerPlan(json.loads(tokenizer().to_str()), settings, rows - 1, rows, image_id())


def write_start(tower: Path, words: Path, out: Path, seed: int) -> None:
    """The folder that stage 1 starts from: both halves trained, the projector not. An `out` that is there is
    replaced."""
    model = join_parts(tower, words, seed)
    partial = _fresh_folder(out)
    plan = tokenizer_plan()
    config = nano_config()
    config = model_config(config.vision_config, config.text_config, plan, DTYPE)
    write_settings(partial, config, plan, "upright")
    ids = {name: getattr(config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    (partial / "generation_config.json").write_text(json.dumps({**ids, **GENERATION}, indent=2) + "\n")
    tensors = {name: value.detach().to(DTYPE).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)
    steps = {part.name: json.loads((part / "state.json").read_text())["step"] for part in (tower, words)}
    record_parity(partial)
    write_manifest(partial, tiler="upright", source={"made": "xverse_v.nano", "projector_seed": seed, "steps": steps})
    _into_place(partial, out)


def ship(trained: Path, out: Path, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Copies a trained folder to `out` with its model card. `facts`: name -> fact of the training; `measured`:
    scores."""
    partial = _fresh_folder(out)
    for path in sorted(trained.iterdir()):
        if path.name != "manifest.json":
            shutil.copyfile(path, partial / path.name)
    parameters = sum(tensor.numel() for tensor in load_file(trained / "model.safetensors").values())
    (partial / CARD).write_text(model_card(parameters, facts, measured), encoding="utf-8")
    source = json.loads((trained / "manifest.json").read_text())["source"]
    write_manifest(partial, tiler="upright", source=source)
    _into_place(partial, out)


def _fresh_folder(out: Path) -> Path:
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _into_place(partial: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
