"""The line under the chat: what is happening, what it took, and errors with their code. Facts in, escaped HTML out."""

from __future__ import annotations

from html import escape

from xverse_v.errors import Language, XverseError
from xverse_v.inference.answer import Answer

from .texts import text


def line(name: str, language: Language, **facts: int) -> str:
    """One of the texts as a status line; "…" at its end is drawn as moving."""
    words = escape(text(name, language, **facts))
    kind = "xv-busy" if words.endswith("…") else "xv-note"
    return f'<div class="xv-status {kind}" role="status">{words}</div>'


def done_line(answer: Answer, language: Language, *, same: bool) -> str:
    """What a finished answer took; ``same``: a retry gave the same text."""
    receipt, spent = answer.receipt, answer.receipt.milliseconds
    words = text(
        "done",
        language,
        tokens=receipt.completion_tokens,
        seconds=(spent.images + spent.vision + spent.prefill + spent.decode) / 1000,
        prompt=receipt.prompt_tokens,
        cached=receipt.cached_tokens,
    )
    again = f"<br>{escape(text('same', language))}" if same and receipt.settings.greedy else ""
    return f'<div class="xv-status xv-note" role="status">{escape(words)}{again}</div>'


def remark(answer: Answer, language: Language) -> str:
    """Plain text that is said behind an answer which is not simply whole: cut, stopped or empty. Else nothing."""
    if answer.finish_reason == "cancelled":
        return text("end_cancelled", language)
    if answer.finish_reason == "length":
        return text("end_length", language, tokens=answer.receipt.completion_tokens)
    return "" if answer.text.strip() else text("empty", language)


def error_box(problem: XverseError, language: Language) -> str:
    """An error's three lines: code and fact, cause, what to do."""
    parts = problem.parts(language)
    rest = f"<p>{escape(parts['cause'])}</p><p>{escape(parts['next'])}</p>"
    return (
        f'<div class="xv-error" role="alert"><p><b>{escape(problem.code)}</b> {escape(parts["fact"])}</p>{rest}</div>'
    )
