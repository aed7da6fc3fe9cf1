"""`xverse-v convert`: the release's three parts into one model folder. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xverse_v.errors import error

from .common import Json, note, show, show_json

if TYPE_CHECKING:
    from xverse_v.weights.convert import ConversionReport

Grid = Literal["release", "upright"]
Stored = Literal["bfloat16", "float16", "float32"]


def convert(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write; it must not exist or be empty.")
    ],
    clip: Annotated[
        Path | None,
        typer.Option("--clip", metavar="DIR", help="The CLIP folder: openai/clip-vit-large-patch14, downloaded."),
    ] = None,
    llm: Annotated[
        Path | None, typer.Option("--llm", metavar="DIR", help="The chat folder: XVERSE-13B-Chat, downloaded.")
    ] = None,
    adapters: Annotated[
        Path | None, typer.Option("--adapters", metavar="FILE", help="The released adapter_and_lora.bin.")
    ] = None,
    cfg_path: Annotated[
        Path | None,
        typer.Option("--cfg-path", metavar="YAML", help="The release's evaluation YAML, instead of the three parts."),
    ] = None,
    lora_alpha: Annotated[
        float | None,
        typer.Option("--lora-alpha", min=0, help="LoRA's alpha. Default: twice the rank, as in the release."),
    ] = None,
    keep_lora: Annotated[
        bool, typer.Option("--keep-lora", help="Keep LoRA as a peft folder, adapter/, instead of merging it.")
    ] = False,
    grid: Annotated[
        Grid, typer.Option("--grid", help="How tiles lie. release: transposed, as the weights were measured.")
    ] = "release",
    dtype: Annotated[Stored, typer.Option("--dtype", help="The number format of the weights on disk.")] = "bfloat16",
    max_shard_gb: Annotated[
        float, typer.Option("--max-shard-gb", min=0.001, help="Largest weight file in GB (10^9 bytes).")
    ] = 5.0,
    json_: Json = False,
) -> None:
    """Put the three released parts together into one folder that every other command reads.

    Every tensor is accounted for, LoRA is merged in float32, and the result is checked against the parts before the
    folder gets its name. Memory needed: about the largest input file plus the LoRA.
    """
    rank = None
    if cfg_path is not None:
        from xverse_v.weights.release_yaml import parts_from_yaml

        parts = parts_from_yaml(cfg_path, clip=clip, llm=llm, adapters=adapters)
        for key in parts.ignored:
            note(f"{cfg_path.name}: {key} has no meaning here")
        clip, llm, adapters, rank = parts.clip, parts.llm, parts.adapters, parts.lora_rank
        lora_alpha = lora_alpha if lora_alpha is not None else parts.lora_alpha
    if clip is None or llm is None or adapters is None:
        given = {"--clip": clip, "--llm": llm, "--adapters": adapters}
        named = ", ".join(flag for flag, value in given.items() if value is not None) or "-"
        raise error("E322", given=named, missing=", ".join(flag for flag, value in given.items() if value is None))
    from xverse_v.weights import convert as weights

    report = weights.convert(
        clip,
        llm,
        adapters,
        out,
        lora_alpha=lora_alpha,
        lora_rank=rank,
        keep_lora=keep_lora,
        grid=grid,
        dtype=dtype,
        max_shard_bytes=int(max_shard_gb * 1e9),
        progress=note,
    )
    if json_:
        show_json(report.as_dict())
    else:
        _print(report)


def _print(report: ConversionReport) -> None:
    counts, lora, parity = report.tensors, report.lora, report.parity
    show(f"{report.out}: {counts['written']} tensors in {report.dtype}, {report.seconds} s")
    show(f"weights id: {report.weights_id}")
    show(
        f"read {counts['read']}, placed {counts['written'] - counts['generated']}, LoRA {counts['lora']}, "
        f"dropped {counts['dropped']}, made here {counts['generated']}, unexpected 0, missing 0"
    )
    for reason, count in report.dropped.items():
        show(f"  dropped {count}: {reason}")
    kept = "kept in adapter/" if lora["kept"] else "merged in float32"
    numbers = f"rank {lora['rank']}, alpha {lora['alpha']:g}, {lora['names']} names"
    show(f"LoRA on {lora['linears']} linears: {numbers}, {kept}")
    show(f"tile grid: {report.orientation}")
    if report.ignored_fields:
        show(f"fields of the chat folder's config.json without a meaning here: {', '.join(report.ignored_fields)}")
    for line in report.notes:
        show(line)
    difference = f"{parity['largest_relative_difference']:.1e}"
    show(f"parity check passed: {parity['tensors']} tensors equal the parts, logits differ by {difference} at most")
