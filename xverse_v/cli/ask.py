"""`xverse-v ask`: one question, one answer. Parses, calls, prints; inference/ does the work."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from xverse_v.errors import error

from .backends import Backend, Context, Gguf, load_with
from .common import (
    AllowHost,
    Detail,
    Device,
    Dtype,
    Json,
    Logprobs,
    MaxNewTokens,
    MaxTiles,
    Model,
    Page,
    Quantise,
    RepetitionPenalty,
    Seed,
    Stop,
    System,
    Temperature,
    TopK,
    TopP,
    for_terminal,
    given_options,
    note,
    opened,
    say,
    show,
    show_json,
    show_piece,
)

if TYPE_CHECKING:
    from xverse_v.inference.answer import Answer, Receipt, TokenLogprob
    from xverse_v.inference.assistant import AnswerStream
    from xverse_v.inference.conversation import TurnStream

STDIN = "-"
INTERRUPTED = 130


def ask(
    content: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|QUESTION",
            help="Image files, then the question. - reads an image from standard input; no image asks text only.",
            show_default=False,
        ),
    ],
    model: Model = "nano",
    system: System = None,
    page: Page = None,
    allow_host: AllowHost = None,
    max_tiles: MaxTiles = None,
    detail: Detail = "auto",
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
    stop: Stop = None,
    logprobs: Logprobs = None,
    device: Device = None,
    dtype: Dtype = None,
    quantise: Quantise = None,
    backend: Backend = "torch",
    gguf: Gguf = None,
    context: Context = None,
    receipt: Annotated[
        bool,
        typer.Option("--receipt", help="Tell what it took, on stderr: tiles, tokens, times, seed, weights id."),
    ] = False,
    json_: Json = False,
) -> None:
    """Ask a question about one image, several, or none.

    On a terminal the answer appears as it is made; into a pipe or file it is written whole. The answer is all that goes
    to stdout.

    \b
    Examples
      xverse-v ask cat.jpg "What is the cat doing?"
      xverse-v ask before.png after.png "What has changed?"
      cat cat.jpg | xverse-v ask - "What is in the image?"
      xverse-v ask report.pdf --page 3 "Which bar is the highest?"
      xverse-v ask cat.jpg "What is it?" --model ./xverse-v-13b --receipt
      xverse-v ask cat.jpg "A story, please." --temperature 0.8 --seed 7
      xverse-v ask cat.jpg "One word?" --json --logprobs 3
    """
    names, question = _split(content)
    images = [opened(name, page, allow_host) for name in names]
    options = given_options(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        logprobs=logprobs,
    )
    assistant = load_with(model, device, dtype, quantise, backend, gguf, context)
    with assistant.stream(*images, question, system=system, max_tiles=max_tiles, detail=detail, **options) as stream:
        answer = follow(stream, live=sys.stdout.isatty() and not json_)
    if json_:
        show_json(answer.as_dict())
    else:
        show() if sys.stdout.isatty() else show(answer.text)
        for token in answer.logprobs:
            note(logprob_line(token))
    remark(answer)
    if receipt and not json_:
        note(receipt_lines(answer.receipt))
    if answer.finish_reason == "cancelled":
        raise typer.Exit(INTERRUPTED)


def _split(content: list[str]) -> tuple[list[str], str]:
    """Images and question. Raises E103 without a question, E804 and E803 for a wrong "-"."""
    *images, question = content
    if question == STDIN or _is_file(question):
        raise error("E103", images=len(content), last=question)
    if images.count(STDIN) > 1:
        raise error("E804", count=images.count(STDIN))
    return images, question


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long or otherwise impossible as a name: it is a question
        return False


def follow(stream: AnswerStream | TurnStream, *, live: bool) -> Answer:
    """The answer, printed while it is made if `live`. The first Ctrl-C ends it and keeps its text, a second raises."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stream.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        for chunk in stream:
            if live:
                show_piece(for_terminal(chunk.text))
        return stream.answer
    finally:
        signal.signal(signal.SIGINT, before)


def remark(answer: Answer) -> None:
    """Say what the text of an answer does not show: that it was cut short, or that it is empty."""
    if answer.finish_reason == "length":
        count = len(answer.token_ids)
        note(
            say(
                f"(the answer ended at its limit of {count} tokens; a longer one: --max-new-tokens {2 * count})",
                f"（答案在 {count} 个词元的上限处结束；需要更长请用 --max-new-tokens {2 * count}）",
            )
        )
    elif answer.finish_reason == "cancelled":
        note(say("(stopped)", "（已停止）"))
    elif not answer.text:
        note(say("(the model ended its answer at once: it is empty)", "（模型立即结束了回答：答案为空）"))


def receipt_lines(receipt: Receipt) -> str:
    """A receipt for people; --json has all of it."""
    lines = [
        f"image {place}: {image.width}x{image.height} {image.mode}, grid {image.rows}x{image.columns}, "
        f"{image.views} views, {image.tokens} tokens"
        for place, image in enumerate(receipt.images, start=1)
    ]
    spent = receipt.milliseconds
    lines += [
        f"tokens: {receipt.prompt_tokens} prompt ({receipt.cached_tokens} cached), {receipt.completion_tokens} answer",
        f"milliseconds: images {spent.images:.0f}, vision {spent.vision:.0f}, prefill {spent.prefill:.0f}, "
        f"decode {spent.decode:.0f}",
        "settings: " + ", ".join(f"{name} {value}" for name, value in asdict(receipt.settings).items() if value != ()),
        f"weights: {receipt.weights_id}, {receipt.dtype} on {receipt.device}, attention {receipt.attention}, "
        f"grid {receipt.orientation}, profile {receipt.profile}, {receipt.threads} threads, "
        f"quantised {receipt.quantised}",
        "versions: " + ", ".join(f"{name} {number}" for name, number in receipt.versions.items()),
    ]
    return "\n".join(lines)


def logprob_line(token: TokenLogprob) -> str:
    """One token, its log-probability, and what else could have stood there."""
    others = ", ".join(f"{other.text!r} {other.logprob:.3f}" for other in token.top)
    return f"{token.text!r:>16} {token.logprob:8.3f}   {others}"
