"""`xverse-v speed`: how fast this machine answers, beside what it could do at most. Parses, calls, prints; speed/ does
it.

Every part prints a table, or with `--json` one line of JSON a row. `report` runs them all and writes Markdown.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Json, note, say, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xverse_v.speed.ceilings import Ceilings
    from xverse_v.speed.records import Conditions
    from xverse_v.speed.report import Section

speed = typer.Typer(
    help="Measure speed against what this machine can do at most, and beside other ways to run the same weights.",
    no_args_is_help=True,
)

Folder = Annotated[
    str | None,
    typer.Option("--model", metavar="nano|FOLDER", help="Your own model. Default: random weights of --size."),
]
Size = Annotated[
    str,
    typer.Option("--size", metavar="tiny|middle|13b", help="Random weights of this size, made on the spot."),
]
Views = Annotated[int, typer.Option("--views", metavar="N", help="Views of the image, 1 to 10.")]
NewTokens = Annotated[int, typer.Option("--new-tokens", metavar="N", help="Tokens of each answer.")]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="float32|bfloat16|float16", help="Number format of weights and products.")
]
Repeat = Annotated[int, typer.Option("--repeat", metavar="N", help="Runs of each; the median counts.")]
Peer = Annotated[
    list[str] | None,
    typer.Option("--peer", metavar="release|transformers", help="Also run this way, on the same weights. Repeatable."),
]
Device = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to compute.")]


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
    ceilings = _ceilings(device, (compute_dtype(dtype),))
    if json_:
        _json_lines([{"phase": w.name, "flops": w.flops, "bytes": w.bytes, "dtype": w.dtype} for w in works], ceilings)
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
    repeat: Repeat = 3,
    device: Device = "cpu",
    json_: Json = False,
) -> None:
    """The first token, each token after it, and sixteen questions on one image; identical answers are checked."""
    from xverse_v.speed.sections import generate_section
    from xverse_v.speed.subject import build_subject

    subject = build_subject(model, size, dtype, device)
    section = generate_section(subject, _ceilings(device, (dtype,)), views, new_tokens, repeat, peer or [], note)
    _print(section, device, as_json=json_)


@speed.command()
def images(
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", help="Runs of each; the median counts.")] = 15,
    json_: Json = False,
) -> None:
    """Images to views, ours beside the release's way, equal to the last bit or it is an error."""
    from xverse_v.speed.sections import images_section

    _print(images_section(repeat), "cpu", as_json=json_)


@speed.command()
def load(
    model: Folder = None, size: Size = "middle", dtype: Dtype = "float32", repeat: Repeat = 3, json_: Json = False
) -> None:
    """Loading against a plain read of the same files, and peak memory against the weights."""
    from xverse_v.speed.sections import loading_section

    _print(loading_section(model, size, dtype, repeat), "cpu", as_json=json_)


@speed.command()
def report(
    out: Annotated[Path, typer.Option("--out", metavar="FILE.md", help="The report to write.")],
    size: Size = "middle",
    views: Views = 7,
    new_tokens: NewTokens = 32,
    repeat: Repeat = 3,
    device: Device = "cpu",
) -> None:
    """All parts in one run, with every goal and the number found for it."""
    from xverse_v.speed import sections
    from xverse_v.speed.records import conditions
    from xverse_v.speed.report import markdown
    from xverse_v.speed.subject import build_subject

    under = conditions(device)
    title = f"{under.date[:10]}: speed on {under.device}"
    ceilings = _ceilings(device, ("float32", "bfloat16"))
    subject = build_subject(None, size, "float32", device)
    parts = [
        sections.roofline_section(subject.shape, ceilings, views),
        sections.generate_section(subject, ceilings, views, new_tokens, repeat, ["release", "transformers"], note),
        sections.images_section(15),
        sections.loading_section(None, size, "float32", repeat, subject),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(markdown(title, under, parts), encoding="utf-8")
    _print_goals(parts)
    show(str(out))


def _ceilings(device: str, dtypes: Sequence[str]) -> Ceilings:
    from xverse_v.speed.ceilings import measure_ceilings

    note(say("Measuring what this machine can do.", "正在测量本机的上限。"))
    return measure_ceilings(device, dtypes)


def _print(section: Section, device: str, *, as_json: bool) -> None:
    from xverse_v.speed.records import conditions, conditions_table, json_line, settings_in_words, table

    under: Conditions = conditions(device)
    if as_json:
        for record in section.records:
            show(json_line(record, under))
        return
    for line in [*conditions_table(under), "", settings_in_words(section.records), *table(section.records), ""]:
        show(line)
    _print_goals([section])


def _print_goals(sections: Sequence[Section]) -> None:
    from xverse_v.speed.records import goals_table

    for line in goals_table([goal for section in sections for goal in section.goals]):
        show(line)


def _json_lines(rows: Sequence[dict[str, object]], ceilings: Ceilings) -> None:
    import json

    for row in rows:
        show(json.dumps({**row, "ceilings": ceilings.as_dict()}, ensure_ascii=False))
