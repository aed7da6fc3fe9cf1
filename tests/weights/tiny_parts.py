"""The recordings' three parts, copied where a test may break them, and short ways to change one thing in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from tests.conftest import TINY, golden, golden_image
from xverse_v.weights.convert import ConversionReport, convert

CLIP, LLM, ADAPTERS = "clip-vit-tiny-patch14", "XVERSE-tiny-Chat", "adapter_and_lora.bin"
NEWER_ADAPTERS = "adapter_and_lora.peft_ge_0.3_keys.bin"

State = dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """Where the three parts lie."""

    clip: Path
    llm: Path
    adapters: Path

    def convert(self, out: Path, **settings: Any) -> ConversionReport:
        return convert(self.clip, self.llm, self.adapters, out, **{"dtype": "float32", **settings})


def golden_parts() -> Parts:
    """The recordings themselves; only for reading."""
    return Parts(TINY / CLIP, TINY / LLM, TINY / ADAPTERS)


def copied_parts(folder: Path) -> Parts:
    """Copies that may be changed."""
    for name in (CLIP, LLM):
        shutil.copytree(TINY / name, folder / name, copy_function=shutil.copyfile)
        (folder / name).chmod(0o755)
    shutil.copyfile(TINY / ADAPTERS, folder / ADAPTERS)
    return Parts(folder / CLIP, folder / LLM, folder / ADAPTERS)


def change_pickle(path: Path, change: Callable[[State], object]) -> None:
    """Load a pickled state dict, change it in place, save it again."""
    state = torch.load(path, weights_only=True)
    change(state.get("model", state))
    torch.save(state, path)


def change_safetensors(folder: Path, change: Callable[[State], object]) -> None:
    """The same for the single weight file of a converted folder; the manifest learns the new size."""
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})
    remake_manifest(folder)


def change_json(path: Path, change: Callable[[State], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def remake_manifest(folder: Path) -> None:
    """So that a test of another fault does not only meet the manifest's."""
    from xverse_v.weights.manifest import write_manifest

    (folder / "manifest.json").unlink()
    write_manifest(folder, tiler="release", source={})


def shard(llm: Path, number: int) -> Path:
    return llm / f"pytorch_model-0000{number}-of-00002.bin"


CASES = golden("model")["generate_individual"]


@torch.no_grad()
def logits_of(model, folder: Path, row: int = 0) -> torch.Tensor:
    case = CASES[row]
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(
        images=golden_image(case["image"]),
        text=f"Human: <|image|>\n{case['question']}\nAssistant: ",
        return_tensors="pt",
    )
    return model(**inputs, logits_to_keep=1).logits[0, -1, :512]
