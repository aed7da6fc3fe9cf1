"""The flags that choose what runs the decoder, and loading with them. This file knows neither torch nor llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xverse_v.errors import error

from .common import load_assistant, passing_note

if TYPE_CHECKING:
    from xverse_v.inference.assistant import Assistant

_PANEL = "Computing"

BackendName = Literal["torch", "llamacpp"]
Backend = Annotated[
    BackendName,
    typer.Option(
        "--backend", help="llamacpp: the decoder from a GGUF file, for machines without a GPU.", rich_help_panel=_PANEL
    ),
]
Gguf = Annotated[
    Path | None,
    typer.Option(
        "--gguf",
        metavar="FILE",
        help="With llamacpp: the decoder. Default: the one in the folder's gguf/.",
        rich_help_panel=_PANEL,
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        metavar="N",
        help="With llamacpp: most tokens of prompt and answer, reserved at once. Default: 4096.",
        rich_help_panel=_PANEL,
    ),
]


def load_with(
    model: str,
    device: str | None,
    dtype: str | None,
    quantise: str | None,
    backend: BackendName,
    gguf: Path | None,
    context: int | None,
    rows: int = 1,
) -> Assistant:
    """The model, ready to ask, on the chosen back end. Raises E849 and E844 for flags that do not go with it."""
    refuse_others(backend, device, dtype, quantise, gguf, context)
    if backend == "torch":
        return load_assistant(model, device, dtype, quantise)
    with passing_note(f"loading {model} ..."):
        from xverse_v.engines.llamacpp.loading import load

        return load(model, gguf, context=context, rows=rows)


def refuse_others(
    backend: str, device: str | None, dtype: str | None, quantise: str | None, gguf: Path | None, context: int | None
) -> None:
    """Flags that go with the other back end only. Raises E849 and E844."""
    if backend == "torch":
        for option, found in (("--gguf", gguf), ("--context", context)):
            if found is not None:
                raise error("E849", option=option)
        return
    for option, given in (("--device", device), ("--dtype", dtype), ("--quantise", quantise)):
        if given is not None and (option, given) != ("--device", "cpu"):
            raise error("E844", option=option, found=given)
