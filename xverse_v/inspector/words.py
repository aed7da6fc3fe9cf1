"""The inspector's labels in English and Chinese, shared by the sheet, the page and the table.

Words only: every number comes from the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import Language
from .notes import percent
from .report import TileReport, ViewReport

LABELS: dict[str, dict[Language, str]] = {
    "title": {"en": "What the model sees", "zh": "模型看到的内容"},
    "image": {"en": "Image", "zh": "图像"},
    "grid": {"en": "Grid", "zh": "网格"},
    "views": {"en": "Views", "zh": "视图"},
    "image_tokens": {"en": "Image tokens", "zh": "图像 token"},
    "prompt_tokens": {"en": "Prompt tokens", "zh": "提示 token"},
    "of_context": {"en": "{share} of {context:,}", "zh": "占 {context:,} 的 {share}"},
    "a_view": {"en": "{tokens} a view", "zh": "每个视图 {tokens} 个"},
    "alone": {"en": "the global view alone", "zh": "只有全局视图"},
    "with_tiles": {"en": "global view and tiles", "zh": "全局视图和图块"},
    "across_down": {"en": "x{x:.3g} across, x{y:.3g} down", "zh": "横向 x{x:.3g}，纵向 x{y:.3g}"},
    "pixels_lost": {"en": "{lost:,} pixels lost", "zh": "丢弃 {lost:,} 像素"},
    "rows_by_columns": {"en": "rows x columns, {orientation}", "zh": "行 x 列，{orientation}"},
    "nothing_lost": {
        "en": "Shape and detail reach the model unchanged, or nearly so.",
        "zh": "形状和细节到达模型时没有变化，或几乎没有变化。",
    },
    "thicker": {
        "en": "The strip is drawn thicker than it is, so that its tiles can be seen.",
        "zh": "为看清图块，细长图像画得比实际粗。",
    },
    "detail": {"en": "Detail kept", "zh": "保留细节"},
    "aspect": {"en": "Aspect error", "zh": "长宽比误差"},
    "aspect_short": {"en": "Aspect", "zh": "长宽比"},
    "detail_short": {"en": "Kept", "zh": "保留"},
    "source_pixels_short": {"en": "Merged", "zh": "合并"},
    "stretch": {"en": "Stretch", "zh": "拉伸"},
    "source": {"en": "Source rectangle", "zh": "来源区域"},
    "view": {"en": "View", "zh": "视图"},
    "global": {"en": "global", "zh": "全局"},
    "tile": {"en": "tile {row},{column}", "zh": "图块 {row},{column}"},
    "tokens": {"en": "Tokens", "zh": "token"},
    "source_pixels": {"en": "Pixels merged", "zh": "合并像素"},
    "file": {"en": "{format}, {mode}", "zh": "{format}，{mode}"},
    "original": {"en": "The image, with the tiles on it", "zh": "图像及图块位置"},
    "exact": {
        "en": "Every view, in the order of the prompt, pixel for pixel",
        "zh": "所有视图，按提示中的次序，逐像素显示",
    },
    "prompt": {"en": "The prompt: {tokens:,} tokens, grey is text", "zh": "提示：{tokens:,} 个 token，灰色为文本"},
    "notes": {"en": "Notes", "zh": "说明"},
    "hint": {"en": "Point at a view, a rectangle or a token span.", "zh": "把鼠标移到视图、矩形或 token 区间上。"},
    "question": {"en": "Question", "zh": "问题"},
    "span": {"en": "{start:,} to {last:,}", "zh": "{start:,} 至 {last:,}"},
    "corners": {
        "en": "x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}",
        "zh": "x {left:.0f} 至 {right:.0f}，y {top:.0f} 至 {bottom:.0f}",
    },
}


def label(name: str, language: Language, **facts: Any) -> str:
    """One label, filled in."""
    return LABELS[name][language].format(**facts)


@dataclass(frozen=True)
class HeaderCell:
    """One number of the header line, with its name above and a remark below."""

    name: str
    value: str
    remark: str


def header_cells(report: TileReport, language: Language) -> list[HeaderCell]:
    """The six numbers that the sheet and the page open with."""
    finest = report.finest
    tokens = label("a_view", language, tokens=report.tokens_per_view)
    if report.context and report.context_share is not None:
        tokens = label("of_context", language, share=percent(report.context_share), context=report.context)
    kind = label("file", language, format=report.format, mode=report.mode) if report.format else report.mode
    rows = label("rows_by_columns", language, orientation=report.orientation)
    views = label("alone" if len(report.views) == 1 else "with_tiles", language)
    stretch = label("across_down", language, x=finest.stretch_x, y=finest.stretch_y)
    cells = (
        ("image", f"{report.width} x {report.height}", kind),
        ("grid", f"{report.rows} x {report.columns}", rows),
        ("views", f"{len(report.views)}", views),
        ("image_tokens", f"{report.image_tokens:,}", tokens),
        ("aspect", f"{finest.aspect_error:.3g}", stretch),
        ("detail", percent(report.detail_kept), label("pixels_lost", language, lost=report.pixels_lost)),
    )
    return [HeaderCell(label(name, language), value, remark) for name, value, remark in cells]


def view_name(view: ViewReport, language: Language) -> str:
    """`global` or `tile 2,1`: row and column counted from 1."""
    if view.row is None or view.column is None:
        return label("global", language)
    return label("tile", language, row=view.row + 1, column=view.column + 1)


def view_corners(view: ViewReport, language: Language) -> str:
    """The source rectangle in whole pixels of the image."""
    return label("corners", language, left=view.left, right=view.right, top=view.top, bottom=view.bottom)


def view_span(view: ViewReport, language: Language) -> str:
    """The view's first and last token."""
    return label("span", language, start=view.token_start, last=view.token_end - 1)
