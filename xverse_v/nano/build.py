"""The whole recipe of the built-in model, from nothing to a model folder.

    python -m xverse_v.nano.build --out FOLDER [--work runs/nano] [--scale 1.0]

Every stage resumes from its own checkpoint in the work folder, and everything random comes from the seeds below, so an
interrupted run goes on where it was. The vision tower and the decoder do not need each other: `--only tower` and
`--only words` may run in two processes at once. One thread each: about an hour of CPU in all. The shipped weights went
through these stages while the recipe was being tuned (the model card tells how), so a fresh run gives a model of the
same kind, not the same bits.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from xverse_v.nano import checkpoint
from xverse_v.nano.assemble import assemble
from xverse_v.nano.evaluate import evaluate, report
from xverse_v.nano.joint import empty_model, train_joint, train_projector
from xverse_v.nano.tower import train_tower
from xverse_v.nano.words import train_words

log = logging.getLogger(__name__)
STAGES = ("tower", "words", "joint", "assemble")


@dataclass(frozen=True)
class Recipe:
    """Steps of every stage and the seeds of its starting weights."""

    tower_steps: int = 5700
    words_steps: int = 3000
    projector_steps: int = 300
    joint_steps: int = 2500
    tower_seed: int = 1
    words_seed: int = 2
    projector_seed: int = 3

    def scaled(self, share: float) -> Recipe:
        """The same recipe with `share` of its steps, at least one a stage."""
        counts = {name: value for name, value in asdict(self).items() if name.endswith("_steps")}
        return replace(self, **{name: max(1, round(count * share)) for name, count in counts.items()})


def finish(work: Path, out: Path, recipe: Recipe, scenes: int) -> None:
    """Writes the folder, measures it, and writes it again with its scores in the model card."""
    model = empty_model()
    model.load_state_dict(checkpoint.load_module(work / "joint"), strict=True)
    source = {name.replace("_", " "): value for name, value in asdict(recipe).items()}
    for stage in ("tower", "words", "projector", "joint"):
        source[f"{stage} steps"] = json.loads((work / stage / "state.json").read_text())["step"]
    assemble(model, out, source=source)
    if scenes:
        scores, wrong = evaluate(out, scenes)
        log.info("%s", report(scores))
        (work / "scores.json").write_text(json.dumps({"scores": scores, "wrong": wrong}, ensure_ascii=False, indent=1))
        assemble(model, out, source=source, scores=scores)


def build(out: Path, work: Path, recipe: Recipe, only: str | None, scenes: int) -> None:
    """Runs the stages that are asked for, in order."""
    started = time.process_time()
    if only in (None, "tower"):
        train_tower(work / "tower", recipe.tower_steps, seed=recipe.tower_seed)
    if only in (None, "words"):
        train_words(work / "words", recipe.words_steps, seed=recipe.words_seed)
    if only in (None, "joint"):
        train_projector(
            work / "projector", work / "tower", work / "words", recipe.projector_steps, seed=recipe.projector_seed
        )
        train_joint(work / "joint", work / "projector", recipe.joint_steps, decay=recipe.joint_steps * 2 // 3)
    if only in (None, "assemble"):
        finish(work, out, recipe, scenes)
    log.info("CPU-minutes of this process: %.1f", (time.process_time() - started) / 60)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the built-in model and write its folder.")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"), help="checkpoints; a run resumes from them")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the recipe's steps, for a quick trial")
    parser.add_argument("--only", choices=STAGES, help="one stage of the recipe")
    parser.add_argument("--scenes", type=int, default=100, help="scenes to measure with, 0 for none")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    build(given.out, given.work, Recipe().scaled(given.scale), given.only, given.scenes)


if __name__ == "__main__":
    main()
