"""`xverse-v speed`: how fast this machine answers, beside what it could do at most. Parses, calls, prints; speed/ does
it.

Every part prints a table, or with `--json` one line of JSON a row. The other verbs (`serve`, `train`, `growth`, `gpu`
and `report`, which runs them all) stand in speed_more.py.
"""

from __future__ import annotations

from typing import Annotated

import typer

from . import speed_more
from .common import Json, note, show
from .speed_common import (
    Device,
    Dtype,
    Folder,
    NewTokens,
    Peer,
    Repeat,
    Size,
    Views,
    json_lines,
    measured_ceilings,
    print_section,
)

speed = typer.Typer(
    help="Measure speed against what this machine can do at most, and beside other ways to run the same weights.",
    no_args_is_help=True,
)


@speed.command()
def roofline(
    model: Folder = None,
    size: Size = "13b",
    views: Views = 7,
    text_tokens: Annotated[int, typer.Option("--text-tokens", metavar="N", help="Tokens beside the image's.")] = 64,
    new_tokens: NewTokens = 128,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="float32|bfloat16|float16|int8|int4", help="Of the decoder's weights.")
    ] = "float32",
    device: Device = "cpu",
    json_: Json = False,
) -> None:
    """Operations, bytes and the least time of every phase on this machine. No weights are read or made."""
    from xverse_v.speed import phases, report
    from xverse_v.speed.subject import shape_named
    from xverse_v.weights.plan import check_choice
    from xverse_v.weights.shapes import WEIGHT_DTYPES, compute_dtype

    check_choice("--dtype", dtype, WEIGHT_DTYPES)
    shape = shape_named(model, size)
    works = phases.answering(shape, views, text_tokens, new_tokens, dtype) + phases.training(shape, views, dtype)
    ceilings = measured_ceilings(device, (compute_dtype(dtype),))
    if json_:
        json_lines([{"phase": w.name, "flops": w.flops, "bytes": w.bytes, "dtype": w.dtype} for w in works], ceilings)
        return
    for line in [*report.ceilings_table(ceilings), "", *report.roofline_table(works, ceilings)]:
        show(line)


@speed.command()
def generate(
    model: Folder = None,
    size: Size = "middle",
    views: Views = 7,
    new_tokens: NewTokens = 32,
    dtype: Dtype = "float32",
    peer: Peer = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also decode with int8 weights beside float32, in turns (CPU, float32).")
    ] = False,
    repeat: Repeat = 3,
    device: Device = "cpu",
    json_: Json = False,
) -> None:
    """The first token, each token after it, and sixteen questions on one image; identical answers are checked."""
    from xverse_v.speed.sections import generate_section
    from xverse_v.speed.subject import build_subject

    subject = build_subject(model, size, dtype, device)
    ceilings = measured_ceilings(device, (dtype,))
    section = generate_section(subject, ceilings, views, new_tokens, repeat, peer or [], note, int8=int8)
    print_section(section, device, as_json=json_)


@speed.command()
def images(
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", help="Runs of each; the median counts.")] = 15,
    json_: Json = False,
) -> None:
    """Images to views, ours beside the release's way, equal to the last bit or it is an error."""
    from xverse_v.speed.sections import images_section

    print_section(images_section(repeat), "cpu", as_json=json_)


@speed.command()
def load(
    model: Folder = None, size: Size = "middle", dtype: Dtype = "float32", repeat: Repeat = 3, json_: Json = False
) -> None:
    """Loading against a plain read of the same files, and peak memory against the weights."""
    from xverse_v.speed.sections import loading_section

    print_section(loading_section(model, size, dtype, repeat), "cpu", as_json=json_)


speed_more.add_to(speed)
