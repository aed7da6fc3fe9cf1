"""`xverse-v speed serve`, `train`, `growth`, `gpu`, and `report`, which runs every part. Parses, calls, prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xverse_v.errors import error

from .common import Json, note, say, show
from .speed_common import (
    Device,
    Dtype,
    Folder,
    NewTokens,
    Repeat,
    Size,
    Views,
    measured_ceilings,
    print_goals,
    print_section,
)

if TYPE_CHECKING:
    from xverse_v.speed.records import Conditions
    from xverse_v.speed.report import Section

Out = Annotated[Path, typer.Option("--out", metavar="FILE.md", help="The report to write; its pictures go beside it.")]
Clients = Annotated[int, typer.Option("--clients", metavar="N", help="Clients at once.")]
Requests = Annotated[int, typer.Option("--requests", metavar="N", help="Requests of each workload, all at once.")]


def add_to(app: typer.Typer) -> None:
    """Put these verbs into the sub-app."""
    for verb in (serve, train, growth, gpu, report):
        app.command()(verb)


def serve(
    model: Annotated[str, typer.Option("--model", metavar="nano|FOLDER", help="What is served.")] = "nano",
    size: Annotated[
        str | None, typer.Option("--size", metavar="tiny|small|middle", help="Random weights instead of --model.")
    ] = None,
    clients: Clients = 32,
    requests: Requests = 160,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Requests the server decodes together.")] = 32,
    json_: Json = False,
) -> None:
    """The server over HTTP: clients one at a time and many at once; answers are compared with those given alone."""
    from xverse_v.speed.sections import serve_size, serving_section
    from xverse_v.speed.serving import ServingCase
    from xverse_v.speed.subject import shape_named

    ceilings = measured_ceilings("cpu", ("float32",))
    if size is not None:
        section = serve_size(size, clients, requests, batch, ceilings, note)
    else:
        case = ServingCase(shape_named(model, "tiny"), model, clients, requests, batch)
        section = serving_section(case, ceilings, note)
    print_section(section, "cpu", as_json=json_)


def train(
    size: Size = "small",
    views: Annotated[
        list[int] | None, typer.Option("--views", metavar="N", help="Views of one sample of a step. Repeatable.")
    ] = None,
    dtype: Dtype = "float32",
    repeat: Repeat = 3,
    device: Device = "cpu",
    json_: Json = False,
) -> None:
    """Steps of both stages and their MFU: padded and packed, with and without recomputation."""
    from xverse_v.speed.sections import training_section
    from xverse_v.speed.subject import shape_named
    from xverse_v.speed.training import TrainingCase

    chosen = tuple(views or (1, 1, 3))
    case = TrainingCase(shape_named(None, size), chosen, repeats=repeat, dtype=dtype, device=device)
    print_section(training_section(case, measured_ceilings(device, (dtype,)), note), device, as_json=json_)


def growth(
    model: Folder = None,
    size: Size = "small",
    dtype: Dtype = "float32",
    repeat: Repeat = 2,
    device: Device = "cpu",
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw the curves.")] = None,
    json_: Json = False,
) -> None:
    """Time and memory against views, questions, context and batch; no curve may be steeper than its roofline."""
    from xverse_v.speed import plots
    from xverse_v.speed.growth import Sizes
    from xverse_v.speed.sections import growth_section
    from xverse_v.speed.subject import build_subject

    subject = build_subject(model, size, dtype, device)
    section = growth_section(subject, measured_ceilings(device, (dtype,)), Sizes(repeats=repeat), note)
    if plot is not None:
        plots.growth(section.curves, plot, section.title)
        note(str(plot))
    print_section(section, device, as_json=json_)


def gpu(
    out: Out,
    size: Size = "13b",
    dtype: Dtype = "bfloat16",
    device: Device = "cuda",
    context: Annotated[int, typer.Option("--context", metavar="N", help="Tokens that decoding stands behind.")] = 2048,
) -> None:
    """One card at the real size in under ten minutes: decoding, prefill, vision tower, training; one report."""
    from xverse_v.speed.gpu import Suite, run_suite
    from xverse_v.speed.records import conditions

    _check_free(out)
    suite = Suite(size=size, device=device, dtype=dtype, context=context)
    under = conditions(device)
    _write(out, under, run_suite(suite, measured_ceilings(device, (dtype,)), note))


def report(
    out: Out,
    size: Size = "middle",
    small: Annotated[
        str, typer.Option("--small", metavar="tiny|small", help="The size of training and growth, which run often.")
    ] = "small",
    views: Views = 7,
    new_tokens: NewTokens = 32,
    repeat: Repeat = 3,
    clients: Clients = 32,
    requests: Requests = 160,
    device: Device = "cpu",
) -> None:
    """All parts in one run, with every goal and the number found for it, and pictures."""
    from xverse_v.speed import sections
    from xverse_v.speed.growth import Sizes
    from xverse_v.speed.records import conditions
    from xverse_v.speed.serving import ServingCase
    from xverse_v.speed.subject import build_subject, shape_named
    from xverse_v.speed.training import TrainingCase
    from xverse_v.speed.ways import has_llamacpp

    _check_free(out)
    under = conditions(device)
    ceilings = measured_ceilings(device, ("float32", "bfloat16"))
    subject = build_subject(None, size, "float32", device)
    peers, fewer = ["release", "transformers"], max(1, repeat - 1)
    if device == "cpu" and has_llamacpp():
        peers.append("llamacpp")
    int8 = device == "cpu"
    parts = [
        sections.roofline_section(subject.shape, ceilings, views),
        sections.generate_section(subject, ceilings, views, new_tokens, repeat, peers, note, int8=int8),
        sections.images_section(5 * repeat),
        sections.loading_section(None, size, "float32", fewer, subject),
    ]
    del subject
    served = ServingCase(shape_named("nano", size), "nano", clients, requests)
    parts.append(sections.serving_section(served, ceilings, note))
    steps = TrainingCase(shape_named(None, small), packing=(True,), repeats=fewer, device=device)
    parts.append(sections.training_section(steps, ceilings, note))
    growing = build_subject(None, small, "float32", device)
    parts.append(sections.growth_section(growing, ceilings, Sizes(repeats=fewer), note))
    _write(out, under, parts)


def _check_free(out: Path) -> None:
    """Before minutes of measuring: is there a place for the report? Raises E809: an older one is never overwritten."""
    problem = say("the file exists", "文件已存在") if out.exists() else ""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        problem = reason.strerror or str(reason)
    if not problem and not os.access(out.parent, os.W_OK):
        problem = say("the folder may not be written to", "该文件夹不可写")
    if problem:
        raise error("E809", path=out, problem=problem)


def _write(out: Path, under: Conditions, parts: Sequence[Section]) -> None:
    """The report with its pictures, or without them where nothing can draw, which is said."""
    from xverse_v.speed import plots
    from xverse_v.speed.report import markdown

    if plots.available():
        parts = plots.illustrate(out, parts)
    else:
        hint = 'pip install "xverse-v[charts]"'
        note(say(f"No pictures: matplotlib is not installed ({hint}).", f"没有图：未安装 matplotlib（{hint}）。"))
    title = f"{under.date[:10]}: speed on {under.device}"
    out.write_text(markdown(title, under, parts), encoding="utf-8")
    print_goals(parts)
    show(str(out))
