"""The confidence panel: how probable the model found the tokens it gave. Facts in, escaped HTML out."""

from __future__ import annotations

import math
import re
from html import escape

from xverse_v.errors import Language
from xverse_v.inference.answer import Answer, TokenLogprob

from .texts import text

_SURE = (0.95, 0.8, 0.5, 0.2)  # lower ends of the bands a token is coloured by, surest first
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>\Z")


def confidence_panel(answer: Answer | None, language: Language, end_ids: frozenset[int] = frozenset()) -> str:
    """Three numbers, the tokens in colour, and what it all means. ``end_ids``: tokens that ended the answer."""
    if answer is None or not answer.logprobs:
        return f'<div class="xv-panel xv-empty">{escape(text("confidence_empty", language))}</div>'
    total = sum(token.logprob for token in answer.logprobs)
    count = len(answer.logprobs)
    weakest = min(answer.logprobs, key=lambda token: token.logprob)
    cells = (
        ("typical", share(math.exp(total / count)), text("typical_note", language)),
        ("whole", share(math.exp(total)), text("whole_note", language, tokens=count)),
        ("weakest", share(math.exp(weakest.logprob)), _name(weakest.token_id, weakest.text, end_ids, language)),
    )
    numbers = "".join(
        f"<div><dt>{escape(text(name, language))}</dt><dd>{escape(value)}</dd><dd>{escape(note)}</dd></div>"
        for name, value, note in cells
    )
    tokens = "".join(_token(token, end_ids, language) for token in answer.logprobs)
    return (
        f'<div class="xv-panel"><dl class="xv-numbers">{numbers}</dl>'
        f"<h4>{escape(text('confidence_tokens', language))}</h4>"
        f'<div class="xv-tokens">{tokens}</div>'
        f'<p class="xv-caption">{escape(text("confidence_is", language))}</p></div>'
    )


def share(probability: float) -> str:
    """Three digits as a percentage; what is too small for that as one in so many."""
    if probability >= 0.001:
        return f"{probability * 100:.3g} %" if probability < 0.9995 else f"{min(probability, 0.99999) * 100:.5g} %"
    if probability < 1e-12:
        return "< 10⁻¹²"
    return f"1 : {1 / probability:,.0f}" if probability > 1e-7 else f"{probability:.1e}"


def _token(token: TokenLogprob, end_ids: frozenset[int], language: Language) -> str:
    probability = math.exp(token.logprob)
    band = next((place for place, low in enumerate(_SURE) if probability >= low), len(_SURE))
    others = [
        f"{_name(other.token_id, other.text, end_ids, language)}  {share(math.exp(other.logprob))}"
        for other in token.top
    ]
    shown = _name(token.token_id, token.text, end_ids, language)
    kind = " xv-end" if token.token_id in end_ids else ""
    hint = escape("\n".join([f"{shown}  {share(probability)}", "", *others]), quote=True)
    return f'<span class="xv-token xv-band{band}{kind}" tabindex="0" title="{hint}">{escape(shown)}</span>'


def _name(token_id: int, piece: str, end_ids: frozenset[int], language: Language) -> str:
    """A piece of the vocabulary for people: spaces as spaces, bytes as they are, the end token as a word."""
    if token_id in end_ids:
        return text("end_token", language)
    if _BYTE_PIECE.match(piece):
        return piece
    return piece.replace("▁", " ").replace("\n", "⏎") or "∅"
