"""`xverse-v eval report`, `diff`, `verify`, `list`, `export`: what is done with finished runs.

Parses, calls, prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xverse_v.errors import error

from .common import Json, note, say, show, show_json
from .eval_text import (
    difference_document,
    difference_text,
    list_table,
    verified_document,
    verified_text,
)

Runs = Annotated[list[Path], typer.Argument(metavar="DIR...", help="--work-dir of a run, or folders below it.")]
ExportName = Literal["xlsx", "tsv", "llava"]


def add_to(app: typer.Typer) -> None:
    """Put these verbs into the sub-app."""
    for name, verb in (
        ("report", report_verb),
        ("diff", diff_verb),
        ("verify", verify_verb),
        ("list", list_verb),
        ("export", export_verb),
    ):
        app.command(name)(verb)


def report_verb(
    folders: Runs,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report's files go.")] = Path("report"),
    form: Annotated[
        str,
        typer.Option("--format", metavar="NAME[,NAME...]", help="Of text, markdown, csv, html; text is printed too."),
    ] = "text,markdown,csv,html",
) -> None:
    """Scores of several runs beside the model card's tables, best in bold."""
    from xverse_v.evaluation.report import write_report

    wanted = [name.strip() for name in form.split(",") if name.strip()]
    for path in write_report(folders, out, wanted):
        if path.suffix == ".txt":
            show(path.read_text(encoding="utf-8").rstrip())
        note(str(path))


def diff_verb(
    a: Annotated[Path, typer.Argument(metavar="A", help="The run before: a work dir or a folder below it.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The run after.")],
    json_: Json = False,
) -> None:
    """Which rows changed between two runs, and why: data, image, prompt, tiles, tokens, answer or scoring."""
    from xverse_v.evaluation.bundle import RunFolder
    from xverse_v.evaluation.diff import difference, pairs

    found = [difference(one, other) for one, other in pairs(RunFolder.below([a]), RunFolder.below([b]))]
    if json_:
        show_json({"benchmarks": [difference_document(one) for one in found]})
        return
    for one in found:
        difference_text(one)
    if not found:
        note(say("The two hold no run of the same benchmark.", "两者没有同一评测集的评测。"))


def verify_verb(
    folders: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Run folders, or a work dir of several.")],
    json_: Json = False,
) -> None:
    """Check bundles: files against their hashes, scores made again from the answers. Needs no data, model or network.

    Exit code 1 if one does not hold.
    """
    from xverse_v.evaluation.bundle import RunFolder
    from xverse_v.evaluation.pick import find_for
    from xverse_v.evaluation.verify import verify

    found = [verify(folder, find_for) for folder in RunFolder.below(folders)]
    if json_:
        show_json({"bundles": [verified_document(one) for one in found]})
    else:
        for one in found:
            verified_text(one)
    broken = [one for one in found if not one.holds]
    if broken and json_:
        raise typer.Exit(1)
    if broken:
        problems = "; ".join(f"{one.folder.path}: {one.problems[0]}" for one in broken[:3])
        raise error("E725", count=len(broken), bundles=len(found), problems=problems)


def list_verb(
    data_root: Annotated[
        Path | None, typer.Option("--data-root", metavar="DIR", help="Where to look. Default: $LMUData, ~/LMUData.")
    ] = None,
    json_: Json = False,
) -> None:
    """The benchmarks: data file, published md5, metric, judge, and whether the file is there."""
    from xverse_v.evaluation import benchmarks, data_files

    root = data_files.data_root(data_root)
    rows = []
    for name in benchmarks.names():
        benchmark = benchmarks.find(name)
        rows.append(
            {
                "name": name,
                "file": benchmark.file,
                "found": say("yes", "有") if (root / benchmark.file).exists() else "-",
                "metric": benchmark.metric,
                "judge": benchmark.judge,
                "md5": benchmark.md5 or "-",
                "source": benchmark.source,
                "citation": benchmark.citation,
            }
        )
    if json_:
        show_json({"data_root": str(root), "benchmarks": rows})
        return
    list_table(rows)
    note(say(f"Data files are looked for in {root}", f"在 {root} 中查找数据文件"))


def export_verb(
    folders: Runs,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    form: Annotated[
        ExportName, typer.Option("--format", help="VLMEvalKit's xlsx or tsv (also for MMBench's server), or LLaVA's.")
    ] = "xlsx",
) -> None:
    """Predictions as files of other harnesses. Formulas are made safe, nothing is cut."""
    from xverse_v.evaluation.bundle import RunFolder
    from xverse_v.evaluation.export import export

    for folder in RunFolder.below(folders):
        show(str(export(folder, out, form)))
