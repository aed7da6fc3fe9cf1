"""A PNG contact sheet: the numbers, the image with its tiles drawn on it, the prompt, and every view pixel for pixel.

What crosses: an `Inspection` in, one RGB image out. Views are pasted unscaled, so what is on the sheet is what the model
sees, byte for byte; `view_places` says where. English only, since the font that Pillow carries has no Chinese. It draws
numbers that others computed and computes none but positions.
"""

from __future__ import annotations

from functools import cache

from PIL import Image, ImageDraw, ImageFont

from .report import Inspection, TileReport, ViewReport
from .words import label, stretch_words

MARGIN, GAP, CONTENT = 48, 24, 1216
WIDTH = CONTENT + 2 * MARGIN
CAPTION = 62  # height of the three lines under a view
TOP_BAR = 6  # colour bar on a view, and the room under it

INK, FAINT, LINE, PAPER, PANEL = "#1c1f24", "#6b7280", "#d5d8de", "#fbfbf9", "#f1f1ee"
GLOBAL_COLOUR = "#3b4252"
#: One colour a tile, told apart on paper and by most colour-blind eyes; the tile's number always stands beside it.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a6569c", "#c79100", "#3f97d1", "#8c3b1f", "#5f7a00", "#c2416f")

_HEADER, _IMAGE_TOP, _IMAGE_BOX, _SHORTEST = 150, 184, (724, 420), 108


def colour_of(view: ViewReport) -> str:
    """The colour that stands for this view on the sheet and on the page."""
    return GLOBAL_COLOUR if view.is_global else COLOURS[(view.index - 1) % len(COLOURS)]


def contact_sheet(inspection: Inspection) -> Image.Image:
    """The sheet as an RGB image, `WIDTH` wide and as tall as it needs."""
    report = inspection.report
    drawn = _drawn_image(inspection)
    places = view_places(report)
    sheet = Image.new("RGB", (WIDTH, places[-1][1] + report.tile_size + CAPTION + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, report)
    sheet.paste(drawn, (MARGIN, _IMAGE_TOP))
    _draw_notes(draw, report, _drawn_scale(report))
    _draw_prompt(draw, report, _prompt_top(report))
    _heading(draw, (MARGIN, places[0][1] - TOP_BAR - 30), label("exact", "en"))
    for view, pixels, place in zip(report.views, inspection.views, places, strict=True):
        _draw_view(sheet, draw, view, pixels, place)
    return sheet


def view_places(report: TileReport) -> list[tuple[int, int]]:
    """Left and top of every view on the sheet: the tiles as they lie in their grid, or in rows when that would not fit."""
    step_x, step_y = report.tile_size + GAP, report.tile_size + CAPTION + GAP
    across = (CONTENT + GAP) // step_x
    in_grid = 1 < report.columns < across and report.rows <= 4
    places = []
    for view in report.views:
        if in_grid and view.row is not None and view.column is not None:
            row, column = view.row, view.column + 1
        else:
            row, column = divmod(view.index, across)
        places.append((MARGIN + column * step_x, _prompt_top(report) + 118 + row * step_y))
    return places


def _prompt_top(report: TileReport) -> int:
    _, _, height = _drawn_scale(report)
    notes = sum(len(lines) * 20 + 10 for lines in _note_lines(report))
    return _IMAGE_TOP + max(height, 38 + notes) + 34


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str = INK) -> None:
    draw.text(place, text, font=_font(size), fill=colour)


def _heading(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str) -> None:
    _text(draw, place, text, 16, FAINT)


# Header ---------------------------------------------------------------------------------------------------------------


def _draw_header(draw: ImageDraw.ImageDraw, report: TileReport) -> None:
    _text(draw, (MARGIN, 32), label("title", "en"), 30)
    cells = header_cells(report)
    width = CONTENT / len(cells)
    for number, (name, value, detail) in enumerate(cells):
        left = MARGIN + number * width
        if number:
            draw.line([(left - 14, 92), (left - 14, _HEADER)], fill=LINE)
        _text(draw, (left, 88), name, 13, FAINT)
        _text(draw, (left, 106), value, 22)
        _text(draw, (left, 134), detail, 13, FAINT)


def header_cells(report: TileReport) -> list[tuple[str, str, str]]:
    """The line of numbers: name, value, and what stands small below it."""
    finest = report.finest
    share = "" if report.context_share is None else f"{report.context_share:.1%} of {report.context:,}"
    stretch = f"x{finest.stretch_x:.3g} across, x{finest.stretch_y:.3g} down"
    return [
        ("Image", f"{report.width} x {report.height}", f"{report.format or 'image'}, {report.mode}"),
        ("Grid", f"{report.rows} x {report.columns}", f"rows x columns, {report.orientation}"),
        ("Views", f"{len(report.views)}", "the global view alone" if len(report.views) == 1 else "global view and tiles"),
        ("Image tokens", f"{report.image_tokens:,}", share or f"{report.tokens_per_view} a view"),
        ("Aspect error", f"{finest.aspect_error:.3g}", stretch),
        ("Detail kept", f"{report.detail_kept:.1%}", f"{report.pixels_lost:,} pixels lost"),
    ]


# The image with its tiles ---------------------------------------------------------------------------------------------


def _drawn_scale(report: TileReport) -> tuple[float, int, int]:
    """How much taller or wider than true the image is drawn (1.0 for all but thin strips), and its size on the sheet."""
    scale = min(_IMAGE_BOX[0] / report.width, _IMAGE_BOX[1] / report.height)
    width, height = max(1, round(report.width * scale)), max(1, round(report.height * scale))
    short = min(width, height)
    if short >= _SHORTEST:
        return 1.0, width, height
    return _SHORTEST / short, max(width, _SHORTEST), max(height, _SHORTEST)


def _drawn_image(inspection: Inspection) -> Image.Image:
    report = inspection.report
    _, width, height = _drawn_scale(report)
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
    if size >= 9 and right - left > size + 8:
        number = str(view.index)
        draw.rectangle((left + 1, top + 1, left + size + 6, top + size + 4), fill=colour_of(view))
        draw.text((left + 3 + size / 2, top + 3 + size / 2), number, font=_font(size), fill="white", anchor="mm")


# Notes, prompt, views -------------------------------------------------------------------------------------------------


def _note_lines(report: TileReport) -> list[list[str]]:
    taller, width, height = _drawn_scale(report)
    notes = [note.text("en") for note in report.notes] or ["Nothing is lost: every pixel reaches the model true to shape."]
    if taller != 1.0:
        notes.append(f"The strip is drawn x{taller:.3g} thicker than it is, so that its tiles can be seen.")
    room = CONTENT - _IMAGE_BOX[0] - 2 * GAP
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


def _draw_notes(draw: ImageDraw.ImageDraw, report: TileReport, drawn: tuple[float, int, int]) -> None:
    left, top = MARGIN + _IMAGE_BOX[0] + 2 * GAP, _IMAGE_TOP
    _heading(draw, (left, top - 2), label("notes", "en"))
    top += 30
    for lines in _note_lines(report):
        draw.line([(left - 12, top + 2), (left - 12, top + len(lines) * 20 - 2)], fill=LINE, width=3)
        for line in lines:
            _text(draw, (left, top), line, 15)
            top += 20
        top += 10


def _draw_prompt(draw: ImageDraw.ImageDraw, report: TileReport, top: int) -> None:
    """The prompt as a bar: one coloured piece a view, grey for text, all to scale."""
    scale = CONTENT / report.prompt_tokens
    _heading(draw, (MARGIN, top), f"{label('prompt', 'en')}: {report.prompt_tokens:,} tokens, grey is text")
    draw.rectangle((MARGIN, top + 26, MARGIN + CONTENT, top + 50), fill=LINE)
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
    name = "global view" if view.is_global else view.role
    _text(draw, (left, below), f"{view.index}", 16, colour_of(view))
    _text(draw, (left + 18, below), name, 16)
    stretch = f"x{view.stretch_x:.3g}, x{view.stretch_y:.3g}"
    draw.text((left + pixels.width, below + 3), stretch, font=_font(13), fill=FAINT, anchor="ra")
    _text(draw, (left, below + 21), f"tokens {view.token_start:,} to {view.token_end - 1:,}", 13, FAINT)
    corners = f"x {view.left:.0f} to {view.right:.0f}, y {view.top:.0f} to {view.bottom:.0f}"
    _text(draw, (left, below + 37), corners, 13, FAINT)


__all__ = ["colour_of", "contact_sheet", "header_cells", "stretch_words", "view_places"]
