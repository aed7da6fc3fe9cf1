"""A PNG contact sheet: the numbers, the image with its tiles drawn on it, the prompt, and every view pixel for pixel.

What crosses: an `Inspection` in, one RGB image out. Views are pasted unscaled, so what is on the sheet is what the
model sees, byte for byte; `view_places` says where. English only, since the font that Pillow carries has no Chinese.
It draws numbers that others computed and computes none but positions.
"""

from __future__ import annotations

from functools import cache

from PIL import Image, ImageDraw, ImageFont

from .report import Inspection, TileReport, ViewReport
from .words import header_cells, label, view_corners, view_name, view_span

MARGIN, GAP = 48, 24
CAPTION = 62  # height of the three lines under a view
TOP_BAR = 6  # colour bar on a view, and the room under it
NARROWEST, MOST_ACROSS = 968, 5  # the header's six numbers need that width; five views side by side are enough

INK, FAINT, LINE, PAPER = "#1c1f24", "#666d78", "#d5d8de", "#fbfbf9"
GLOBAL_COLOUR = "#4c566a"
#: One colour a tile, told apart on paper and by most colour-blind eyes; the tile's number always stands beside it.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a6569c", "#b88600", "#3f97d1", "#8c3b1f", "#5f7a00", "#c2416f")

_HEADER_TOP, _HEADER_BOTTOM, _IMAGE_TOP = 90, 154, 188
_NOTES_NARROWEST, _IMAGE_TALLEST, _THINNEST = 320, 420, 108


def colour_of(view: ViewReport) -> str:
    """The colour that stands for this view on the sheet and on the page."""
    return GLOBAL_COLOUR if view.is_global else COLOURS[(view.index - 1) % len(COLOURS)]


def lies_in_grid(report: TileReport) -> bool:
    """Whether tiles are shown as they lie in their grid, the global view to their left; long grids stand in rows."""
    return 1 < report.columns < MOST_ACROSS and report.rows < MOST_ACROSS


def contact_sheet(inspection: Inspection) -> Image.Image:
    """The sheet as an RGB image; its size follows from the grid and the notes."""
    report = inspection.report
    places = view_places(report)
    height = max(top for _, top in places) + report.tile_size + CAPTION + MARGIN
    sheet = Image.new("RGB", (_content(report) + 2 * MARGIN, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, report)
    sheet.paste(_drawn_image(inspection), (MARGIN, _IMAGE_TOP))
    _draw_notes(draw, report)
    _draw_prompt(draw, report)
    _heading(draw, (MARGIN, places[0][1] - TOP_BAR - 30), label("exact", "en"))
    for view, pixels, place in zip(report.views, inspection.views, places, strict=True):
        _draw_view(sheet, draw, view, pixels, place)
    return sheet


def view_places(report: TileReport) -> list[tuple[int, int]]:
    """Left and top of every view on the sheet, in pixels."""
    step_x, step_y = report.tile_size + GAP, report.tile_size + CAPTION + GAP
    top = _prompt_top(report) + 118
    places = []
    for view in report.views:
        row, column = divmod(view.index, MOST_ACROSS)
        if lies_in_grid(report) and view.row is not None and view.column is not None:
            row, column = view.row, view.column + 1
        places.append((MARGIN + column * step_x, top + row * step_y))
    return places


def _content(report: TileReport) -> int:
    """Width of the sheet without its margins."""
    across = report.columns + 1 if lies_in_grid(report) else min(MOST_ACROSS, len(report.views))
    return max(NARROWEST, across * (report.tile_size + GAP) - GAP)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str = INK) -> None:
    draw.text(place, text, font=_font(size), fill=colour)


def _heading(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str) -> None:
    _text(draw, place, text, 16, FAINT)


def _draw_header(draw: ImageDraw.ImageDraw, report: TileReport) -> None:
    _text(draw, (MARGIN, 32), label("title", "en"), 30)
    cells = header_cells(report, "en")
    small, large = _font(13), _font(23)
    widths = [
        max(small.getlength(cell.name), large.getlength(cell.value), small.getlength(cell.remark)) for cell in cells
    ]
    between = (_content(report) - sum(widths)) / (len(cells) - 1)
    left = float(MARGIN)
    for number, cell in enumerate(cells):
        if number:
            draw.line([(left - between / 2, _HEADER_TOP + 2), (left - between / 2, _HEADER_BOTTOM)], fill=LINE)
        _text(draw, (left, _HEADER_TOP), cell.name, 13, FAINT)
        _text(draw, (left, _HEADER_TOP + 18), cell.value, 23)
        _text(draw, (left, _HEADER_TOP + 48), cell.remark, 13, FAINT)
        left += widths[number] + between


# The image with its tiles ---------------------------------------------------------------------------------------------


def _drawn_size(report: TileReport) -> tuple[int, int]:
    """Width and height of the image on the sheet: true to shape, but no thinner than its tiles' outlines need."""
    widest = _content(report) - _NOTES_NARROWEST - 3 * GAP
    scale = min(widest / report.width, _IMAGE_TALLEST / report.height)
    return max(_THINNEST, round(report.width * scale)), max(_THINNEST, round(report.height * scale))


def _drawn_image(inspection: Inspection) -> Image.Image:
    report = inspection.report
    width, height = _drawn_size(report)
    drawn = inspection.image.resize((width, height), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((0, 0, width - 1, height - 1), outline=GLOBAL_COLOUR)
    for view in report.views:
        if not view.is_global:
            _draw_rectangle(draw, view, width / report.width, height / report.height)
    return drawn


def _draw_rectangle(draw: ImageDraw.ImageDraw, view: ViewReport, scale_x: float, scale_y: float) -> None:
    left, top = round(view.left * scale_x), round(view.top * scale_y)
    right, bottom = round(view.right * scale_x) - 1, round(view.bottom * scale_y) - 1
    draw.rectangle((left, top, right, bottom), outline="white", width=1)
    draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=colour_of(view), width=2)
    size = min(15, bottom - top - 3)
    if size >= 8:
        draw.rectangle((left + 1, top + 1, left + size + 6, top + size + 4), fill=colour_of(view))
        middle = (left + 3 + size / 2, top + 3 + size / 2)
        draw.text(middle, str(view.index), font=_font(size), fill="white", anchor="mm")


# Notes, prompt, views -------------------------------------------------------------------------------------------------


def _notes_left(report: TileReport) -> int:
    return MARGIN + _drawn_size(report)[0] + 2 * GAP


def _note_lines(report: TileReport) -> list[list[str]]:
    notes = [note.text("en") for note in report.notes] or [label("nothing_lost", "en")]
    if _THINNEST in _drawn_size(report):
        notes.append(label("thicker", "en"))
    room = min(560, MARGIN + _content(report) - _notes_left(report))
    return [_wrapped(text, room) for text in notes]


def _wrapped(text: str, room: float, size: int = 15) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(size).getlength(longer) > room and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _draw_notes(draw: ImageDraw.ImageDraw, report: TileReport) -> None:
    left, top = _notes_left(report), _IMAGE_TOP
    _heading(draw, (left, top - 3), label("notes", "en"))
    top += 30
    for lines in _note_lines(report):
        draw.line([(left - 12, top + 2), (left - 12, top + len(lines) * 20 - 2)], fill=LINE, width=3)
        for line in lines:
            _text(draw, (left, top), line, 15)
            top += 20
        top += 10


def _prompt_top(report: TileReport) -> int:
    notes = 30 + sum(len(lines) * 20 + 10 for lines in _note_lines(report))
    return _IMAGE_TOP + max(_drawn_size(report)[1], notes) + 34


def _draw_prompt(draw: ImageDraw.ImageDraw, report: TileReport) -> None:
    """The prompt as a bar: one coloured piece a view, grey for text, all to scale."""
    top, width = _prompt_top(report), _content(report)
    scale = width / report.prompt_tokens
    _heading(draw, (MARGIN, top), label("prompt", "en", tokens=report.prompt_tokens))
    draw.rectangle((MARGIN, top + 26, MARGIN + width - 1, top + 50), fill=LINE)
    for view in report.views:
        left, right = MARGIN + view.token_start * scale, MARGIN + view.token_end * scale
        draw.rectangle((left, top + 26, right - 2, top + 50), fill=colour_of(view))
        draw.text(((left + right) / 2, top + 38), str(view.index), font=_font(14), fill="white", anchor="mm")


def _draw_view(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, view: ViewReport, pixels: Image.Image, place: tuple[int, int]
) -> None:
    left, top = place
    draw.rectangle((left, top - TOP_BAR, left + pixels.width - 1, top - 3), fill=colour_of(view))
    sheet.paste(pixels, place)
    below = top + pixels.height + 7
    _text(draw, (left, below), f"{view.index}", 16, colour_of(view))
    _text(draw, (left + 18, below), view_name(view, "en"), 16)
    stretch = f"x{view.stretch_x:.3g}, x{view.stretch_y:.3g}"
    draw.text((left + pixels.width, below + 3), stretch, font=_font(13), fill=FAINT, anchor="ra")
    _text(draw, (left, below + 21), f"{label('tokens', 'en').lower()} {view_span(view, 'en')}", 13, FAINT)
    _text(draw, (left, below + 37), view_corners(view, "en"), 13, FAINT)
