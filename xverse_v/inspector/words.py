"""The inspector's words in English and Chinese: notes, and the labels of the page and the table.

Words only; it knows the numbers' names and nothing of where they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import Language
from .report import TileReport, ViewReport

_NOTES: dict[str, dict[Language, str]] = {
    "transposed": {
        "en": "The release grid is transposed: this {width}x{height} image is {x_words} across and {y_words} down, "
        "so shapes come out {shape_words}. --grid upright shows the other way (aspect error {upright_error:.3g}).",
        "zh": "release 网格是转置的：这张 {width}x{height} 的图像横向{x_words}、纵向{y_words}，"
        "形状因此{shape_words}。--grid upright 可查看另一种方式（长宽比误差 {upright_error:.3g}）。",
    },
    "stretched": {
        "en": "To fill whole tiles this {width}x{height} image is {x_words} across and {y_words} down, "
        "so shapes come out {shape_words}.",
        "zh": "为填满整块图块，这张 {width}x{height} 的图像横向{x_words}、纵向{y_words}，形状因此{shape_words}。",
    },
    "global_only": {
        "en": "The grid is 1x1: the global view alone is sent, the whole image in {tile_size}x{tile_size} pixels.",
        "zh": "网格为 1x1：只发送全局视图，整张图像缩成 {tile_size}x{tile_size} 像素。",
    },
    "capped": {
        "en": "Full detail would take {wanted} tiles ({across} across, {down} down); the limit is {max_tiles}.",
        "zh": "保留全部细节需要 {wanted} 个图块（横 {across} 个，纵 {down} 个）；上限是 {max_tiles} 个。",
    },
    "lost": {
        "en": "{lost:,} of {pixels:,} pixels are thrown away by shrinking; {percent} of the detail is left.",
        "zh": "缩小丢弃了 {pixels:,} 个像素中的 {lost:,} 个；细节保留 {percent}。",
    },
    "enlarged": {
        "en": "The image is smaller than its tiles and was enlarged x{x:.3g} across and x{y:.3g} down; "
        "that adds no detail.",
        "zh": "图像比图块小，横向放大 x{x:.3g}，纵向放大 x{y:.3g}；这不会增加细节。",
    },
    "too_long": {
        "en": "The prompt has {prompt:,} tokens and the model takes {context:,}: it would be refused. "
        "--max-tiles makes the image shorter.",
        "zh": "提示共 {prompt:,} 个 token，模型最多接受 {context:,} 个：会被拒绝。可用 --max-tiles 减少图像 token。",
    },
    "turned": {
        "en": "Turned as its EXIF tag asks (orientation {exif}).",
        "zh": "已按 EXIF 标记旋转（方向 {exif}）。",
    },
    "turn_ignored": {
        "en": "Its EXIF tag asks for a turn (orientation {exif}), which this model does not apply: "
        "the image is seen as it is stored.",
        "zh": "EXIF 标记要求旋转（方向 {exif}），但此模型不应用它：按存储的样子看图。",
    },
    "exif_unreadable": {
        "en": "Its EXIF data is damaged; any turn it asks for is unknown.",
        "zh": "EXIF 数据已损坏；其中要求的旋转无从得知。",
    },
    "first_frame": {
        "en": "The file holds {frames} frames or pages; only the first is used.",
        "zh": "文件有 {frames} 帧或页；只使用第一个。",
    },
    "transparent": {
        "en": "Transparent pixels ({mode}) are laid on {background}.",
        "zh": "透明像素（{mode}）以 {background} 为底色。",
    },
    "converted": {
        "en": "Converted from {mode} to 8-bit RGB.",
        "zh": "已从 {mode} 转换为 8 位 RGB。",
    },
}

#: Labels of the page and the table, by name.
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
        "en": "Nothing is lost: every pixel reaches the model true to shape.",
        "zh": "没有损失：每个像素都原样到达模型。",
    },
    "thicker": {
        "en": "The strip is drawn x{factor:.3g} thicker than it is, so that its tiles can be seen.",
        "zh": "为看清图块，细长图像画得比实际粗 x{factor:.3g}。",
    },
    "detail": {"en": "Detail kept", "zh": "保留细节"},
    "aspect": {"en": "Aspect error", "zh": "长宽比误差"},
    "stretch": {"en": "Stretch", "zh": "拉伸"},
    "source": {"en": "Source rectangle", "zh": "来源区域"},
    "view": {"en": "View", "zh": "视图"},
    "global": {"en": "global", "zh": "全局"},
    "tile": {"en": "tile {row},{column}", "zh": "图块 {row},{column}"},
    "tokens": {"en": "Tokens", "zh": "token"},
    "source_pixels": {"en": "Pixels merged", "zh": "合并像素"},
    "file": {"en": "{format}, {mode}", "zh": "{format}，{mode}"},
    "original": {"en": "The image, with the tiles on it", "zh": "图像及图块位置"},
    "exact": {"en": "Every view, in the order of the prompt, pixel for pixel", "zh": "所有视图，按提示中的次序，逐像素显示"},
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


@dataclass(frozen=True)
class Note:
    """One remark: its `kind` for programs, the numbers that fill it, and its words."""

    kind: str
    facts: dict[str, Any]

    def text(self, language: Language = "en") -> str:
        words = {}
        if "x" in self.facts:
            x, y = self.facts["x"], self.facts["y"]
            words = {"x_words": stretch_words(x, language), "y_words": stretch_words(y, language)}
            words["shape_words"] = shape_words(x, y, language)
        if "kept" in self.facts:
            words["percent"] = percent(self.facts["kept"])
        return _NOTES[self.kind][language].format(**self.facts, **words)


def percent(share: float) -> str:
    """Three digits: `66.7%`, `1.12%`, `100%`."""
    return f"{share * 100:.3g}%" if share < 9.995 else f"{share * 100:.0f}%"


def shape_words(x: float, y: float, language: Language) -> str:
    """`2.25 times too tall` or `... too wide`, of an image stretched by these factors."""
    factor = f"{max(x / y, y / x):.3g}"
    if language == "zh":
        return f"{'过高' if y > x else '过宽'}至 {factor} 倍"
    return f"{factor} times too {'tall' if y > x else 'wide'}"


def stretch_words(factor: float, language: Language) -> str:
    """`squeezed x0.667`, `stretched x1.5`, or that nothing happened."""
    rounded = f"{factor:.3g}"
    if rounded == "1":
        return "unchanged" if language == "en" else "不变"
    if language == "zh":
        return f"压缩 x{rounded}" if factor < 1 else f"拉伸 x{rounded}"
    return f"squeezed x{rounded}" if factor < 1 else f"stretched x{rounded}"


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
    kind = label("file", language, format=report.format or label("image", language), mode=report.mode)
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
