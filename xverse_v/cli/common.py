"""What every verb shares: flags that read the same everywhere, and the only ways to print.

A verb parses, calls and prints. Results go to stdout (`show`, `show_json`), everything else to stderr (`note`). A verb
raises `XverseError` and never prints it: `cli.main` does, through `print_error`. This file knows no model and imports
neither torch nor transformers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xverse_v.errors import XverseError, error, user_language

if TYPE_CHECKING:
    from PIL.Image import Image

    from xverse_v.inference.assistant import Assistant
    from xverse_v.inference.sampling import SamplingOptions

_SAMPLING = "Sampling (default: the model's own profile)"
_IMAGES = "Images"
_COMPUTING = "Computing"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for programs.")]
Model = Annotated[
    str,
    typer.Option("--model", metavar="nano|FOLDER", help="The built-in model, or a folder made by xverse-v convert."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda:N|mps",
        help="Where to compute. Default: a GPU if there is one.",
        rich_help_panel=_COMPUTING,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|bfloat16|float16",
        help="Number format. Default: what suits the weights and the device.",
        rich_help_panel=_COMPUTING,
    ),
]
Quantise = Annotated[
    str | None,
    typer.Option(
        "--quantise",
        metavar="int8|int4",
        help="Store the decoder's linears in so many bits, where that is faster here. Which kernel runs is said.",
        rich_help_panel=_COMPUTING,
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="System text in front of everything. Default: none."),
]
Page = Annotated[
    int | None,
    typer.Option(
        "--page", metavar="N", help="The images are PDF files: use page N (the first is 1).", rich_help_panel=_IMAGES
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="HOST",
        help="Fetch https addresses from this host (*.example.com: any below it). Repeatable. Without it nothing is "
        "fetched.",
        rich_help_panel=_IMAGES,
    ),
]
MaxTiles = Annotated[
    int | None,
    typer.Option(
        "--max-tiles",
        metavar="N",
        help="Most tiles an image is cut into; fewer are faster. Default: the model's own, 9 as released.",
        rich_help_panel=_IMAGES,
    ),
]
Detail = Annotated[
    Literal["low", "auto", "high"],
    typer.Option(
        "--detail",
        help="low: the global view alone, as --max-tiles 1. auto, high: as many tiles as --max-tiles allows.",
        rich_help_panel=_IMAGES,
    ),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        help="Longest answer, in tokens. It is said when one ends there.",
        rich_help_panel=_SAMPLING,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        help="0: always the likeliest token. Above: draw, more freely the higher.",
        rich_help_panel=_SAMPLING,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Draw from the likeliest tokens that sum to this probability.",
        rich_help_panel=_SAMPLING,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", metavar="K", help="Draw from the K likeliest tokens; 0 keeps all.", rich_help_panel=_SAMPLING
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        metavar="R",
        help="Above 1: make tokens the answer has already rarer.",
        rich_help_panel=_SAMPLING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Same seed, same draws. Without a temperature it changes nothing.",
        rich_help_panel=_SAMPLING,
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop",
        metavar="TEXT",
        help="End the answer before this text; may be given again.",
        rich_help_panel=_SAMPLING,
    ),
]
Logprobs = Annotated[
    int | None,
    typer.Option(
        "--logprobs",
        metavar="N",
        help="Also tell each token's log-probability and the N likeliest in its place.",
        rich_help_panel=_SAMPLING,
    ),
]


def given_options(
    *,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
    stop: list[str] | None = None,
    logprobs: int | None = None,
) -> SamplingOptions:
    """The sampling flags that were given; the others stay what the model's profile says."""
    options: SamplingOptions = {}
    if max_new_tokens is not None:
        options["max_new_tokens"] = max_new_tokens
    if temperature is not None:
        options["temperature"] = temperature
    if top_p is not None:
        options["top_p"] = top_p
    if top_k is not None:
        options["top_k"] = top_k
    if repetition_penalty is not None:
        options["repetition_penalty"] = repetition_penalty
    if seed is not None:
        options["seed"] = seed
    if stop:
        options["stop"] = tuple(stop)
    if logprobs is not None:
        options["logprobs"] = logprobs
    return options


def load_assistant(model: str, device: str | None, dtype: str | None, quantise: str | None = None) -> Assistant:
    """The model, ready to ask. Says on a terminal that it is loading, because a large one takes its time; and of
    quantised weights which kernel runs them, and why."""
    said: list[str] = []
    with passing_note(f"loading {model} ..."):
        from xverse_v.inference.loading import load

        assistant = load(
            model,
            device=device,
            dtype=dtype or "auto",
            quantise=quantise,
            on_quantised=lambda report: said.append(report.text()),
        )
    for text in said:
        note(text)
    return assistant


def read_stdin_image() -> bytes:
    """The bytes piped in for the image "-", at most one more than an image may have. Raises E803 without any."""
    if sys.stdin.isatty():
        raise error("E803", state="is a terminal", state_zh="是终端")
    from xverse_v.media import DEFAULT_LIMITS

    data = sys.stdin.buffer.read(DEFAULT_LIMITS.max_bytes + 1)
    if not data:
        raise error("E803", state="is empty", state_zh="为空")
    return data


def opened(image: str, page: int | None, hosts: list[str] | None) -> Image | str | bytes:
    """The image an argument means: "-" from standard input, a page of a PDF, an https address of an allowed host, or
    the name as it is, for the media door to open. Raises E5xx and E803."""
    source = read_stdin_image() if image == "-" else image
    if page is None and not hosts:
        return source
    from xverse_v.media import RemotePolicy, open_image
    from xverse_v.media.pdf import open_pdf_page

    remote = RemotePolicy(tuple(hosts)) if hosts else None
    if page is not None:
        return open_pdf_page(source, page, remote=remote)
    return open_image(source, remote=remote)


def show(text: str = "") -> None:
    """A line of the result, on stdout."""
    print(text, flush=True)


def show_piece(text: str) -> None:
    """A piece of a streamed result, on stdout, without a line end."""
    print(text, end="", flush=True)


def show_json(document: Mapping[str, Any] | list[Any]) -> None:
    """The whole result as one JSON document on stdout; text stays readable (no ASCII escapes)."""
    print(json.dumps(document, ensure_ascii=False, indent=2), flush=True)


def note(text: str = "") -> None:
    """A line for the person watching, on stderr: progress, receipts, warnings."""
    print(text, file=sys.stderr, flush=True)


def say(english: str, chinese: str) -> str:
    """The text in the user's language."""
    return chinese if user_language() == "zh" else english


def for_terminal(text: str) -> str:
    """A model's text as a terminal may have it: no control characters (escape sequences) but line end and tab."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)


@contextmanager
def passing_note(text: str) -> Iterator[None]:
    """A note that disappears when the work below it is done; nothing at all when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def print_error(problem: XverseError, *, as_json: bool) -> None:
    """Three lines on stderr: code and fact, cause, next command. With `as_json` also `{"error": ...}` on stdout."""
    if as_json:
        show_json({"error": problem.as_dict()})
    fact, *rest = problem.text().split("\n")
    typer.secho(fact, fg=typer.colors.RED, err=True)
    for line in rest:
        note(line)
