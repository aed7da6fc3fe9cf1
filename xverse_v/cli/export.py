"""`xverse-v export`: a run's checkpoint as a model folder. Parses, calls, prints; training/export.py does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, show, show_json
from .verify import show_checks


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training run.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write; it must not exist or be empty.")
    ],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge LoRA into the weights. Without it: a peft folder, adapter/.")
    ] = False,
    step: Annotated[int | None, typer.Option("--step", help="A checkpoint's step. Default: the newest.")] = None,
    base: Annotated[
        Path | None, typer.Option("--base", metavar="DIR", help="Where the base weights are now, if they have moved.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write what a run has trained as a model folder that every other command reads, and verify it.

    LoRA is merged in float32 and rounded once to the stored number format. The folder gets its name when it has passed.
    """
    from xverse_v.training.export import export as write

    report = write(run, out, merge=merge, step=step, base=base)
    if json_:
        show_json(report.as_dict())
        return
    kept = "merged" if merge else "kept in adapter/"
    lora = f", LoRA on {report.adapted} linears {kept}" if report.adapted else ""
    show(f"{report.out}: step {report.step}, {report.replaced} tensors replaced{lora}")
    show(f"weights id: {report.weights_id}")
    show_checks(report.verified.checks)
