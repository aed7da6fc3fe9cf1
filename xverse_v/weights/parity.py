"""The parity check: a fixed image and question through the model on disk, one layer in memory at a time.

What crosses: a finished folder in, logits out; after a conversion they are compared with oracle.py's and every
tensor is compared with the parts it came from; `parity.json` keeps the largest logits so that `verify` can repeat
the check anywhere. All computation is float32 on the CPU, whatever dtype is stored, so the recorded numbers do not
depend on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from safetensors import safe_open
from torch import nn

from xverse_v.errors import error
from xverse_v.model import XverseVConfig, XverseVProcessor

from .load import add_adapter_layers, skeleton, weight_map
from .lora import ADAPTER_FOLDER, ADAPTER_WEIGHTS
from .manifest import PARITY_FILE
from .parts import read_json, safetensors_header

QUESTION = "What is in the image?"
IMAGE_SIZE = (300, 200)  # not square, so that the resize counts; small, so that it is one view
IMAGE_SEED = 4
TOP = 8

# Largest difference of a logit, relative to the largest logit: two float32 evaluations of forty layers differ by
# about 1e-5; one swapped or unmerged tensor moves the logits of a trained model by far more.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class ParityRecord:
    """`parity.json`: everything needed to repeat the check, and its result."""

    format: int
    image: Mapping[str, Any]
    question: str
    prompt_ids: Sequence[int]
    computed_in: str
    stored_dtype: str
    largest: float  # of the absolute logits, placeholder aside: what differences are measured against
    top_ids: Sequence[int]
    top_logits: Sequence[float]


def made_image(width: int, height: int, seed: int) -> Image.Image:
    """A colour ramp with a checkered third channel, RGB, computed from integers alone: the same bytes everywhere."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    red = np.broadcast_to(x * 255 // max(1, width - 1), (height, width))
    green = np.broadcast_to(y * 255 // max(1, height - 1), (height, width))
    blue = ((x // 16 + y // 16 + seed) % 2) * 200 + (x * 7 + y * 13 + seed * 31) % 56
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def prompt_inputs(folder: Path) -> tuple[list[int], torch.Tensor]:
    """The prompt through the folder's own processor: ids with placeholders, pixel_values float[V, 3, T, T].

    Raises E317 if its processor files do not work.
    """
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    try:
        processor = XverseVProcessor.from_pretrained(folder)
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = processor(images=[made_image(*IMAGE_SIZE, IMAGE_SEED)], text=text, max_tiles=1, return_tensors="pt")
    except (ValueError, TypeError, KeyError, OSError, TemplateError) as problem:
        # A damaged processor, tokenizer or template fails inside transformers, which does not say where.
        raise error("E317", path=folder, problem=" ".join(str(problem).split())) from None
    return inputs["input_ids"][0].tolist(), inputs["pixel_values"]


@torch.no_grad()
def streamed_logits(folder: Path, input_ids: Sequence[int], pixel_values: torch.Tensor) -> torch.Tensor:
    """Logits float32[rows] after the last token, by our model's own forward over the tensors on disk.

    Each module's weights are read just before it runs and let go right after: memory is the largest module's, not
    the model's.
    """
    config = XverseVConfig.from_pretrained(folder)
    model = skeleton(config, attention="sdpa", dtype=torch.float32)
    files = weight_map(folder)
    adapter = folder / ADAPTER_FOLDER
    if adapter.is_dir():
        add_adapter_layers(model, folder)
        files |= {name: adapter / ADAPTER_WEIGHTS for name in safetensors_header(adapter / ADAPTER_WEIGHTS)}
    for path, module in model.named_modules():
        names = {own: _name_on_disk(f"{path}.{own}") for own, _ in module.named_parameters(recurse=False)}
        if names:
            _read_when_run(module, names, files)
    output = model(
        input_ids=torch.tensor([list(input_ids)]), pixel_values=pixel_values, logits_to_keep=1, use_cache=False
    )
    logits: torch.Tensor = output.logits[0, -1].float()
    return logits


def _name_on_disk(name: str) -> str:
    """The name of a parameter in the folder's files; peft's layers call their own by other names than they save."""
    if ".lora_" in name:
        return f"base_model.model.{name.replace('.default.', '.')}"
    return name.replace(".base_layer.", ".")


def _read_when_run(module: nn.Module, names: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Read the parameters of `module` (own name -> name on disk) just before it runs; empty them afterwards."""
    empty = dict(module.named_parameters(recurse=False))

    def read(module: nn.Module, _: object) -> None:
        for own, name in names.items():
            with safe_open(files[name], framework="pt") as file:
                tensor = file.get_tensor(name).to(torch.float32, copy=True)
            module._parameters[own] = nn.Parameter(tensor, requires_grad=False)

    def release(module: nn.Module, _: object, __: object) -> None:
        module._parameters.update(empty)

    module.register_forward_pre_hook(read)
    module.register_forward_hook(release)


def difference(found: torch.Tensor, wanted: torch.Tensor, placeholder: int) -> float:
    """Largest difference relative to the largest logit, over the rows both vectors have, placeholder aside."""
    rows = min(len(found), len(wanted))
    keep = torch.arange(rows) != placeholder
    found, wanted = found[:rows][keep], wanted[:rows][keep]
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))


def record(folder: Path, input_ids: Sequence[int], logits: torch.Tensor) -> ParityRecord:
    """Write `parity.json` for these logits."""
    config = XverseVConfig.from_pretrained(folder)
    logits = logits.clone()
    logits[config.image_token_id] = 0.0
    top = logits.topk(min(TOP, len(logits)))
    done = ParityRecord(
        format=1,
        image={"recipe": "ramp and checkers", "width": IMAGE_SIZE[0], "height": IMAGE_SIZE[1], "seed": IMAGE_SEED},
        question=QUESTION,
        prompt_ids=list(input_ids),
        computed_in="float32",
        stored_dtype=str(config.dtype).removeprefix("torch."),
        largest=float(logits.abs().max()),
        top_ids=top.indices.tolist(),
        top_logits=top.values.tolist(),
    )
    (folder / PARITY_FILE).write_text(json.dumps(asdict(done), indent=2) + "\n", encoding="utf-8")
    return done


def record_parity(folder: Path) -> ParityRecord:
    """Compute and write `parity.json` for a folder that was trained rather than converted."""
    input_ids, pixel_values = prompt_inputs(folder)
    return record(folder, input_ids, streamed_logits(folder, input_ids, pixel_values))


def check_recorded(folder: Path) -> float:
    """Repeat the check of `parity.json`. Returns the largest relative difference.

    Raises E302 if the prompt's ids differ (another tokenizer), E310 if the logits do.
    """
    path = folder / PARITY_FILE
    stored = read_json(path)
    try:
        kept = ParityRecord(**stored)
    except TypeError as problem:
        raise error("E317", path=path, problem=problem) from None
    input_ids, pixel_values = prompt_inputs(folder)
    if input_ids != list(kept.prompt_ids):
        detail = f"parity.json: {len(kept.prompt_ids)} ids of the prompt, now {len(input_ids)}"
        config = XverseVConfig.from_pretrained(folder)
        raise error("E302", folder=folder, ids=config.image_token_id, rows=config.text_config.vocab_size, detail=detail)
    logits = streamed_logits(folder, input_ids, pixel_values)
    found, wanted = logits[list(kept.top_ids)], torch.tensor(kept.top_logits)
    worst = float((found - wanted).abs().max() / max(kept.largest, 1e-6))
    if not worst <= TOLERANCE:
        raise error("E310", folder=folder, difference=f"{worst:.2g}", tolerance=f"{TOLERANCE:.0e}", against=PARITY_FILE)
    return worst
