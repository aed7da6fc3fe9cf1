"""One self-contained HTML file: the same facts as the sheet, to look at with a mouse.

What crosses: an `Inspection` in, the text of a page out. The page loads nothing: views and image are PNG data URLs,
there is no script, and its own content policy forbids everything else. Every text from outside is escaped. Pointing
at a view lights up its rectangle and its token span, by style rules alone.
"""

from __future__ import annotations

import base64
import io
import re
from html import escape
from importlib.resources import files
from string import Template

from PIL import Image

from ..errors import Language
from .notes import percent, ratio
from .report import Inspection, TileReport, ViewReport
from .sheet import colour_of, lies_in_grid
from .words import header_cells, label, view_corners, view_name, view_span

_LONGEST, _THINNEST = 1400, 120  # sides of the image on the page, in pixels; the views are never scaled
_STRIP = 5  # an image that much longer than wide is drawn thicker than it is; see `min-height` and `min-width` below

_FLAG, _CODE = re.compile("--[a-z-]+"), r"<code>\g<0></code>"  # a flag must not be broken over two lines


def tile_page(inspection: Inspection, *, name: str = "", language: Language = "en") -> str:
    """The page as text. `name`: what the user called the image, shown under the title."""
    report = inspection.report
    shown = [name] if name else []
    if report.question is not None:
        shown.append(f"{label('question', language)}: {report.question}")
    notes = [note.text(language) for note in report.notes] or [label("nothing_lost", language)]
    if max(report.width, report.height) > _STRIP * min(report.width, report.height):
        notes.append(label("thicker", language))
    template = files("xverse_v.inspector").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        lang="zh-Hans" if language == "zh" else "en",
        title=label("title", language),
        tile_side=f"{report.tile_size}px",
        lights=_lights(report),
        given="".join(f'<p class="given">{escape(line)}</p>' for line in shown),
        cells="".join(
            f"<div><dt>{escape(cell.name)}</dt><dd>{escape(cell.value)}</dd><dd>{escape(cell.remark)}</dd></div>"
            for cell in header_cells(report, language)
        ),
        original=label("original", language),
        shape=f"{report.width} / {report.height}",
        image=_image_tag(_reduced(inspection.image), label("image", language)),
        boxes="".join(_box(view, report) for view in report.views if not view.is_global),
        notes_title=label("notes", language),
        notes="".join(f"<li>{_FLAG.sub(_CODE, escape(note))}</li>" for note in notes),
        prompt_title=label("prompt", language, tokens=report.prompt_tokens),
        prompt=_prompt(report),
        exact=label("exact", language),
        hint=label("hint", language),
        across=report.columns + 1 if lies_in_grid(report) else 5,
        views="".join(
            _figure(view, pixels, report, language) for view, pixels in zip(report.views, inspection.views, strict=True)
        ),
        views_title=label("views", language),
        table=_table(report, language),
    )


def _lights(report: TileReport) -> str:
    """For every view a rule: while any part of it is pointed at (or has the focus), all its parts are lit."""
    rules = []
    for view in report.views:
        part = f".v{view.index}"
        rules.append(f"{part} {{ --hue: {colour_of(view)}; }}")
        lit = f"body:has({part}:is(:hover, :focus)) {part}"
        rules.append(
            f"{lit} {{ outline-color: var(--hue); background-color: color-mix(in srgb, var(--hue) 28%, transparent); }}"
        )
        rules.append(
            f"{lit}:is(.prompt *) {{ background-color: color-mix(in srgb, var(--hue) 70%, white); color: #000; }}"
        )
    return "\n".join(rules)


def _image_tag(image: Image.Image, name: str) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=False)
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _reduced(image: Image.Image) -> Image.Image:
    scale = _LONGEST / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(min(side, _THINNEST), round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _box(view: ViewReport, report: TileReport) -> str:
    left, top = view.left / report.width, view.top / report.height
    width, height = (view.right - view.left) / report.width, (view.bottom - view.top) / report.height
    place = f"left: {left:.4%}; top: {top:.4%}; width: {width:.4%}; height: {height:.4%}"
    return f'<div class="box v{view.index}" style="{place}"><span>{view.index}</span></div>'


def _prompt(report: TileReport) -> str:
    first, last = report.views[0].token_start, report.views[-1].token_end
    spans = "".join(
        f'<span class="v{view.index}" style="flex: {report.tokens_per_view}" tabindex="0">{view.index}</span>'
        for view in report.views
    )
    return f'<i style="flex: {first}"></i>{spans}<i style="flex: {report.prompt_tokens - last}"></i>'


def _figure(view: ViewReport, pixels: Image.Image, report: TileReport, language: Language) -> str:
    place = ""
    if lies_in_grid(report) and view.row is not None and view.column is not None:
        place = f' style="grid-area: {view.row + 1} / {view.column + 2}"'
    name = view_name(view, language)
    lines = f"{label('tokens', language)} {view_span(view, language)}<br>{view_corners(view, language)}"
    caption = f"<b>{view.index} · {escape(name)}</b><br>{lines}"
    return (
        f'<figure class="v{view.index}" tabindex="0"{place}>{_image_tag(pixels, name)}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(report: TileReport, language: Language) -> str:
    names = ("view", "source", "stretch", "aspect", "source_pixels", "detail", "tokens")
    head = "".join(f"<th>{escape(label(name, language))}</th>" for name in names)
    rows = []
    for view in report.views:
        cells = (
            f"{view.index} · {view_name(view, language)}",
            view_corners(view, language),
            label("across_down", language, x=view.stretch_x, y=view.stretch_y),
            f"{view.aspect_error:.3g}",
            ratio(view.source_pixels),
            percent(view.detail_kept),
            view_span(view, language),
        )
        rows.append(f'<tr class="v{view.index}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<tr>{head}</tr>" + "".join(rows)
