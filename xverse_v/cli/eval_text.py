"""What `xverse-v eval` prints: first and last line of a run, tables of scores and differences. Formats only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from .common import say, show
from .counting import counted

if TYPE_CHECKING:
    from xverse_v.errors import XverseError
    from xverse_v.evaluation.contract import BadRow, Score
    from xverse_v.evaluation.diff import Difference
    from xverse_v.evaluation.judge import EndpointJudge
    from xverse_v.evaluation.run import RunReport
    from xverse_v.evaluation.scored import Scored
    from xverse_v.evaluation.sharing import Share
    from xverse_v.evaluation.verify import Verified

LISTED = 20
_SHOWN_ANSWER = 60


def first_line(report: RunReport, share: Share) -> str:
    """What will be asked, and everything that is wrong with the data."""
    task, plan = report.task, report.plan
    parts = [
        say(f"{counted(report.rows, 'row')} to ask", f"待提问 {report.rows} 行"),
        say(f"{report.answered_before} answered before", f"此前已答 {report.answered_before} 行"),
        bad_text(plan.bad),
    ]
    if plan.left_out:
        count = len(plan.left_out)
        parts.append(say(f"{count} without an image left out by rule", f"按规则略去 {count} 行无图像的记录"))
    if plan.beyond:
        parts.append(say(f"{counted(plan.beyond, 'row')} beyond --limit", f"--limit 之外 {plan.beyond} 行"))
    if task.data.differs:
        md5, known = task.data.md5, task.data.known_md5
        parts.append(say(f"md5 {md5} is not the known {known}", f"md5 为 {md5}，与已知的 {known} 不同"))
    if report.torn_bytes:
        parts.append(say("a torn line is asked again", "有一行不完整，将重新提问"))
    if share.world > 1:
        parts.append(
            say(f"{report.mine} in this of {share.world} processes", f"{share.world} 个进程，本进程 {report.mine} 行")
        )
    return f"{task.benchmark.name} [{task.profile}]: " + ", ".join(parts)


def last_line(report: RunReport, scored: Scored | None) -> str:
    """What came of it, with everything that was left out."""
    bad = [*report.plan.bad, *report.refusals]
    answered = report.rows - len(report.refusals)
    parts = [
        say(f"{answered} of {counted(report.rows, 'row')} answered", f"{report.rows} 行中已答 {answered} 行"),
        bad_text(bad),
    ]
    if scored and scored.scores:
        parts.append(headline(scored.scores[0]))
    if scored:
        parts.append(f"bundle {scored.document['bundle'][:12]}")
    return f"{report.task.benchmark.name} [{report.task.profile}]: " + ", ".join([*parts, str(report.folder)])


def bad_text(rows: Sequence[BadRow]) -> str:
    """How many rows are bad, by code, with the first keys."""
    if not rows:
        return say("no bad rows", "没有坏行")
    counts = Counter(row.code for row in rows)
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(counts.items()))
    keys = ", ".join(row.key or f"line {row.line}" for row in rows[:3]) + (" ..." if len(rows) > 3 else "")
    count = f"{len(rows)} bad row{'s' if len(rows) > 1 else ''}"
    return say(f"{count} ({codes}; {keys})", f"坏行 {len(rows)} 行（{codes}；{keys}）")


def headline(score: Score) -> str:
    """One number with its interval, unit and matcher."""
    judge = f" {score.judge}" if score.judge else ""
    number = f"{score.value:.2f}{score.unit if score.unit == '%' else ' ' + score.unit}"
    return f"{score.name} {number} ({score.low:.1f} .. {score.high:.1f}, {score.matcher}{judge})"


def unscored_line(name: str, problem: XverseError) -> str:
    parts = problem.parts()
    return (
        say(f"{name}: answers kept, no score. ", f"{name}：答案已保存，没有得分。") + f"{parts['fact']} {parts['next']}"
    )


def judge_facts(judge: EndpointJudge | None) -> dict[str, object] | None:
    """Name, endpoint and costs, for --json."""
    return judge.facts() if judge else None


def judge_line(judge: EndpointJudge) -> str:
    """What judging took and cost."""
    use = judge.usage
    line = say(
        f"judge {judge.name}: {use.asked} asked, {use.cached} read from before, {use.retries} retries, "
        f"{use.prompt_tokens} + {use.completion_tokens} tokens",
        f"评审模型 {judge.name}：提问 {use.asked} 次，沿用 {use.cached} 次，重试 {use.retries} 次，"
        f"{use.prompt_tokens} + {use.completion_tokens} 个 token",
    )
    return line if judge.prices is None else f"{line}, {use.money(judge.prices):.4f} {judge.prices.currency}"


def score_table(scored: Sequence[Scored]) -> None:
    """Every score with its conditions, on stdout."""
    if not scored:
        return
    table = Table(box=None, pad_edge=False)
    for name, justify in (("benchmark", "left"), ("score", "left"), ("value", "right"), ("95 %", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=name != "score")
    for name in ("rows", "skipped", "unmatched"):
        table.add_column(name, justify="right")
    table.add_column("profile", no_wrap=True)
    table.add_column("matcher")
    table.add_column("note")
    for run in scored:
        for score in run.scores:
            unit = "" if score.unit == "%" else f" {score.unit}"
            table.add_row(
                run.document["benchmark"],
                score.name,
                f"{score.value:.2f}{unit}",
                f"{score.low:.1f} .. {score.high:.1f}",
                str(score.rows),
                str(score.skipped),
                f"{score.unmatched} ({100 * score.unmatched / max(1, score.rows):.1f} %)",
                score.profile,
                score.matcher + (f" {score.judge}" if score.judge else ""),
                score.note,
            )
    _print(table)


def run_document(report: RunReport, scored: Scored | None) -> dict[str, Any]:
    """A run for --json."""
    return {
        "benchmark": report.task.benchmark.name,
        "profile": report.task.profile,
        "folder": str(report.folder),
        "rows": report.rows,
        "answered": report.answered,
        "answered_before": report.answered_before,
        "bad_rows": [asdict(row) for row in [*report.plan.bad, *report.refusals]],
        "left_out_rows": len(report.plan.left_out),
        "beyond_limit": report.plan.beyond,
        "md5_differs": report.task.data.differs,
        "scored": scored.document if scored else None,
    }


def score_document(folder: Path, scored: Scored) -> dict[str, Any]:
    return {"folder": str(folder), **scored.document}


def difference_text(found: Difference) -> None:
    """One benchmark's difference, on stdout."""
    profiles = found.profile_a if found.profile_a == found.profile_b else f"{found.profile_a} -> {found.profile_b}"
    show(f"{found.benchmark} [{profiles}]: {len(found.changed)} of {counted(found.rows, 'row')} changed")
    for name, (before, after) in found.settings.items():
        show(f"  {name}: {before!r} -> {after!r}")
    for name, (before, after) in found.scores.items():
        if before != after:
            show(f"  {name}: {before:.2f} -> {after:.2f} ({after - before:+.2f})")
    if any(found.flips):
        won, lost = found.flips
        show(f"  score higher: {won}, lower: {lost}; p = {found.chance():.3g} if neither run is better")
    for reason, count in found.reasons().items():
        show(f"  {count} x {reason}")
    for row in found.changed[:LISTED]:
        scores = "" if row.score_a == row.score_b else f"  {row.score_a} -> {row.score_b}"
        show(f"    {row.key}  {row.reason}: {_short(row.answer_a)!r} -> {_short(row.answer_b)!r}{scores}")
    if len(found.changed) > LISTED:
        show(
            say(
                f"    and {len(found.changed) - LISTED} more; --json lists them",
                f"    另有 {len(found.changed) - LISTED} 行；--json 会全部列出",
            )
        )


def difference_document(found: Difference) -> dict[str, Any]:
    return asdict(found) | {"reasons": found.reasons(), "p": found.chance()}


def verified_text(found: Verified) -> None:
    """One bundle's state, on stdout."""
    state = say("holds", "完好") if found.holds else say("DOES NOT HOLD", "不符")
    numbers = say(
        f"{counted(found.rows, 'row')}, {counted(found.scores, 'score')} made again",
        f"{found.rows} 行，重算 {found.scores} 个得分",
    )
    show(f"{found.folder.path}: {state}; {numbers}; bundle {found.bundle[:12]}")
    for problem in found.problems:
        show(f"  ! {problem}")
    for remark in found.notes:
        show(f"  - {remark}")


def verified_document(found: Verified) -> dict[str, Any]:
    return asdict(found) | {"folder": str(found.folder.path), "holds": found.holds}


def list_table(rows: Sequence[dict[str, str]]) -> None:
    """The benchmarks, on stdout."""
    table = Table(box=None, pad_edge=False)
    for name in ("name", "file", "found", "metric", "judge", "md5"):
        table.add_column(name, no_wrap=name in ("name", "found", "judge"), overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in ("name", "file", "found", "metric", "judge", "md5")))
    _print(table)


def _print(table: Table) -> None:
    """In the terminal's width; where there is none, as wide as it needs to be, for programs and files."""
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=400)
    console.print(table)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_ANSWER else text[: _SHOWN_ANSWER - 3] + "..."
