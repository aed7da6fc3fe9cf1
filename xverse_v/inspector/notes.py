"""The inspector's remarks: what happened to an image on its way in, each a kind for programs and a sentence for people.

Words and the numbers that fill them; it knows nothing of where the numbers come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import Language

_NOTES: dict[str, dict[Language, str]] = {
    "transposed": {
        "en": "The release grid is transposed: this {width}x{height} image is {x_words} across and {y_words} down, "
        "so shapes come out {shape_words}. --grid upright shows the other way (aspect error {upright_error:.3g}).",
        "zh": "release 网格是转置的：这张 {width}x{height} 的图像横向{x_words}、纵向{y_words}，"
        "形状因此{shape_words}。--grid upright 可查看另一种方式（长宽比误差 {upright_error:.3g}）。",
    },
    "stretched": {
        "en": "To fit square views this {width}x{height} image is {x_words} across and {y_words} down, "
        "so shapes come out {shape_words}.",
        "zh": "为放进正方形视图，这张 {width}x{height} 的图像横向{x_words}、纵向{y_words}，形状因此{shape_words}。",
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


def ratio(source_pixels: float) -> str:
    """Image pixels to view pixels: `6:1` where pixels were merged, `1:4` where they were repeated."""
    if source_pixels < 0.9995:
        return f"1:{_three_digits(1 / source_pixels)}"
    return f"{_three_digits(source_pixels)}:1"


def _three_digits(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


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
