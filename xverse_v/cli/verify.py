"""`xverse-v verify`: hashes, finite values, parity; or what quantised weights change. Parses, calls, prints;
weights/verify.py and inference/quantised_report.py do it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xverse_v.errors import error

from .common import Json, for_terminal, passing_note, print_error, say, show, show_json

if TYPE_CHECKING:
    from xverse_v.inference.quantised_report import Asked, QuantisedReport
    from xverse_v.weights.verify import Check

_QUANTISED = "Quantised weights"
_SHOWN = 10  # changed answers in the table; --json has all


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder made by xverse-v convert, or nano.")],
    quantised: Annotated[
        Literal["int8", "int4"] | None,
        typer.Option(
            "--quantised",
            help="Compare the model in so many bits with itself in float32: logits, perplexity, answers.",
            rich_help_panel=_QUANTISED,
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            metavar="FILE.jsonl",
            help="What to ask: lines with question, image or images, and answer if it is known. Default: of nano its "
            "own unseen questions; else examples/questions.jsonl, if it is there.",
            rich_help_panel=_QUANTISED,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="How many questions at most.", rich_help_panel=_QUANTISED)
    ] = 70,
    json_: Json = False,
) -> None:
    """Check a model folder to the last byte, and that it still computes what it computed when it was made.

    Exit code 1 if a check fails. Reads everything; memory needed is that of the largest tensor. With --quantised the
    whole model is loaded instead, twice: in float32, and with quantised weights.

    \b
    Examples
      xverse-v verify ./xverse-v-13b
      xverse-v verify nano --quantised int8
      xverse-v verify ./xverse-v-13b --quantised int4 --questions mine.jsonl --json
    """
    if quantised is not None:
        _compare(str(folder), quantised, questions, count, json_)
        return
    from xverse_v.weights.verify import verify_folder

    report = verify_folder(folder)
    if json_:
        show_json(report.as_dict())
    else:
        show_checks(report.checks)
        for problem in report.problems:
            print_error(problem, as_json=False)
        if report.passed:
            skipped = sum(check.state == "skipped" for check in report.checks)
            show(f"{folder}: nothing wrong" + (f", {skipped} checks skipped" if skipped else ""))
    if not report.passed:
        raise typer.Exit(1)


def _compare(model: str, kind: str, questions: Path | None, count: int, json_: bool) -> None:
    from xverse_v.inference.quantised_report import compare

    asked = _own_questions(count) if questions is None and model == "nano" else _from_file(questions, count)
    with passing_note(f"{kind}: {len(asked)} questions ..."):
        report = compare(model, kind, asked)
    if json_:
        show_json(report.as_dict())
    else:
        _table(report)


def _own_questions(count: int) -> list[Asked]:
    """The built-in model's benchmark: so many unseen questions, spread over its rows."""
    from xverse_v.inference.prompt import Message
    from xverse_v.inference.quantised_report import Asked
    from xverse_v.nano.items import ROWS, items

    asked = []
    for place, row in enumerate(ROWS):
        for item in items(row, count // len(ROWS) + (place < count % len(ROWS))):
            history: list[Message] = []
            images = item.images
            for question, answer in item.history:
                history += [Message("user", question, images), Message("assistant", answer)]
                images = ()
            asked.append(Asked(item.qa.question, images, item.qa.answer, tuple(history)))
    return asked


def _from_file(path: Path | None, count: int) -> list[Asked]:
    """Questions of a file, images relative to its folder. Raises E866 unless there is one at least."""
    from xverse_v.inference.quantised_report import Asked

    path = path or Path("examples/questions.jsonl")
    asked = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines()[:count] if path.is_file() else []:
            row = json.loads(line)
            names = row["images"] if "images" in row else [row["image"]]
            asked.append(Asked(row["question"], tuple(path.parent / name for name in names), row.get("answer")))
    except (ValueError, KeyError, TypeError) as problem:
        raise error("E866", path=path, found=len(asked)) from problem
    if not asked:
        raise error("E866", path=path, found=0)
    return asked


def _table(report: QuantisedReport) -> None:
    """For people, on stdout."""
    share = len(report.changed) / report.questions
    rows = [
        (say("kernel", "内核"), report.weights.text()),
        (say("questions", "问题"), f"{report.questions}, {report.positions} tokens"),
        (
            say("logit error", "logit 误差"),
            f"{report.relative_error:.2%} relative, {report.worst_error:.3g} at most, "
            f"likeliest token differs at {report.top_changed} of {report.positions}",
        ),
        (
            say("perplexity", "困惑度"),
            f"{report.perplexity_before:.4f} -> {report.perplexity_after:.4f} "
            f"({report.perplexity_after / report.perplexity_before - 1:+.2%})",
        ),
        (say("changed answers", "改变的答案"), f"{len(report.changed)} of {report.questions} ({share:.1%})"),
        (
            say("right answers", "正确的答案"),
            f"{report.right_before} -> {report.right_after} of {report.judged}" if report.judged else "-",
        ),
        (say("speed", "速度"), f"{report.weights.speedup:.2f}x of {report.weights.choices[0].plain.name}, one linear"),
    ]
    for name, text in rows:
        first, *more = text.split("\n")
        show(f"{name:16}{first}")
        for line in more:
            show(" " * 16 + line)
    for one in report.changed[:_SHOWN]:
        show(for_terminal(f"  {one.question}\n    {one.before}\n -> {one.after}"))
    if len(report.changed) > _SHOWN:
        show(f"  ... {len(report.changed) - _SHOWN} more: --json")
    if report.weights.speedup < 1:
        show(
            say(
                "Slower than float here, so --quantise would be refused for this model on this machine.",
                "在这台机器上比浮点更慢，因此该模型使用 --quantise 会被拒绝。",
            )
        )


def show_checks(checks: Iterable[Check]) -> None:
    """One line each: state, name, detail."""
    for check in checks:
        show(f"{check.state:8}{check.name}: {check.detail}")
