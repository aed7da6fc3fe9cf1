"""`xverse-v inspect`: what a folder holds, from headers alone. Parses, calls, prints; weights/inspect.py does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Json, print_error, show, show_json

if TYPE_CHECKING:
    from xverse_v.weights.inspect import InspectReport


def inspect(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A model folder, one of the release's folders, or an adapters file."),
    ],
    hash_: Annotated[bool, typer.Option("--hash", help="Also read every byte and compare with manifest.json.")] = False,
    json_: Json = False,
) -> None:
    """Say what a folder holds without loading it: every tensor found, missing, unexpected or of the wrong shape.

    Exit code 1 if anything is wrong. Nothing is unpickled that is not plain tensors.
    """
    from xverse_v.weights.inspect import inspect_folder

    report = inspect_folder(folder, hashes=hash_)
    if json_:
        show_json(report.as_dict())
    else:
        _print(report)
        for problem in report.problems:
            print_error(problem, as_json=False)
    if report.problems:
        raise typer.Exit(1)


def _print(report: InspectReport) -> None:
    show(f"{report.folder}: {report.kind}, {report.total_bytes:,} bytes, {report.parameters:,} parameters")
    for file in report.files:
        show(f"  {file['name']}  {file['bytes']:,} bytes, {file['tensors']} tensors, {file['format']}")
    if report.kind == "model":
        show(
            f"tensors: expected {report.expected}, found {report.found}, missing {len(report.missing)}, "
            f"unexpected {len(report.unexpected)}, wrong shape {len(report.wrong_shape)}"
        )
        for title, names in (("missing", report.missing), ("unexpected", report.unexpected)):
            for name in names:
                show(f"  {title}: {name}")
        for entry in report.wrong_shape:
            show(f"  wrong shape: {entry['name']} is {entry['found']}, expected {entry['expected']}")
    else:
        show(f"tensors: {report.found}")
    for group, counts in report.dtypes.items():
        show(f"  {group}: " + ", ".join(f"{count} {dtype}" for dtype, count in counts.items()))
    if report.tokenizer:
        show(f"tokenizer: {report.tokenizer['ids']} ids for {report.tokenizer['rows']} rows")
    if report.adapter:
        show(f"LoRA: rank {report.adapter['rank']}, {report.adapter['tensors']} tensors")
    if report.orientation:
        show(f"tile grid: {report.orientation}")
    if report.manifest.get("present"):
        manifest = report.manifest
        changed = f"{len(manifest['changed'])} changed (compared by {manifest['compared']})"
        show(f"manifest: {manifest['files']} files, {changed}")
        for name, found, expected in manifest["changed"]:
            show(f"  changed: {name} is {found}, expected {expected}")
        for name in manifest["unlisted"]:
            show(f"  not in the manifest: {name}")
    if report.weights_id:
        show(f"weights id: {report.weights_id}")
    for line in report.notes:
        show(line)
    show("problems: " + (", ".join(problem.code for problem in report.problems) or "none"))
