"""`xverse-v tiles`: what the model is shown of an image. Parses, calls, prints; the inspector room does it.

No weights are read: the folder's `config.json` and processor are enough.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xverse_v.errors import Language, error, user_language

from .common import AllowHost, Json, MaxTiles, Model, Page, note, opened, show, show_json

if TYPE_CHECKING:
    from xverse_v.inspector import TileReport
    from xverse_v.model import XverseVProcessor

Grid = Literal["release", "upright"]
_WIDE = 118  # columns of the table when nobody's window sets them


def tiles(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file; - reads one from standard input.")],
    model: Model = "nano",
    grid: Annotated[
        Grid | None,
        typer.Option("--grid", help="How tiles lie: release (transposed) or upright. Default: the model's own."),
    ] = None,
    page: Page = None,
    allow_host: AllowHost = None,
    max_tiles: MaxTiles = None,
    question: Annotated[
        str | None, typer.Option("--question", metavar="TEXT", help="Put a question behind the image, as ask does.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="OUT", help="Write a contact sheet with every view, unscaled.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="OUT", help="Write a page to look at with a mouse, in one file.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show exactly what the model sees of an image, before it is asked anything.

    For every view: its source rectangle on the image, its place in the prompt,
    its token span, how far its shape is off, and what shrinking threw away.
    Needs no weights.
    """
    _refuse_input(image, (png, html))
    from xverse_v.inspector import contact_sheet, inspect_tiles, tile_page
    from xverse_v.media import open_image

    language = user_language()
    processor, context = _processor(model, grid, max_tiles)
    source = open_image(opened(image, page, allow_host))
    inspection = inspect_tiles(source, processor, question=question, max_tiles=max_tiles, context=context)
    if png:
        _write(png, lambda: contact_sheet(inspection).save(png, "PNG"))
    if html:
        name = "" if image == "-" else image
        _write(html, lambda: html.write_text(tile_page(inspection, name=name, language=language), encoding="utf-8"))
    if json_:
        show_json({"image": image, "model": model, **inspection.report.as_dict(language)})
    else:
        _print(inspection.report, language)


def _processor(model: str, grid: Grid | None, max_tiles: int | None) -> tuple[XverseVProcessor, int]:
    """The model's processor, with `grid` in place of its own, and its context length."""
    from xverse_v.inference.loading import resolve_model
    from xverse_v.model import XverseVConfig, XverseVProcessor
    from xverse_v.weights.parts import read_json

    folder = resolve_model(model)
    found = read_json(folder / "config.json").get("model_type")
    if found != XverseVConfig.model_type:
        raise error(
            "E311",
            path=folder / "config.json",
            field="model_type",
            found=repr(found),
            expected=XverseVConfig.model_type,
        )
    for name in ("processor_config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise error("E319", folder=folder, missing=name)
    processor = XverseVProcessor.from_pretrained(folder)
    images = processor.image_processor
    if max_tiles is not None and not 1 <= max_tiles <= images.max_tiles:
        raise error("E112", got=max_tiles, most=images.max_tiles)
    if grid is not None:
        # As convert writes it: turning by EXIF belongs to upright, and the released weights never saw it.
        images.orientation, images.apply_exif = grid, grid == "upright"
    return processor, XverseVConfig.from_pretrained(folder).text_config.max_position_embeddings


def _refuse_input(image: str, outputs: tuple[Path | None, ...]) -> None:
    for path in outputs:
        if path and path.exists() and Path(image).exists() and path.samefile(image):
            raise error("E541", path=path, stem=path.stem)


def _write(path: Path, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as reason:
        raise error("E540", path=path, reason=reason.strerror or reason) from reason
    note(f"wrote {path}")


def _print(report: TileReport, language: Language) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from xverse_v.inspector.notes import percent, ratio
    from xverse_v.inspector.words import header_cells, label, view_name

    facts = Table.grid(padding=(0, 2))
    for cell in header_cells(report, language):
        facts.add_row(cell.name, cell.value, cell.remark)
    facts.add_row(label("prompt_tokens", language), f"{report.prompt_tokens:,}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # narrow enough for 80 columns
    for name in ("view", "source", "stretch", "aspect_short", "source_pixels_short", "detail_short", "tokens"):
        table.add_column(label(name, language))
    for view in report.views:
        table.add_row(
            f"{view.index} {view_name(view, language)}",
            f"{view.left:.0f},{view.top:.0f}-{view.right:.0f},{view.bottom:.0f}",
            f"x{view.stretch_x:.3g} x{view.stretch_y:.3g}",
            f"{view.aspect_error:.3g}",
            ratio(view.source_pixels),
            percent(view.detail_kept),
            f"{view.token_start}-{view.token_end - 1}",
        )
    remarks = Table.grid(padding=(0, 1))
    for remark in report.notes:
        remarks.add_row("-", Text(remark.text(language)))
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    with console.capture() as captured:
        console.print(facts, table, remarks)
    show("\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")))
