"""The evidence panel: a heat map over the image, and in words what it is and what it is not.

What crosses: measured `Evidence` and the image in, escaped HTML out. The map shows falls of log-probability on one
scale, whose end is the strongest fall, or a tenth of the probability if that is stronger: small falls stay pale.
"""

from __future__ import annotations

import math
from html import escape

from PIL import Image

from xverse_v.errors import Language
from xverse_v.inference.evidence import Evidence, PartEvidence

from .drawing import frame, image_tag, placed
from .texts import text

_LEAST_SCALE = math.log(10)
_NOTHING = 0.05  # nats; a change below five percent is no news
_DARKEST = 0.78


def heat_panel(
    evidence: Evidence | None, image: Image.Image | None, answer: str, language: Language, *, ready: bool
) -> str:
    """The panel; ``ready``: there is an answer about an image whose evidence can be measured."""
    if evidence is None or image is None:
        words = text("evidence_ready" if ready else "evidence_empty", language)
        return f'<div class="xv-panel xv-empty">{escape(words)}</div>'
    scale = max(_LEAST_SCALE, -evidence.strongest.change)
    cells = "".join(_cell(part, image, scale, language) for part in evidence.parts if part.row is not None)
    if not cells:  # one view: it is the whole image
        cells = "".join(_cell(part, image, scale, language) for part in evidence.parts)
    shown = answer if len(answer) <= 120 else answer[:119] + "…"
    sentences = [text("evidence_answer", language, answer=shown), _strongest(evidence, language)]
    sentences.append(
        text("evidence_blanked", language, factor=change_words(evidence.blanked - evidence.logprob, language))
    )
    space = "" if language == "zh" else " "
    return (
        f'<div class="xv-panel"><p class="xv-lead">{escape(sentences[0])}</p>'
        f"<p>{escape(space.join(sentences[1:]))}</p>"
        f"{frame(*image.size, image_tag(image, text('which_image', language)) + cells)}"
        f"{_legend(scale, language)}"
        f'<p class="xv-caption">{escape(_method(evidence, language))}{space}{escape(text("evidence_is", language))}</p>'
        f'<p class="xv-caption">{escape(text("evidence_not", language))}</p></div>'
    )


def factor(change: float) -> str:
    """A change of log-probability as a short factor: ÷20, ×1.3, = for none."""
    if abs(change) < _NOTHING:
        return "="
    return f"{'÷' if change < 0 else '×'}{_times(change)}"


def change_words(change: float, language: Language) -> str:
    """The same in words."""
    if abs(change) < _NOTHING:
        return text("unchanged", language)
    return text("times_less" if change < 0 else "times_more", language, factor=_times(change))


def _times(change: float) -> str:
    times = abs(change)
    if times > math.log(1e6):
        return f"10^{times / math.log(10):.0f}"
    value = math.exp(times)
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _cell(part: PartEvidence, image: Image.Image, scale: float, language: Language) -> str:
    width, height = image.size
    place = placed(part.left / width, part.top / height, part.right / width, part.bottom / height)
    strength = min(1.0, abs(part.change) / scale) * _DARKEST if abs(part.change) >= _NOTHING else 0.0
    colour = "214, 57, 32" if part.change < 0 else "33, 102, 196"
    hint = f"{_place(part, language)}: {change_words(part.change, language)} ({part.change:+.3f} nat)"
    return (
        f'<div class="xv-heat" tabindex="0" title="{escape(hint, quote=True)}" '
        f'style="{place}; background: rgba({colour}, {strength:.3f})"><span>{escape(factor(part.change))}</span></div>'
    )


def _place(part: PartEvidence, language: Language) -> str:
    if part.row is None or part.column is None:
        return text("which_image", language)
    return text("part", language, row=part.row + 1, column=part.column + 1)


def _strongest(evidence: Evidence, language: Language) -> str:
    strongest = evidence.strongest
    if strongest.change > -math.log(2):
        return text("evidence_weak", language)
    return text("evidence_strongest", language, place=_place(strongest, language), factor=_times(strongest.change))


def _method(evidence: Evidence, language: Language) -> str:
    if evidence.blank == "view":
        whole = change_words(evidence.parts[0].change, language)
        return text("evidence_view", language, factor=whole)
    if evidence.cells:
        return text("evidence_cells", language, rows=evidence.rows, columns=evidence.columns)
    return text("evidence_region", language)


def _legend(scale: float, language: Language) -> str:
    high = text("legend_high", language, factor=_times(scale))
    return (
        f'<div class="xv-legend"><span>{escape(text("legend_low", language))}</span><i></i>'
        f"<span>{escape(high)}</span></div>"
    )
