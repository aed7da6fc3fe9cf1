"""`xverse-v data check`, `data show`, `data encode`: training data as it is and as the model sees it.

Parses, calls, prints; the data room does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from xverse_v.errors import error

from .common import Device, Json, Model, note, show, show_json
from .counting import counted

if TYPE_CHECKING:
    from xverse_v.training.data.check import CheckReport
    from xverse_v.training.data.encode import Encoder
    from xverse_v.training.data.fix import FixReport
    from xverse_v.training.data.show import ShownSample
    from xverse_v.training.data.sources import Source

data = typer.Typer(help="Check training data, look at samples, encode images once.", no_args_is_help=True)

FormatName = Literal["auto-by-content", "llava", "sharegpt", "messages", "jsonl-pairs", "webdataset", "parquet"]
AnswerTokens = Literal["separate", "continued"]
StoreType = Literal["float32", "float16", "bfloat16"]

_MARKS = {"error": "red", "warning": "yellow", "note": "cyan"}

Format = Annotated[FormatName, typer.Option("--format", help="What the data are; by default their content says it.")]
ImageRoot = Annotated[
    Path | None,
    typer.Option(
        "--image-root", metavar="FOLDER", help="Where image paths start and must stay. Default: the data's folder."
    ),
]
MaxLength = Annotated[int, typer.Option("--max-length", metavar="N", help="Most tokens of a sample after expansion.")]
MaxTiles = Annotated[
    int | None, typer.Option("--max-tiles", metavar="N", help="Most tiles of an image. Default: the model's.")
]
Answers = Annotated[
    AnswerTokens | None,
    typer.Option(
        "--answer-tokens",
        help="How an answer's first word is encoded; docs/data.md. Default: separate; continued for nano.",
    ),
]


@data.command("check")
def check_verb(
    paths: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Files, folders or patterns of training data.")
    ],
    format: Format = "auto-by-content",
    image_root: ImageRoot = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="nano|FOLDER",
            help="Count tokens as this model does; without it lengths are not checked.",
        ),
    ] = None,
    max_length: MaxLength = 8192,
    max_tiles: MaxTiles = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="BENCHMARK", help="A TSV or JSON benchmark that must not be in the data."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write a clean copy, and OUT.changes.jsonl with every change."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Examples shown of each finding.")] = 5,
    json_: Json = False,
) -> None:
    """Find everything that is wrong with training data, in one pass and without a GPU.

    Every image is decoded, every row parsed as training parses it. Exits with 1
    if there are errors, also when a clean copy was written.
    """
    from xverse_v.training.data.check import CheckSettings, check
    from xverse_v.training.data.fix import fix as write_fix
    from xverse_v.training.data.leakage import read_benchmark

    encoder = None if model is None else _encoder(model, max_length, max_tiles)
    benchmark = None if against is None else read_benchmark(against)
    settings = CheckSettings(format, image_root, encoder, benchmark, limit=limit)
    fixed = None
    if fix is None:
        report = check(paths, settings, progress=_progress)
    else:
        if len(paths) > 1:
            raise error("E218", path=paths[0], kind=f"one of {len(paths)} paths")
        fixed = write_fix(paths[0], fix, settings, progress=_progress)
        report = fixed.check
    if json_:
        show_json(report.as_dict() | ({"fix": fixed.as_dict()} if fixed else {}))
    else:
        _print_report(report, fixed, encoder is not None, benchmark.unreadable if benchmark else 0)
    if report.count("error"):
        raise typer.Exit(1)


def _progress(rows: int) -> None:
    if rows >= 100_000 and rows % 100_000 < 1000:
        note(f"{rows:,} rows")


def _print_report(report: CheckReport, fixed: FixReport | None, lengths: bool, unreadable: int) -> None:
    from xverse_v.training.data.findings import finding_texts

    console = Console(highlight=False, soft_wrap=True)
    for code in sorted(report.examples):
        texts, kept = finding_texts()[code], report.examples[code]
        head = Text(f"{code} {texts['name']}", style=_MARKS[texts["severity"]])
        console.print(head.append(f"  {texts['severity']}, {report.counts[code]:,} found", style="default"))
        for finding in kept:
            console.print(Text(f"  {_safe(finding.source)}:{finding.line}  {_safe(finding.text())}"))
        if report.counts[code] > len(kept):
            console.print(Text(f"  ... and {report.counts[code] - len(kept):,} more (--limit)"))
    counts = [report.count(severity) for severity in ("error", "warning", "note")]
    show(
        f"{counted(report.rows, 'row')}, {counted(report.images, 'image')} ({report.images_opened:,} opened): "
        f"{counted(counts[0], 'error')} in {counted(report.bad_rows, 'row')}, {counted(counts[1], 'warning')}, "
        f"{counted(counts[2], 'note')}."
    )
    if lengths:
        show(f"The longest sample has {report.longest:,} tokens.")
    else:
        note("Lengths were not checked: name a model with --model.")
    if unreadable:
        note(f"{unreadable:,} images of the benchmark cannot be read; for those only the questions were compared.")
    if fixed is not None:
        show(f"Clean copy: {fixed.out} with {counted(fixed.kept, 'row')}; use it with --image-root {fixed.image_root}")
        changes, removed = counted(fixed.changed.total(), "change"), counted(fixed.removed.total(), "row")
        show(f"{changes}, {removed} left out; listed in {fixed.changes}")


def _safe(text: str) -> str:
    """Text of the data for a terminal: control characters shown, not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@data.command("show")
def show_verb(
    path: Annotated[Path, typer.Argument(metavar="DATA", help="A file, folder or pattern of training data.")],
    number: Annotated[int, typer.Argument(metavar="N", help="Which sample, from 0, in the order of the file.")],
    model: Model = "nano",
    format: Format = "auto-by-content",
    image_root: ImageRoot = None,
    max_length: MaxLength = 8192,
    max_tiles: MaxTiles = None,
    answer_tokens: Answers = None,
    json_: Json = False,
) -> None:
    """Show one sample as the model sees it: the prompt, image tokens counted, supervised tokens coloured."""
    import tempfile

    from xverse_v.training.data.show import show_sample

    with tempfile.TemporaryDirectory(prefix="xverse-v-index-") as cache:
        source = _source(path, format, image_root, Path(cache))
        if not 0 <= number < len(source):
            raise error("E221", number=number, path=path, count=len(source), last=len(source) - 1)
        joined = answer_tokens or ("continued" if model == "nano" else "separate")
        shown = show_sample(source.sample(number), _encoder(model, max_length, max_tiles, joined))
    if json_:
        show_json(shown.as_dict() | {"answer_tokens": joined})
        return
    _print_sample(shown)
    show(f"Answers are joined as --answer-tokens {joined} says.")


def _print_sample(shown: ShownSample) -> None:
    console = Console(highlight=False, soft_wrap=True)
    text = Text()
    for run in shown.runs:
        if run.kind == "image":
            text.append(f"<|image|> x {run.tokens}", style="cyan")
        elif run.kind == "supervised":
            # Brackets too, so that the output reads the same without colours.
            text.append("⟦" + _visible(run.text) + "⟧", style="bold green")
        else:
            text.append(_visible(run.text))
    console.print(text)
    show()
    images = "; ".join(f"{_safe(name)}: {views} views" for name, views in zip(shown.images, shown.views, strict=True))
    show(f"{_safe(shown.id)} ({_safe(shown.place)}){': ' + images if images else ''}")
    show(f"{shown.tokens:,} tokens: {shown.image_tokens:,} of images, {shown.supervised:,} supervised (in ⟦ ⟧)")


def _visible(text: str) -> str:
    return "\n".join(_safe(line) for line in text.split("\n"))


@data.command("encode")
def encode_verb(
    paths: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Files, folders or patterns of training data.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The feature store; continued if it is there.")],
    model: Model = "nano",
    format: Format = "auto-by-content",
    image_root: ImageRoot = None,
    max_tiles: MaxTiles = None,
    dtype: Annotated[
        StoreType, typer.Option("--dtype", help="float32 keeps the loss to the bit, the others take half the space.")
    ] = "float16",
    device: Device = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad-images", help="Count images that cannot be read; do not stop.")
    ] = False,
    json_: Json = False,
) -> None:
    """Run every image through the frozen vision tower once, so that training reads features from disk.

    Says first how much space that takes.
    """
    import tempfile

    from xverse_v.inference.loading import pick_device, resolve_model
    from xverse_v.training.data.store_build import build_store, plan_store
    from xverse_v.weights.load import load_model

    encoder = _encoder(model, 1 << 30, max_tiles)
    network = load_model(resolve_model(model), device=pick_device(device))
    with tempfile.TemporaryDirectory(prefix="xverse-v-index-") as cache:
        sources = [_source(path, format, image_root, Path(cache)) for path in paths]
        plan = plan_store(sources, encoder, network.config.vision_config.hidden_size, dtype, out)
        kind = "exactly counted" if plan.exact else "estimated from a sample of the images"
        note(
            f"{plan.images:,} images, about {plan.views:,} views: {_size(plan.bytes)} ({kind}), at most "
            f"{_size(plan.most_bytes)}; {_size(plan.free_bytes)} are free."
        )
        if plan.bytes > plan.free_bytes:
            raise error("E223", need=plan.bytes, folder=out, free=plan.free_bytes)
        header = build_store(
            sources, encoder, network, out, dtype=dtype, on_bad_image="skip" if skip_bad else "fail", progress=_encoded
        )
    if json_:
        show_json(header)
    else:
        counts = f"{header['images']:,} images, {header['views']:,} views"
        show(f"{out}: {counts}, {header['bad_images']:,} bad images left out")


def _encoded(done: int, total: int) -> None:
    if done == total or done % 500 == 0:
        note(f"{done:,} of {total:,} samples")


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _encoder(model: str, max_length: int, max_tiles: int | None, answer_tokens: Any = "separate") -> Encoder:
    from xverse_v.inference.loading import resolve_model
    from xverse_v.model import XverseVProcessor
    from xverse_v.training.data.encode import Encoder

    processor = XverseVProcessor.from_pretrained(resolve_model(model))
    return Encoder(processor, max_length=max_length, max_tiles=max_tiles, answer_tokens=answer_tokens)


def _source(path: Path, format: FormatName, image_root: Path | None, cache: Path) -> Source:
    from xverse_v.training.data.config import SourceConfig
    from xverse_v.training.data.sources import open_source

    return open_source(SourceConfig(path=path, format=format, image_root=image_root, weight=1.0), cache)
