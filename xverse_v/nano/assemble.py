"""A trained model as an ordinary model folder: what every other command of the package reads.

What crosses: the network and a folder name -> config, processor, tokenizer, chat template, generation settings,
weights, model card, parity record and manifest, written beside and moved into place. This file trains and
measures nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.nano.card import model_card
from xverse_v.nano.joint import nano_config
from xverse_v.nano.sequences import image_id, tokenizer
from xverse_v.nano.vocabulary import END, PAD, START, UNKNOWN
from xverse_v.weights.manifest import write_manifest
from xverse_v.weights.parity import record_parity
from xverse_v.weights.settings import TokenizerPlan, model_config, write_settings

DTYPE = torch.float16  # the weights are small numbers: float16 keeps three more bits of them than bfloat16
GENERATION = {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 128}


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


def assemble(
    model: XverseVForConditionalGeneration,
    out: Path,
    *,
    source: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
) -> None:
    """Writes the folder `out` (replaced if it is there). `source`: seeds and steps, for the manifest and the card."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    plan = tokenizer_plan()
    config = nano_config()
    config = model_config(config.vision_config, config.text_config, plan, DTYPE)
    write_settings(partial, config, plan, "upright")
    ids = {name: getattr(config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    (partial / "generation_config.json").write_text(json.dumps({**ids, **GENERATION}, indent=2) + "\n")
    tensors = {name: value.detach().to(DTYPE).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)
    (partial / "README.md").write_text(model_card(source, scores or {}), encoding="utf-8")
    record_parity(partial)
    write_manifest(partial, tiler="upright", source={"trained": "xverse_v.nano", **source})
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
