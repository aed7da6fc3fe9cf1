"""What is left out of the recipe, one thing at a time, and how such a run is made and measured.

What crosses: an `Ablation`, a seed and the `Given` (where model and data are, how many steps) -> a `Finished` run with
its scores. Every run goes through the package's own trainer and its own recipes; a seed decides the projector's start,
the adapters' start and the order of the samples. This file keeps no results and draws no table, see `ablate`.

All runs of a table have the same number of optimizer steps and the same data. That is the budget; with fewer tiles a
step is cheaper. Runs that share their first stage (same seed, grid, norm and tiles) share one, made once.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.model.modeling import XverseVProjector
from xverse_v.model.tiling import Orientation
from xverse_v.nano.evaluate import evaluate
from xverse_v.training.config import Resolved, Rule, read_config
from xverse_v.training.export import export
from xverse_v.training.train import main as train
from xverse_v.weights.manifest import MANIFEST, write_manifest
from xverse_v.weights.parity import record_parity

log = logging.getLogger(__name__)
PROJECTOR = "model.multi_modal_projector."
LINEARS_OF_PROJECTOR = r"model\.multi_modal_projector\.linear_\d\..*"
WEIGHTS = "model.safetensors"
Stage = Literal["pretrain", "finetune"]


@dataclass(frozen=True)
class Ablation:
    """`changed`: what differs from the recipe, in words. `rate`: the rule whose rates both rules of stage 2 take.

    The other fields are the recipe's own unless set: stage 1 runs, adapters train in stage 2, the grid is upright, the
    projector begins with its LayerNorm, and an image has up to nine tiles (in training and in the measurement).
    """

    name: str
    changed: str
    first_stage: bool = True
    rate: str = ""
    adapters: bool = True
    orientation: Orientation = "upright"
    layer_norm: bool = True
    max_tiles: int | None = None


BASE = "base"
ABLATIONS = (
    Ablation(BASE, "nothing: both stages, two rates, upright grid, up to nine tiles"),
    Ablation("no-stage-1", "no stage 1; its steps are given to stage 2", first_stage=False),
    Ablation("one-rate-low", "both groups of stage 2 at the projector's rate", rate="projector"),
    Ablation("one-rate-high", "both groups of stage 2 at the adapters' rate", rate="adapters"),
    Ablation("projector-only", "no adapters in stage 2: the projector alone goes on", adapters=False),
    Ablation(
        "release-grid",
        "rows of tiles from the width, as in the release; tags keep clear of upright tiles' borders, not of these",
        orientation="release",
    ),
    Ablation("no-layer-norm", "no LayerNorm in front of the projector", layer_norm=False),
    Ablation("1-tile", "the global view alone", max_tiles=1),
    Ablation("4-tiles", "at most four tiles", max_tiles=4),
)


@dataclass(frozen=True)
class Given:
    """What all runs of a table share. `start`: the folder stage 1 starts from; `data`: what `xverse_v.nano.data` wrote;
    `recipes`: the folder of pretrain.yaml and finetune.yaml; `questions`: a row, for the scores."""

    start: Path
    data: Path
    work: Path
    recipes: Path
    pretrain_steps: int
    finetune_steps: int
    questions: int


@dataclass(frozen=True)
class Finished:
    """A run and what it reached. `loss`: of the last step; `minutes`: CPU time of both stages' training; `scores`: of
    every row right, asked, share, interval."""

    ablation: str
    seed: int
    loss: float
    minutes: float
    scores: Mapping[str, Any]


def run(ablation: Ablation, seed: int, given: Given) -> Finished:
    """Trains, measures and cleans up. Raises what training and loading raise."""
    with projector_with(layer_norm=ablation.layer_norm):
        spent = 0.0
        if ablation.first_stage:
            base, spent = _first_stage(ablation, seed, given)
        else:
            base = start_folder(ablation.orientation, seed, given)
        began = time.process_time()
        out = given.work / f"{ablation.name}-{seed}"
        loss = _train(resolved("finetune", ablation, seed, given, model=base, run=_run_folder(out)), out)
        spent += (time.process_time() - began) / 60
        scores, _ = evaluate(out, given.questions, max_tiles=ablation.max_tiles)
    shutil.rmtree(out)
    return Finished(ablation.name, seed, loss, spent, scores)


def _run_folder(out: Path) -> Path:
    return out.with_name(f"run-{out.name}")


def start_folder(orientation: Orientation, seed: int, given: Given) -> Path:
    """The start folder with a projector of this seed, drawn as the recipe draws it, and with this grid; made once."""
    out = given.work / "starts" / f"{orientation}-{seed}"
    if (out / MANIFEST).exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(given.start, out, ignore=shutil.ignore_patterns(MANIFEST))
    tensors = load_file(out / WEIGHTS)
    torch.manual_seed(seed)
    drawn = XverseVForConditionalGeneration(XverseVConfig.from_pretrained(out)).state_dict()
    fresh = {name: drawn[name].to(value.dtype) for name, value in tensors.items() if name.startswith(PROJECTOR)}
    save_file(tensors | fresh, out / WEIGHTS, metadata={"format": "pt"})
    processor = XverseVProcessor.from_pretrained(out)
    processor.image_processor.orientation = orientation
    processor.save_pretrained(out)
    record_parity(out)
    write_manifest(out, tiler=orientation, source={"made": __name__, "projector_seed": seed})
    return out


def _first_stage(ablation: Ablation, seed: int, given: Given) -> tuple[Path, float]:
    """The folder after stage 1, made once for all ablations that do not touch it, and the CPU-minutes that it took."""
    norm = "norm" if ablation.layer_norm else "plain"
    out = given.work / "pretrained" / f"{ablation.orientation}-{norm}-{ablation.max_tiles or 'all'}-{seed}"
    cost = out.with_suffix(".minutes")
    if not cost.exists():
        start, began = start_folder(ablation.orientation, seed, given), time.process_time()
        _train(resolved("pretrain", ablation, seed, given, model=start, run=_run_folder(out)), out)
        cost.write_text(f"{(time.process_time() - began) / 60:.2f}\n")
    return out, float(cost.read_text())


def _train(settings: Resolved, out: Path) -> float:
    """Trains, writes the model folder `out` and returns the last loss."""
    run = settings.config.run
    for leftover in (run, out):
        shutil.rmtree(leftover, ignore_errors=True)
    loss = train(settings, resume=False)
    assert loss is not None, "a run that starts anew has steps to do"
    out.parent.mkdir(parents=True, exist_ok=True)
    export(run, out, merge=True)
    shutil.rmtree(run)
    return loss


def resolved(stage: Stage, ablation: Ablation, seed: int, given: Given, *, model: Path, run: Path) -> Resolved:
    """The recipe of a stage as this ablation has it. One checkpoint, at the end; of short runs a tenth is warm-up."""
    recipe = given.recipes / f"{stage}.yaml"
    own = read_config(recipe).config
    steps = given.pretrain_steps if stage == "pretrain" else given.finetune_steps
    steps += 0 if ablation.first_stage else given.pretrain_steps
    changes = {
        "run": str(run),
        "model": str(model),
        "seed": seed,
        "data.seed": seed,
        "data.sources.0.path": str(given.data / ("pairs-*.tar" if stage == "pretrain" else "conversations.json")),
        "data.max_tiles": ablation.max_tiles,
        "stage.rules": _rules(own.stage.rules, ablation),
        "optimisation.steps": steps,
        "optimisation.warmup_steps": min(own.optimisation.warmup_steps, steps // 10),
        "checkpoints.every": steps,
        "logs.every": 50,
        "validation": None,
    } | ({} if ablation.adapters else {"stage.lora": None})
    return read_config(recipe, [f"{name}={json.dumps(value)}" for name, value in changes.items()])


def _rules(rules: tuple[Rule, ...], ablation: Ablation) -> list[dict[str, Any]]:
    """The stage's rules as the ablation has them."""
    kept = [rule.model_dump() for rule in rules if rule.name == "projector" or ablation.adapters]
    for rule in kept:
        # A stage that has one rule alone has nothing to share its rate with.
        if ablation.rate and len(kept) > 1:
            (model,) = (other for other in rules if other.name == ablation.rate)
            rule |= {"lr": model.lr, "min_lr": model.min_lr}
        if rule["name"] == "projector" and not ablation.layer_norm:
            rule["match"] = LINEARS_OF_PROJECTOR
    return kept


@contextmanager
def projector_with(*, layer_norm: bool) -> Iterator[None]:
    """Inside, projectors run without their LayerNorm if so asked. Its weights stay in the files, frozen and unread: the
    product has no such setting, and should not have one."""
    whole = XverseVProjector.forward

    def plain(projector: XverseVProjector, patches: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = projector.linear_2(projector.act(projector.linear_1(patches)))
        return hidden

    if not layer_norm:
        XverseVProjector.forward = plain  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        XverseVProjector.forward = whole  # type: ignore[method-assign]
