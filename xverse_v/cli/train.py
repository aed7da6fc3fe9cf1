"""`xverse-v train`: a run on this machine's one process. Parses, calls, prints; training/train.py does it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from .common import Json, note, show, show_json


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train on what; see recipes/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Settings that replace the recipe's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest complete checkpoint of the run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show every setting, where it came from and what would train; train nothing."),
    ] = False,
    json_: Json = False,
) -> None:
    """Train by a recipe, on one device. The run folder keeps settings, log and checkpoints.

    On several devices: torchrun --nproc-per-node 8 -m xverse_v.training RECIPE.yaml key=value ... [--resume]
    """
    from xverse_v.training.config import read_config

    resolved = read_config(recipe, overrides or ())
    if dry_run:
        from xverse_v.training.build import describe

        words = describe(resolved.config)
        if json_:
            show_json(
                {"settings": resolved.config.model_dump(mode="json"), "origins": dict(resolved.origins), "stage": words}
            )
        else:
            show(resolved.as_yaml().rstrip())
            show("\n".join(words))
        return
    logger = logging.getLogger("xverse_v")
    logger.setLevel(logging.INFO)
    logger.handlers = [_Notes()]
    from xverse_v.training.train import main

    loss = main(resolved, resume=resume)
    run, steps = resolved.config.run, resolved.config.optimisation.steps
    if json_:
        show_json({"run": str(run), "step": steps, "loss": loss})
    else:
        show(f"{run}: step {steps}" + ("" if loss is None else f", loss {loss:.4f}"))
        show(f"As a model folder: xverse-v export {run} --merge --out FOLDER")


class _Notes(logging.Handler):
    """The library logs, this prints: progress goes to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record))
