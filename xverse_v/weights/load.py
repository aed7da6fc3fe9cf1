"""Loading a model folder, strictly and without a second copy of its weights.

What crosses: a folder in, `XverseVForConditionalGeneration` in eval mode out. The network is built without memory,
the tensors on disk are mapped and become its parameters; one is copied only if it must change dtype or device.
Whatever `inspect` finds wrong is raised before the first tensor is read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import GenerationConfig

from xverse_v.errors import error
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration

from . import manifest
from .inspect import inspect_folder
from .lora import ADAPTER_FOLDER, ADAPTER_WEIGHTS
from .parts import few, read_json, safetensors_header, weight_files

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    folder: str | Path, *, device: str = "cpu", dtype: str = "auto", attention: str | None = None
) -> XverseVForConditionalGeneration:
    """The model of a folder that `convert` or a training run wrote.

    device: "cpu", "cuda", "cuda:1", ... dtype: "float32", "bfloat16", "float16", or "auto": float32 on the CPU, the
    stored dtype elsewhere. attention: a transformers attention implementation; None lets it choose. An `adapter/`
    folder is loaded as peft layers, not merged. Raises E300 to E319, and E314 for a dtype that is none of these.
    """
    folder = Path(folder)
    report = inspect_folder(folder)
    if report.kind != "model":
        raise error("E318", folder=folder, kind=report.kind)
    for problem in report.problems:
        raise problem
    config = XverseVConfig.from_pretrained(folder)
    wanted = _dtype(dtype, torch.device(device), config)
    model = skeleton(config, attention=attention, dtype=wanted)
    model.load_state_dict(_tensors(folder, device, wanted), strict=True, assign=True)
    model.to(device)  # the buffers; the tensors are there already
    if (folder / ADAPTER_FOLDER).is_dir():
        attach_adapter(model, folder, device=device)
    if (folder / "generation_config.json").is_file():
        model.generation_config = _generation_config(folder)
    return model.eval()


def _generation_config(folder: Path) -> GenerationConfig:
    """What `generate` uses when it is told nothing. Sampling flags of a greedy profile have no effect there, and
    transformers would warn of them at every load, so they stay in the file."""
    settings = read_json(folder / "generation_config.json")
    if not settings.get("do_sample"):
        settings = {name: value for name, value in settings.items() if name not in ("temperature", "top_p", "top_k")}
    return GenerationConfig.from_dict(settings)


def _dtype(asked: str, device: torch.device, config: XverseVConfig) -> torch.dtype:
    if asked != "auto":
        if asked not in DTYPES:
            raise error("E314", name="--dtype", found=asked, expected=", ".join(DTYPES))
        return DTYPES[asked]
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    return torch.float32 if device.type == "cpu" else stored


def _tensors(folder: Path, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    state = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt", device=device) as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                state[name] = file.get_tensor(name).to(dtype)
    return state


def skeleton(config: XverseVConfig, *, attention: str | None, dtype: torch.dtype) -> XverseVForConditionalGeneration:
    """The network without weights: parameters on the meta device, computed buffers real, eval mode."""
    with torch.device("meta"):
        model = XverseVForConditionalGeneration._from_config(config, attn_implementation=attention, dtype=dtype)
    positions = model.model.vision_tower.embeddings
    positions.position_ids = torch.arange(positions.position_ids.shape[-1])[None]
    decoder = model.model.language_model
    decoder.rotary_emb = type(decoder.rotary_emb)(config=config.text_config)
    empty = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    assert not empty, f"buffers that nobody fills: {empty}"
    return model.eval()


def add_adapter_layers(model: XverseVForConditionalGeneration, folder: Path) -> None:
    """Wrap the linears that `adapter/` names in peft layers, whose own weights are still empty (meta)."""
    import peft  # takes longer to import than the built-in model takes to load, and few folders need it

    config = peft.LoraConfig.from_pretrained(str(folder / ADAPTER_FOLDER))
    peft.inject_adapter_in_model(config, model, adapter_name="default", low_cpu_mem_usage=True)


def attach_adapter(model: XverseVForConditionalGeneration, folder: Path, *, device: str = "cpu") -> None:
    """Put the LoRA of `adapter/` into the model, all of it and nothing besides. Raises E301 or E304."""
    import peft

    add_adapter_layers(model, folder)
    path = folder / ADAPTER_FOLDER
    with safe_open(path / ADAPTER_WEIGHTS, framework="pt", device=device) as file:
        state = {name.removeprefix("base_model.model."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    report = peft.set_peft_model_state_dict(model, state, adapter_name="default", low_cpu_mem_usage=True)
    missing = [name for name in report.missing_keys if "lora_" in name]
    if missing:
        raise error("E301", folder=path, count=len(missing), expected=len(state), examples=few(missing), unexpected="-")
    if report.unexpected_keys:
        unexpected = list(report.unexpected_keys)
        raise error("E304", folder=path, count=len(unexpected), examples=few(unexpected))
    model.eval()


def weight_map(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it, from the headers."""
    return {name: path for path in weight_files(folder) for name in safetensors_header(path)}


def weights_id(folder: str | Path) -> str:
    """12 hex digits that name the contents of a folder, for caches and receipts; the same after renaming it."""
    return manifest.weights_id(Path(folder))
