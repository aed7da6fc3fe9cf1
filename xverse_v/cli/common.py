"""What every verb shares: flags that read the same everywhere, and the only ways to print.

A verb parses, calls and prints. Results go to stdout (``show``, ``show_json``), everything else to stderr (``note``).
A verb raises ``XverseError`` and never prints it: ``cli.main`` does, through ``print_error``. This file knows no model and
imports neither torch nor transformers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from xverse_v.errors import XverseError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")]
Model = Annotated[
    str,
    typer.Option("--model", metavar="nano|FOLDER", help="The built-in model, or a folder made by xverse-v convert."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="cpu|cuda|cuda:N|mps", help="Where to compute. Default: a GPU if there is one."),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", metavar="float32|bfloat16|float16", help="Number format. Default: what suits the device."),
]


def show(text: str = "") -> None:
    """A line of the result, on stdout."""
    print(text, flush=True)


def show_piece(text: str) -> None:
    """A piece of a streamed result, on stdout, without a line end."""
    print(text, end="", flush=True)


def show_json(document: Mapping[str, Any] | list[Any]) -> None:
    """The whole result as one JSON document on stdout; text stays readable (no ASCII escapes)."""
    print(json.dumps(document, ensure_ascii=False, indent=2), flush=True)


def note(text: str = "") -> None:
    """A line for the person watching, on stderr: progress, receipts, warnings."""
    print(text, file=sys.stderr, flush=True)


def print_error(problem: XverseError, *, as_json: bool) -> None:
    """Three lines on stderr (code and fact, cause, next command); with ``as_json`` also ``{"error": ...}`` on stdout."""
    if as_json:
        show_json({"error": problem.as_dict()})
    fact, *rest = problem.text().split("\n")
    typer.secho(fact, fg=typer.colors.RED, err=True)
    for line in rest:
        note(line)
