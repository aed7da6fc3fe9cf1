"""What the verbs of `xverse-v speed` share: their flags, and printing a section as tables or as lines of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import note, say, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xverse_v.speed.ceilings import Ceilings
    from xverse_v.speed.records import Conditions
    from xverse_v.speed.report import Section

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
    typer.Option(
        "--peer", metavar="release|transformers|llamacpp", help="Also run this way, on the same weights. Repeatable."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to compute.")]


def measured_ceilings(device: str, dtypes: Sequence[str]) -> Ceilings:
    """What the machine can do, with a line to say that it takes a while."""
    from xverse_v.speed.ceilings import measure_ceilings

    note(say("Measuring what this machine can do.", "正在测量本机的上限。"))
    return measure_ceilings(device, dtypes)


def print_section(section: Section, device: str, *, as_json: bool) -> None:
    """Conditions, rows and goals; with `as_json` a line a row."""
    from xverse_v.speed.records import conditions, conditions_table, json_line, settings_in_words, table

    under: Conditions = conditions(device)
    if as_json:
        for record in section.records:
            show(json_line(record, under))
        return
    for line in [*conditions_table(under), "", settings_in_words(section.records), *table(section.records), ""]:
        show(line)
    print_goals([section])


def print_goals(sections: Sequence[Section]) -> None:
    """Every goal with its number."""
    from xverse_v.speed.records import goals_table

    for line in goals_table([goal for section in sections for goal in section.goals]):
        show(line)


def json_lines(rows: Sequence[dict[str, object]], ceilings: Ceilings) -> None:
    """A line a row, each with the ceilings."""
    import json

    for row in rows:
        show(json.dumps({**row, "ceilings": ceilings.as_dict()}, ensure_ascii=False))
