"""`xverse-v batch`: a file of questions into a file of answers. Parses, calls, prints; the batch room does the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xverse_v.errors import error

from .backends import Backend, Context, Gguf, load_with
from .common import (
    Detail,
    Device,
    Dtype,
    Json,
    Logprobs,
    MaxNewTokens,
    MaxTiles,
    Model,
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
    say,
    show_json,
)
from .counting import counted

if TYPE_CHECKING:
    from xverse_v.batch import BatchReport, InputIndex, OutputFile

LISTED = 20  # skipped rows and bad lines named on a terminal; --json names them all
_SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal to draw a bar on

Policy = Literal["fail", "skip"]


def batch(
    source: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="One question a line; see below.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Answers are appended here; may exist already.")],
    model: Model = "nano",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, metavar="N", help="Questions answered at the same time.")
    ] = 8,
    on_bad_image: Annotated[
        Policy,
        typer.Option("--on-bad-image", help="An image that cannot be used: stop there, or write its error."),
    ] = "fail",
    on_bad_line: Annotated[
        Policy, typer.Option("--on-bad-line", help="A line that is not a question: refuse to start, or leave it out.")
    ] = "fail",
    image_root: Annotated[
        Path | None,
        typer.Option(
            "--image-root",
            metavar="FOLDER",
            help="Image paths start here and may not leave it. Default: the folder of IN.jsonl.",
        ),
    ] = None,
    system: System = None,
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
    json_: Json = False,
) -> None:
    """Answer thousands of questions about images, and go on where it stopped if it is killed.

    A line is {"id": ..., "image": PATH, "question": TEXT}; "images": [PATH, ...] gives several or none, "system"
    replaces --system. Each answer is on disk before it counts, so the same command may be killed and started again at
    any time. Questions about one image are asked together, so OUT.jsonl has another order than IN.jsonl; go by the ids.

    \b
    Examples
      xverse-v batch questions.jsonl answers.jsonl
      xverse-v batch questions.jsonl answers.jsonl --image-root /data/images --on-bad-image skip
      xverse-v batch questions.jsonl answers.jsonl --json --max-new-tokens 16 > summary.json
    """
    from xverse_v.batch import OutputFile, run_batch

    root = _image_root(source, image_root)
    index = _scan(source, target, on_bad_line)
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
    assistant = load_with(model, device, dtype, quantise, backend, gguf, context, rows=batch_size)
    from xverse_v.batch.asker import Asker
    from xverse_v.media import open_image

    asker = Asker(assistant, options, system=system, max_tiles=max_tiles, detail=detail, batch_size=batch_size)
    began = time.monotonic()
    with OutputFile(target, asker.settings_document()) as output, _progress(len(index)) as progress:
        _say_mended(output)
        try:
            report = run_batch(
                index,
                output,
                answer=asker.answer,
                open_image=partial(open_image, root=root),
                on_bad_image=on_bad_image,
                progress=progress,
            )
        except KeyboardInterrupt:
            note(say("Stopped; the same command goes on from here.", "已停止；再次运行同样的命令即可继续。"))
            raise
    seconds = time.monotonic() - began
    _summarise(report, index, output, seconds)
    if json_:
        show_json(_document(report, index, output, seconds))


def _image_root(source: Path, image_root: Path | None) -> Path:
    root = source.parent if image_root is None else image_root
    if image_root is not None and not root.is_dir():
        raise error("E829", path=root)
    return root.resolve()


def _scan(source: Path, target: Path, on_bad_line: Policy) -> InputIndex:
    """Read and check the whole input before anything is loaded. Raises E820, E823, E827."""
    from xverse_v.batch import InputIndex

    if target.exists() and source.exists() and target.samefile(source):
        raise error("E827", path=source)
    index = InputIndex.scan(source)
    if index.bad and on_bad_line == "fail":
        first = index.problems[:5]
        raise error(
            "E823",
            count=index.bad,
            lines=index.lines,
            path=source,
            examples="; ".join(f"line {p.line} {p.reason('en')}" for p in first),
            examples_zh="；".join(f"第 {p.line} 行{p.reason('zh')}" for p in first),
        )
    _say_unused(index)
    return index


def _say_unused(index: InputIndex) -> None:
    """One line. What every row carries is the user's own; a field of some may be a slip: counted, and said first."""
    if not index.unused:
        return
    rows, shown = len(index), []
    for name, count in sorted(index.unused.items(), key=lambda item: item[1])[:LISTED]:
        some = "" if count == rows else say(f" ({count} of {rows} lines)", f"（{rows} 行中的 {count} 行）")
        shown.append(for_terminal(" ".join(name.split())) + some)
    if unlisted := len(index.unused) - len(shown):
        shown.append(say(f"and {unlisted} more; --json lists them", f"另有 {unlisted} 个；--json 会全部列出"))
    names = ", ".join(shown)
    note(
        say(
            f"Fields not used here (the id joins them to the answers): {names}",
            f"此处不用的字段（可凭 id 与回答对应）：{names}",
        )
    )


def _say_mended(output: OutputFile) -> None:
    if output.torn_bytes:
        note(
            say(
                f"{output.path}: cut off a torn last line ({output.torn_bytes} bytes); its question is asked again.",
                f"{output.path}：末尾有不完整的一行（{output.torn_bytes} 字节），已截去，其问题会重新提问。",
            )
        )


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[BatchReport], None]]:
    """A bar with rate and remaining time on a terminal; elsewhere a line on stderr now and then."""
    if not sys.stderr.isatty():
        yield _ProgressLines().show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=rows, rate="")
        began = time.monotonic()

        def show(report: BatchReport) -> None:
            rate = (report.answered + report.skipped) / max(1e-9, time.monotonic() - began)
            shown = f"{rate:.1f}/s" + (
                say(f", {len(report.skips)} skipped", f"，跳过 {len(report.skips)}") if report.skips else ""
            )
            bar.update(task, completed=report.done, rate=shown)

        yield show


class _ProgressLines:
    """Progress for a log file."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()

    def show(self, report: BatchReport) -> None:
        now = time.monotonic()
        if now - self.last < _SECONDS_BETWEEN_LINES:
            return
        self.last = now
        fresh = report.answered + report.skipped
        rate = fresh / (now - self.began)
        left = (report.rows - report.done) / rate if rate else 0.0
        note(
            say(
                f"{report.done}/{report.rows} rows, {rate:.1f}/s, about {left:.0f} s left",
                f"{report.done}/{report.rows} 行，{rate:.1f} 行/秒，大约还需 {left:.0f} 秒",
            )
        )


def _summarise(report: BatchReport, index: InputIndex, output: OutputFile, seconds: float) -> None:
    note(
        say(
            f"{output.path}: {counted(report.rows, 'row')}, {report.answered} answered now ({seconds:.1f} s), "
            f"{report.answered_before} before, {len(report.skips)} skipped, "
            f"{counted(index.bad, 'unusable line')} left out",
            f"{output.path}：共 {report.rows} 行，本次回答 {report.answered} 行（{seconds:.1f} 秒），"
            f"此前 {report.answered_before} 行，跳过 {len(report.skips)} 行，略去不可用的输入行 {index.bad} 行",
        )
    )
    if report.elsewhere:
        note(
            say(
                f"{report.elsewhere} rows of the output belong to no line of {index.path}; they are left as they are.",
                f"输出中有 {report.elsewhere} 行不对应 {index.path} 的任何一行，已原样保留。",
            )
        )
    for identity, code in report.skips[:LISTED]:
        note(say(f"  skipped {identity!r}: {code}", f"  已跳过 {identity!r}：{code}"))
    for problem in index.problems[:LISTED]:
        note(say(f"  line {problem.line} {problem.reason('en')}", f"  第 {problem.line} 行{problem.reason('zh')}"))
    unlisted = max(0, len(report.skips) - LISTED) + max(0, index.bad - LISTED)
    if unlisted:
        note(say(f"  and {unlisted} more; --json lists them", f"  另有 {unlisted} 项；--json 会全部列出"))


def _document(report: BatchReport, index: InputIndex, output: OutputFile, seconds: float) -> dict[str, Any]:
    return {
        "output": str(output.path),
        "settings": {"digest": output.digest, **output.settings},
        "rows": report.rows,
        "answered": report.answered,
        "answered_before": report.answered_before,
        "skipped": [{"id": identity, "code": code} for identity, code in report.skips],
        "unusable_lines": index.bad,
        "unusable": [problem.as_dict() for problem in index.problems],
        "unused_fields": dict(index.unused),
        "rows_of_no_line": report.elsewhere,
        "torn_bytes": output.torn_bytes,
        "seconds": round(seconds, 3),
    }
