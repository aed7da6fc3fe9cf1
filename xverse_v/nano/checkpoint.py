"""Training state on disk: one safetensors file and one JSON file a stage, written whole and then renamed.

What crosses: modules, an optimiser and the step reached. Everything random in the recipe is derived from a seed
and the step, so this is all that an exact resume needs. This file refuses to know what is being trained.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def save(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, facts: dict[str, Any]) -> None:
    """Writes `folder/state.safetensors` (module.*, optimiser.*) and `folder/state.json` (step and `facts`)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"module.{name}": value.detach().contiguous() for name, value in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimiser.{index}.{key}"] = torch.as_tensor(value).detach().clone().contiguous()
    save_file(tensors, folder / "state.safetensors.new", metadata={"step": str(step)})
    (folder / "state.json.new").write_text(json.dumps({"step": step, **facts}, indent=1))
    os.replace(folder / "state.safetensors.new", folder / "state.safetensors")
    os.replace(folder / "state.json.new", folder / "state.json")


def note(folder: Path, step: int, scores: dict[str, float]) -> None:
    """Adds a line to `folder/scores.jsonl`, the learning curve. After a resume a step may stand there twice; the later
    line counts."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {name: round(value, 4) for name, value in scores.items()}
    with (folder / "scores.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **rounded}) + "\n")


def load_module(folder: Path) -> dict[str, torch.Tensor]:
    """The module's tensors alone, by their own names."""
    tensors = load_file(folder / "state.safetensors")
    return {name.removeprefix("module."): value for name, value in tensors.items() if name.startswith("module.")}


def resume(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Loads both strictly and returns the step reached; 0 where the folder holds no checkpoint."""
    if not (folder / "state.safetensors").exists():
        return 0
    module.load_state_dict(load_module(folder), strict=True)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in load_file(folder / "state.safetensors").items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)
    step: int = json.loads((folder / "state.json").read_text())["step"]
    return step
