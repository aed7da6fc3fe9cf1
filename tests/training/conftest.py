"""A model small enough to train in seconds, as an ordinary folder, and runs on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import tiny_processor
from tests.training import ranks
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVImageProcessor, XverseVProcessor
from xverse_v.training.config import TrainConfig

TILE = 28
PROJECTOR = {"name": "projector", "match": r"model\.multi_modal_projector\..*", "lr": 3e-3, "min_lr": 1e-4}
ADAPTERS = {
    "name": "adapters",
    "match": r".*\.lora_[AB]\.default\.weight",
    "lr": 1e-2,
    "min_lr": 1e-3,
    "weight_decay": 0.01,
}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}


def small_config() -> XverseVConfig:
    """Hidden 32, two layers each; four patches a view."""
    rows = len(tiny_processor().tokenizer)
    vision = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=14)
    text = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=256
    )
    image = tiny_processor().tokenizer.convert_tokens_to_ids("<|image|>")
    ids = dict(pad_token_id=1, bos_token_id=2, eos_token_id=3)
    return XverseVConfig(
        vision_config=vision | {"image_size": TILE}, text_config=text | ids | {"vocab_size": rows}, image_token_id=image
    )


def small_processor() -> XverseVProcessor:
    made = tiny_processor()
    images = XverseVImageProcessor(tile_size=TILE, max_tiles=4, orientation="upright", apply_exif=False)
    return XverseVProcessor(
        images, made.tokenizer, chat_template=made.chat_template, patches_per_view=(TILE // 14) ** 2
    )


def make_model(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Random weights, the same every time."""
    torch.manual_seed(0)
    XverseVForConditionalGeneration(small_config()).to(dtype).save_pretrained(folder)
    small_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("small-model"))


def make_samples(folder: Path) -> Path:
    """Twenty-four conversations of different length: a third without an image, half of the others with two tiles."""
    rng = np.random.default_rng(0)
    colours = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
    records = []
    for number in range(24):
        colour = list(colours)[number % 3]
        record: dict[str, Any] = {"id": f"s{number:02}"}
        question = "What colour is it?"
        if number % 3 or number > 20:
            size = (TILE * (1 + number % 2), TILE, 3)
            pixels = np.full(size, colours[colour]) + rng.integers(0, 50, size)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
            record["image"] = f"{number}.png"
            question = "<image>\n" + question
        answer = " ".join([colour] * (1 + number % 4))
        record["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        records.append(record)
    path = folder / "samples.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


def settings(model: Path, data: Path, run: Path, **changes: Any) -> dict[str, Any]:
    """A recipe as a dictionary; `changes` by dotted path with `__` for the dots."""
    document: dict[str, Any] = {
        "run": str(run),
        "model": str(model),
        "seed": 3,
        "stage": {"name": "finetune", "lora": dict(LORA), "rules": [dict(PROJECTOR), dict(ADAPTERS)]},
        "data": {
            "sources": [{"path": str(data)}],
            "seed": 1,
            "max_length": 128,
            "packing": False,
            "global_batch": 8,
            "micro_batch": 2,
        },
        "optimisation": {"steps": 6, "warmup_steps": 2},
        "distribution": {"device": "cpu", "stall_seconds": 60},
        "checkpoints": {"every": 3, "keep": 10, "background": False},
        "logs": {"every": 1},
    }
    for name, value in changes.items():
        *way, last = name.split("__")
        here = document
        for key in way:
            here = here.setdefault(key, {})
        here[last] = value
    return document


def config_of(model: Path, data: Path, run: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(settings(model, data, run, **changes))


def lines(run: Path, event: str = "step") -> list[dict[str, Any]]:
    """Lines of the run's log of one kind."""
    found = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in found if line["event"] == event]


@pytest.fixture(scope="session")
def reference(small_folder: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps on one process, dropout on. Shared: do not change it."""
    run = tmp_path_factory.mktemp("runs") / "reference"
    assert ranks.train(settings(small_folder, samples, run)) == [0]
    return run
