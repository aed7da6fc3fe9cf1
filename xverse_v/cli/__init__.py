"""The command `xverse-v`: one Typer app, one file a verb.

This file gathers the verbs, reads the flags that hold for all of them (`--lang`, `--debug`, `--version`) and is the one
place where an error becomes text and an exit code: 0 done, 1 failed, 2 used wrongly, 130 stopped by Ctrl-C. Importing
it, and so `--help`, loads neither torch nor transformers; the verbs do that when they run.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from inspect import getdoc
from typing import Annotated, cast

import typer

from xverse_v.errors import LANGUAGE_VARIABLE, XverseError, error

from . import ask, batch, chat, convert, data, explain, inspect, plan, tiles, train, verify
from .common import print_error, show
from .demo import demo
from .eval import evaluation
from .export_gguf import exporting
from .serve import serve
from .speed import speed
from .version import versions

PROGRAM = "xverse-v"
INTERRUPTED = 130

LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch's own switch: memory in pages of 2 MB, a twentieth off the first token (docs/speed.md, Experiments)."""

# Typer brings its own copy of click from 0.26 on and used the package before; this is the one class that both have in a
# public place below which every mistake on the command line lies.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])

app = typer.Typer(
    name=PROGRAM,
    help="Ask an image a question. Everything runs on this machine; nothing is downloaded.",
    epilog='Start here: xverse-v ask IMAGE "QUESTION"',
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _help_text(verb: Callable[..., None]) -> str:
    """A docstring with each paragraph on one line, for the window to wrap; one that begins with \\b keeps its lines."""
    paragraphs = (getdoc(verb) or "").split("\n\n")
    return "\n\n".join(p if p.startswith("\b") else p.replace("\n", " ") for p in paragraphs)


_VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Ask": (ask.ask, chat.chat, batch.batch, tiles.tiles),
    "Serve": (serve, demo),
    "Weights": (convert.convert, inspect.inspect, verify.verify, plan.plan),
    "Training": (train.train,),
    "Help": (explain.explain,),
}
for _panel, _verbs in _VERBS.items():
    for _verb in _verbs:
        app.command(rich_help_panel=_panel, help=_help_text(_verb))(_verb)


app.add_typer(exporting, name="export", rich_help_panel="Training")
app.add_typer(data.data, name="data", rich_help_panel="Training")
app.add_typer(evaluation, name="eval", rich_help_panel="Measure")
app.add_typer(speed, name="speed", rich_help_panel="Measure")


def _print_versions(wanted: bool) -> None:
    if wanted:
        for name, number in versions().items():
            show(f"{name} {number}")
        raise typer.Exit


@app.callback()
def options(
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang", metavar="en|zh", help=f"Language of messages; the variable {LANGUAGE_VARIABLE} does the same."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_versions, is_eager=True, help="Show the versions of all that computes."
        ),
    ] = False,
) -> None:
    """`main` has moved these flags here from wherever they stood; `--debug` and `--version` have done their work."""
    if lang is not None:
        if lang not in ("en", "zh"):
            raise error("E806", language=repr(lang))
        os.environ[LANGUAGE_VARIABLE] = lang


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. `arguments` are those after the program's name; None takes them from
    the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process is ours; torch reads it once, when a verb loads it
        os.environ.setdefault(LARGE_PAGES, "1")
    flags = given[: given.index("--")] if "--" in given else given
    as_json, debug = "--json" in flags, "--debug" in flags
    try:
        code = app(_global_flags_first(given) or ["--help"], prog_name=PROGRAM, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):  # newer Typers return 130 themselves
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left, as `head` does; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as problem:
        if debug:
            traceback.print_exc()
        known = _as_error(problem)
        print_error(known, as_json=as_json)
        return known.exit_code


def _as_error(problem: Exception) -> XverseError:
    """Any failure as one with a code: our own as it is, a mistake on the command line, else a bug of ours."""
    if isinstance(problem, XverseError):
        return problem
    if isinstance(problem, UsageError):
        context = getattr(problem, "ctx", None)
        command = context.command_path if context else PROGRAM
        return error("E801", message=problem.format_message(), command=command)
    return error("E800", type=type(problem).__name__, message=str(problem) or "-")


def _global_flags_first(arguments: Sequence[str]) -> list[str]:
    """`ask a.png "What?" --debug` as `--debug ask a.png "What?"`: these flags may stand anywhere before a bare `--`."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            return [*front, *rest, argument, *waiting]
        if argument == "--lang":
            front += [argument, *[value for value in [next(waiting, None)] if value is not None]]
        elif argument == "--debug" or argument.startswith("--lang="):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest
