"""The receipt as a text to paste into a bug report. Facts in, plain text out.

Without being asked it holds nothing a visitor wrote or showed: sizes and counts, settings, versions. Asked, it adds the
question, the answer, the system text and the digests of the images; never an image.
"""

from __future__ import annotations

from dataclasses import fields

from xverse_v.errors import Language
from xverse_v.inference.answer import ImageReceipt
from xverse_v.inference.conversation import Turn

from .confidence import share
from .texts import text


def bug_report(turn: Turn | None, turns: int, system: str | None, language: Language, *, include: bool) -> str:
    """The last of ``turns`` turns as text; English whatever the page speaks, since others will read it."""
    if turn is None:
        return text("receipt_empty", language)
    answer, receipt = turn.answer, turn.answer.receipt
    spent, settings = receipt.milliseconds, receipt.settings
    logprob = sum(token.logprob for token in answer.logprobs)
    # Stop strings are the only setting that could quote a visitor; the page has no control for them.
    chosen = ", ".join(
        f"{field.name}={getattr(settings, field.name)}" for field in fields(settings) if field.name != "stop"
    )
    lines = [
        "XVERSE-V receipt (web demo)",
        "",
        *(f"versions     {name} {number}" for name, number in [*receipt.versions.items()][:1]),
        "with         " + ", ".join(f"{name} {number}" for name, number in [*receipt.versions.items()][1:]),
        f"weights      {receipt.weights_id}, {receipt.dtype} on {receipt.device}, attention {receipt.attention}",
        f"grid         {receipt.orientation}",
        f"profile      {receipt.profile}; threads {receipt.threads}; batch {receipt.batch_size}; reuse {receipt.reuse}",
        f"settings     {chosen}",
        f"turn         {turns}; finish {answer.finish_reason}",
        f"tokens       prompt {receipt.prompt_tokens} ({receipt.cached_tokens} cached), "
        f"answer {receipt.completion_tokens}",
        *(_image_line(place, image, include) for place, image in enumerate(receipt.images, start=1)),
        f"milliseconds images {spent.images:.0f}, vision {spent.vision:.0f}, prefill {spent.prefill:.0f}, "
        f"decode {spent.decode:.0f}",
        f"confidence   whole answer {share(2.718281828459045**logprob)}",
    ]
    if include:
        lines += ["", f"system       {system!r}", f"question     {turn.text!r}", f"answer       {answer.text!r}"]
        lines += [f"token ids    {list(answer.token_ids)}"]
    return "\n".join(lines)


def _image_line(place: int, image: ImageReceipt, include: bool) -> str:
    digest = f", sha256 {image.sha256}" if include else ""
    return (
        f"image {place:<6} {image.width}x{image.height} {image.mode}, grid {image.rows}x{image.columns}, "
        f"{image.views} views, {image.tokens} tokens{digest}"
    )
