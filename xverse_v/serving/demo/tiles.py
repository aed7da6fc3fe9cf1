"""The tile panel: every view the model gets of the last images. Inspections in, escaped HTML out.

Every number and word about views comes from the inspector; this file lays them out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from PIL import Image

from xverse_v.errors import Language
from xverse_v.inspector import Inspection, TileReport, ViewReport
from xverse_v.inspector.sheet import colour_of
from xverse_v.inspector.words import header_cells, label, view_name, view_span
from xverse_v.model.tiling import Orientation, choose_grid, view_boxes

from .drawing import frame, image_tag, placed
from .texts import text

_FLAG, _CODE = re.compile("--[a-z-]+"), r"<code>\g<0></code>"


def tile_panel(inspections: Sequence[Inspection], language: Language) -> str:
    """The panel of all images of a message, one below the other."""
    if not inspections:
        return f'<div class="xv-panel xv-empty">{escape(text("tiles_empty", language))}</div>'
    count = len(inspections)
    parts = []
    for number, inspection in enumerate(inspections, start=1):
        title = text("image_number", language, number=number, count=count) if count > 1 else ""
        parts.append(_image(inspection, title, language))
    return f'<div class="xv-panel">{"".join(parts)}</div>'


def _image(inspection: Inspection, title: str, language: Language) -> str:
    report = inspection.report
    numbers = "".join(
        f"<div><dt>{escape(cell.name)}</dt><dd>{escape(cell.value)}</dd><dd>{escape(cell.remark)}</dd></div>"
        for cell in header_cells(report, language)
    )
    boxes = "".join(_box(view, report) for view in report.views if not view.is_global)
    notes = [text(f"orientation_{report.orientation}", language), _other_way(report, language)]
    notes += [note.text(language) for note in report.notes]
    listed = "".join(f"<li>{_FLAG.sub(_CODE, escape(note))}</li>" for note in notes)
    views = "".join(_view(view, pixels, language) for view, pixels in zip(report.views, inspection.views, strict=True))
    across = report.columns if 1 < report.columns <= 4 else 4
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return (
        f'{heading}<dl class="xv-numbers xv-six">{numbers}</dl>'
        f"{frame(report.width, report.height, image_tag(inspection.image, label('image', language)) + boxes)}"
        f'<ul class="xv-notes">{listed}</ul>'
        f"<h4>{escape(text('views_title', language))}</h4>"
        f'<div class="xv-views" style="--across: {across}">{views}</div>'
    )


def _box(view: ViewReport, report: TileReport) -> str:
    width, height = report.width, report.height
    place = placed(view.left / width, view.top / height, view.right / width, view.bottom / height)
    return f'<div class="xv-box" style="--hue: {colour_of(view)}; {place}"><span>{view.index}</span></div>'


def _other_way(report: TileReport, language: Language) -> str:
    """What the orientation that is not this model's would do to the image."""
    other: Orientation = "upright" if report.orientation == "release" else "release"
    grid = choose_grid(
        report.width, report.height, orientation=other, max_tiles=report.max_tiles, tile_size=report.tile_size
    )
    if (grid.rows, grid.columns) == (report.rows, report.columns):
        return text("same_grid", language)
    aspect = view_boxes(report.width, report.height, grid, report.tile_size)[-1].aspect_error
    return text("other_grid", language, other=other, rows=grid.rows, columns=grid.columns, aspect=aspect)


def _view(view: ViewReport, pixels: Image.Image, language: Language) -> str:
    name = view_name(view, language)
    tokens = f"{label('tokens', language)} {view_span(view, language)}"
    kind = " xv-global" if view.is_global else ""
    return (
        f'<figure class="xv-view{kind}" style="--hue: {colour_of(view)}">{image_tag(pixels, name, exact=True)}'
        f"<figcaption><b>{view.index} · {escape(name)}</b><br>{escape(tokens)}</figcaption></figure>"
    )
