"""`xverse-v verify`: hashes, finite values, parity. Parses, calls, prints; weights/verify.py does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, print_error, show, show_json


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder made by xverse-v convert.")],
    json_: Json = False,
) -> None:
    """Check a model folder to the last byte, and that it still computes what it computed when it was made.

    Exit code 1 if a check fails. Reads everything; memory needed is that of the largest tensor.
    """
    from xverse_v.weights.verify import verify_folder

    report = verify_folder(folder)
    if json_:
        show_json(report.as_dict())
    else:
        for check in report.checks:
            show(f"{check.state:8}{check.name}: {check.detail}")
        for problem in report.problems:
            print_error(problem, as_json=False)
        if report.passed:
            skipped = sum(check.state == "skipped" for check in report.checks)
            show(f"{folder}: nothing wrong" + (f", {skipped} checks skipped" if skipped else ""))
    if not report.passed:
        raise typer.Exit(1)
