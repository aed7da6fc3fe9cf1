"""One self-contained HTML file: the same facts as the sheet, to look at with a mouse.

What crosses: an `Inspection` in, the text of a page out. The page loads nothing: views and image are PNG data URLs, there is
no script, and its own content policy forbids everything else. Every text from outside is escaped. Pointing at a view lights
up its rectangle and its token span, by style rules alone.
"""

from __future__ import annotations

import base64
import io
import re
from html import escape
from string import Template

from PIL import Image

from ..errors import Language
from .notes import percent
from .report import Inspection, TileReport, ViewReport
from .sheet import colour_of, lies_in_grid
from .words import header_cells, label, view_corners, view_name, view_span

_LONGEST, _THINNEST = 1400, 120  # sides of the image on the page, in pixels; the views are never scaled
_STRIP = 5  # an image that much longer than wide is drawn thicker than it is; see `min-height` and `min-width` below

_FLAG = re.compile("--[a-z-]+")

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --faint: #666d78; --line: #d9dce1; --paper: #fbfbf9; --panel: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e9eb; --faint: #9aa1ac; --line: #363b43; --paper: #15171a; --panel: #1d2024; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 32px 64px; max-width: 1280px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", sans-serif; }
h1 { font-size: 28px; font-weight: 600; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 15px; font-weight: 500; color: var(--faint); margin: 36px 0 10px; }
.given { color: var(--faint); margin: 4px 0 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); margin: 24px 0 0; border-top: 1px solid var(--line);
  border-bottom: 1px solid var(--line); }
dl div { padding: 12px 16px 12px 0; }
dt, dd + dd, .faint { color: var(--faint); font-size: 13px; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
dt + dd { font-size: 22px; line-height: 1.35; }
.top { display: flex; flex-wrap: wrap; gap: 12px 40px; align-items: flex-start; }
.top > div:first-child { flex: 2 1 480px; min-width: 0; }
.top > div:last-child { flex: 1 1 280px; }
.image { position: relative; margin: 0; max-height: 520px; max-width: 100%; aspect-ratio: var(--shape); min-height: 100px; min-width: 90px; }
.image img { width: 100%; height: 100%; display: block; border-radius: 3px; }
.box { position: absolute; box-shadow: inset 0 0 0 2px var(--hue), inset 0 0 0 3px #fff8; transition: background .1s; }
.box span { background: var(--hue); color: #fff; font-size: 12px; line-height: 1; padding: 3px 6px; position: absolute; }
ul { margin: 0; padding: 0; list-style: none; }
ul li { border-left: 3px solid var(--line); padding: 0 0 0 14px; margin: 0 0 14px; }
.prompt { display: flex; height: 30px; background: var(--line); border-radius: 3px; overflow: hidden; }
.prompt span { background: var(--hue); color: #fff; font-size: 13px; display: grid; place-items: center; border-right: 2px solid var(--paper);
  min-width: 0; }
.prompt i { background: var(--line); }
.views { display: grid; gap: 20px; justify-content: start; grid-template-columns: repeat(var(--across), $tile_side); }
@media (max-width: 1240px) {
  .views { grid-template-columns: repeat(auto-fill, $tile_side); }
  .views figure { grid-area: auto !important; }
}
.box, .prompt span, figure { outline: 3px solid transparent; outline-offset: 1px; }
figure { margin: 0; background: var(--panel); border-radius: 3px; border-top: 4px solid var(--hue); }
figure img { display: block; width: $tile_side; height: $tile_side; }
figcaption { padding: 8px 10px 10px; font-size: 13px; line-height: 1.45; color: var(--faint); font-variant-numeric: tabular-nums; }
figcaption b { color: var(--ink); font-size: 15px; font-weight: 600; }
code { font: inherit; white-space: nowrap; }
h2 .faint { margin-left: 10px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; font-size: 13px; color: var(--faint); }
th, td { padding: 7px 18px 7px 6px; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child::before { content: ""; display: inline-block; width: 10px; height: 10px; background: var(--hue); margin-right: 9px;
  border-radius: 2px; }
"""

_PAGE = Template("""<!doctype html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
$given
<dl>$cells</dl>
<div class="top">
<div><h2>$original</h2><div class="image" style="--shape: $shape">$image$boxes</div></div>
<div><h2>$notes_title</h2><ul>$notes</ul></div>
</div>
<h2>$prompt_title</h2>
<div class="prompt">$prompt</div>
<h2>$exact <span class="faint">$hint</span></h2>
<div class="views" style="--across: $across">$views</div>
<h2>$views_title</h2>
<div class="scroll"><table>$table</table></div>
</body>
</html>
""")


def tile_page(inspection: Inspection, *, name: str = "", language: Language = "en") -> str:
    """The page as text. `name`: what the user called the image, shown under the title."""
    report = inspection.report
    shown = [name] if name else []
    if report.question is not None:
        shown.append(f"{label('question', language)}: {report.question}")
    notes = [note.text(language) for note in report.notes] or [label("nothing_lost", language)]
    if max(report.width, report.height) > _STRIP * min(report.width, report.height):
        notes.append(label("thicker", language))
    return _PAGE.substitute(
        lang="zh-Hans" if language == "zh" else "en",
        title=label("title", language),
        style=Template(_STYLE).substitute(tile_side=f"{report.tile_size}px") + _lights(report),
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
        notes="".join(f"<li>{_FLAG.sub(r'<code>\g<0></code>', escape(note))}</li>" for note in notes),
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
        f'<span class="v{view.index}" style="flex: {view.token_end - view.token_start}" tabindex="0">{view.index}</span>'
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
            f"{view.source_pixels:.3g} : 1",
            percent(view.detail_kept),
            view_span(view, language),
        )
        rows.append(f'<tr class="v{view.index}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<tr>{head}</tr>" + "".join(rows)
