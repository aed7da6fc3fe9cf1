"""`xverse-v eval run` and `eval score`: benchmarks asked, answers scored. Parses, calls, prints.

The other verbs of the sub-app (`report`, `diff`, `verify`, `list`, `export`) stand in eval_more.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xverse_v.errors import XverseError

from . import eval_more, eval_release
from .common import Device, Dtype, Json, Quantise, note, passing_note, show_json
from .eval_text import (
    first_line,
    judge_facts,
    judge_line,
    last_line,
    run_document,
    score_document,
    score_table,
    unscored_line,
)
from .eval_watch import Watch, own_device, resumable, share_of_processes

if TYPE_CHECKING:
    from xverse_v.evaluation.bundle import RunFolder
    from xverse_v.evaluation.contract import Judge, Model
    from xverse_v.evaluation.judge import EndpointJudge
    from xverse_v.evaluation.plan import Task
    from xverse_v.evaluation.run import RunReport
    from xverse_v.evaluation.scored import Scored

evaluation = typer.Typer(
    help="Benchmarks: ask, score, compare, check. Every number with all that could move it.", no_args_is_help=True
)

ProfileName = Literal["vlmevalkit", "vlmevalkit-2024-04", "official", "release"]
ReencodeName = Literal["none", "jpeg75"]
ImagesName = Literal["first", "all"]
_NO_SCORE = ("E731", "E732", "E733")  # hidden answers, no judge: nothing is wrong with the run
_JUDGE = "Judge (a model that grades; only where the rules of a benchmark have one)"

JudgeUrl = Annotated[
    str | None,
    typer.Option(
        "--judge-url", metavar="URL", help="An OpenAI-compatible endpoint, ending in /v1.", rich_help_panel=_JUDGE
    ),
]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", metavar="NAME", help="The judge's name there.", rich_help_panel=_JUDGE)
]
JudgeKey = Annotated[
    str,
    typer.Option(
        "--judge-key-variable",
        metavar="VARIABLE",
        help="The environment variable that holds the key; the key itself is never written anywhere.",
        rich_help_panel=_JUDGE,
    ),
]
JudgePrice = Annotated[
    str | None,
    typer.Option(
        "--judge-price", metavar="IN,OUT", help="Money for a million tokens, to say the cost.", rich_help_panel=_JUDGE
    ),
]
JudgeConcurrency = Annotated[
    int,
    typer.Option(
        "--judge-concurrency", min=1, metavar="N", help="Questions to it at the same time.", rich_help_panel=_JUDGE
    ),
]


_ENDPOINT = "Endpoint (of --model URL#NAME)"
KeyVariable = Annotated[
    str,
    typer.Option(
        "--key-variable", metavar="VARIABLE", help="Environment variable with the key; none sends no key.",
        rich_help_panel=_ENDPOINT,
    ),
]  # fmt: skip
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Longest wait for one answer.", rich_help_panel=_ENDPOINT)
]
Attempts = Annotated[
    int, typer.Option("--attempts", min=1, metavar="N", help="Tries of one request.", rich_help_panel=_ENDPOINT)
]
NewerFields = Annotated[
    bool,
    typer.Option(
        "--newer-fields", help="Send max_completion_tokens and no temperature.", rich_help_panel=_ENDPOINT
    ),
]  # fmt: skip


@evaluation.command("run")
def run_verb(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="NAME[,NAME...]",
            help="Benchmarks (xverse-v eval list), NAME=PATH for data elsewhere, or TSV files of your own.",
        ),
    ],
    work_dir: Annotated[Path, typer.Option("--work-dir", metavar="DIR", help="Where answers and scores are kept.")],
    model: Annotated[
        str,
        typer.Option("--model", metavar="nano|FOLDER|URL#NAME", help="Built in, a folder, or an OpenAI endpoint."),
    ] = "nano",
    profile: Annotated[
        ProfileName, typer.Option("--profile", help="Whose prompts and rules of scoring; docs/eval.md.")
    ] = "vlmevalkit",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N questions, all their passes.")
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option("--data-root", metavar="DIR", help="Folder of the data files. Default: $LMUData, ~/LMUData."),
    ] = None,
    image_root: Annotated[
        Path | None,
        typer.Option("--image-root", metavar="DIR", help="Where image files of official data sets start."),
    ] = None,
    strict_md5: Annotated[
        bool, typer.Option("--strict-md5", help="Refuse a data file that is not the published one.")
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, metavar="N", help="Longest answer. Default: the profile's."),
    ] = None,
    reencode: Annotated[
        ReencodeName | None,
        typer.Option("--reencode", help="Recompress images of data files, as the harness of 2024. Default: profile."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", min=1, metavar="N", help="Questions at the same time. Default: 8 to 64, by memory."
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, metavar="N", help="Requests at the same time, to an endpoint.")
    ] = 4,
    images: Annotated[
        ImagesName, typer.Option("--images", help="Of a prompt with several, for our models: the first, as released.")
    ] = "first",
    device: Device = None,
    dtype: Dtype = None,
    quantise: Quantise = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    timeout: Timeout = 120.0,
    attempts: Attempts = 6,
    newer_fields: NewerFields = False,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 8,
    judge_price: JudgePrice = None,
    json_: Json = False,
) -> None:
    """Ask a model the questions of benchmarks, and score its answers.

    Each answer is on disk before it counts: the same command goes on after Ctrl-C or a crash, and ends in the same
    bytes. Several processes share the rows when torchrun starts it. Nothing is downloaded.

    \b
    Examples
      xverse-v eval run --data MMBench_DEV_EN,GQA --work-dir results --limit 200
      xverse-v eval run --data mine.tsv --work-dir results --model FOLDER
      torchrun --nproc-per-node 8 -m xverse_v eval run --model FOLDER --data MMStar --work-dir results
    """
    from xverse_v.evaluation.pick import tasks_of
    from xverse_v.evaluation.run import ask, finish

    share = share_of_processes()
    judge = _judge(work_dir, judge_url, judge_model, judge_key, judge_concurrency, judge_price)
    tasks = tasks_of(
        [name.strip() for name in data.split(",") if name.strip()],
        profile,
        root=data_root,
        strict_md5=strict_md5,
        image_root=image_root,
        limit=limit,
        max_new_tokens=max_new_tokens,
    )
    opened = _model(
        model,
        tasks[0],
        {"device": own_device(device, share), "dtype": dtype or "auto", "batch_size": batch_size}
        | {"concurrency": concurrency, "image_root": image_root, "reencode": reencode, "images": images}
        | {"key_variable": _variable(key_variable), "timeout": timeout, "attempts": attempts}
        | {"newer_fields": newer_fields, "quantise": quantise},
    )
    reports = []
    for task in tasks:
        watch = Watch(share, first_line) if share.first else None
        with resumable():
            reports.append(ask(task, opened, work_dir, share=share, watch=watch))
    if not share.first:
        return
    done = [_scored(finish(report, opened, share=share), judge) for report in reports]
    if json_:
        show_json({"runs": [run_document(report, scored) for report, scored in done], "judge": judge_facts(judge)})
    else:
        score_table([scored for _, scored in done if scored])
    if judge:
        note(judge_line(judge))
    for report, scored in done:
        note(last_line(report, scored))


@evaluation.command("score")
def score_verb(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="--work-dir of a run, or folders below it.")],
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
    judge_concurrency: JudgeConcurrency = 8,
    judge_price: JudgePrice = None,
    json_: Json = False,
) -> None:
    """Score answers that are there already, without a model: again, with a judge, or after an update."""
    from xverse_v.evaluation.bundle import RunFolder

    judge = _judge(folders[0], judge_url, judge_model, judge_key, judge_concurrency, judge_price)
    done = [(folder, _score(folder, judge)) for folder in RunFolder.below(folders)]
    if json_:
        runs = [score_document(folder.path, scored) for folder, scored in done if scored]
        show_json({"runs": runs, "judge": judge_facts(judge)})
        return
    score_table([scored for _, scored in done if scored])
    if judge:
        note(judge_line(judge))


def _score(folder: RunFolder, judge: Judge | None) -> Scored | None:
    """The scores, or none and a line that says why, where the answers cannot be scored as things are."""
    from xverse_v.evaluation.pick import find_for
    from xverse_v.evaluation.scored import score_run

    benchmark = find_for(folder.document())
    try:
        return score_run(folder, benchmark, None if benchmark.judge == "none" else judge)
    except XverseError as problem:
        if problem.code not in _NO_SCORE:
            raise
        note(unscored_line(benchmark.name, problem))
        return None


def _scored(report: RunReport, judge: Judge | None) -> tuple[RunReport, Scored | None]:
    from xverse_v.evaluation.bundle import RunFolder

    return report, _score(RunFolder(report.folder), judge) if report.rows else None


def _variable(name: str) -> str | None:
    return None if name == "none" else name


def _model(spec: str, task: Task, options: dict[str, Any]) -> Model:
    """The model, with the profile's way of handing over images."""
    with passing_note(f"loading {spec} ..."):
        from xverse_v.evaluation.models import ModelOptions, open_model

        return open_model(spec, ModelOptions(**options), profile=task.profile)


def _judge(
    work_dir: Path, url: str | None, model: str | None, key: str, concurrency: int, price: str | None
) -> EndpointJudge | None:
    if url is None and model is None:
        return None
    if not url or not model:
        given, missing = ("--judge-url", "--judge-model") if url else ("--judge-model", "--judge-url")
        raise typer.BadParameter(f"{given} needs {missing} as well")
    from xverse_v.evaluation.endpoint import Endpoint, EndpointSettings
    from xverse_v.evaluation.judge import EndpointJudge, Prices

    prices = None
    if price is not None:
        try:
            paid_in, paid_out = map(float, price.split(","))
        except ValueError:
            raise typer.BadParameter(f"--judge-price {price}: expected two numbers, such as 0.15,0.60") from None
        prices = Prices(paid_in, paid_out)
    settings = EndpointSettings(base_url=url, model=model, key_variable=_variable(key))
    cache = work_dir / "judge_cache.jsonl"
    return EndpointJudge(Endpoint(settings), cache=cache, concurrency=concurrency, prices=prices)


eval_more.add_to(evaluation)
evaluation.command("release")(eval_release.release_verb)
evaluation.command("chat")(eval_release.chat_verb)
