"""`xverse-v eval release` and `eval chat`: the release's own evaluation lines, driven by its YAML files.

`eval_vqa.py` and `eval_chat.py` at the project's root call these two, so the release's commands work as they stand.
Reads `evaluation_datasets.{gqa,okvqa,chat}` and `run.save_path`; the model is made once of the three parts that the
same YAML names (`release_parts`). Parses, calls, prints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xverse_v.errors import XverseError, error

from .common import Device, Dtype, Json, load_assistant, note, say, show, show_json
from .release_parts import DEFAULT_FOLDER, PartsFolder, folder_of_parts

if TYPE_CHECKING:
    from xverse_v.evaluation.bundle import RunFolder
    from xverse_v.weights.release_yaml import Entry

DATASETS = {"gqa": "GQA", "okvqa": "OKVQA"}
_LONGEST = {"chat": 2048}  # new tokens where the YAML says nothing; 16 for the others, as released

CfgPath = Annotated[
    Path,
    typer.Option("--cfg-path", metavar="YAML", help="eval_configs/vxverse_hd_benchmark_evaluation.yaml, filled in."),
]
ModelFolder = Annotated[
    str | None,
    typer.Option("--model", metavar="nano|FOLDER", help="A converted model, instead of the three parts of the YAML."),
]


@dataclass(frozen=True)
class ReleaseSet:
    """One data set as the YAML describes it."""

    name: str
    data: Path
    images: Path | None
    max_new_tokens: int
    batch_size: int


class ReleaseConfig:
    """The evaluation part of a release YAML. Relative paths start at the project's folder, as the release was run."""

    def __init__(self, path: Path) -> None:
        """Raises E300 and E317 for a file that is no YAML."""
        from xverse_v.weights.release_yaml import MODEL_YAML, scalars

        self.path = path
        self._entries: Mapping[str, Entry] = dict(scalars(path))
        above = path.resolve().parents
        self.project = next((folder for folder in above if (folder / MODEL_YAML).is_file()), above[0])

    def save_path(self) -> Path:
        """Where results go; made if missing. Raises E729."""
        folder = self._path("run.save_path", must_exist=False)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def data_set(self, name: str, *, images: bool = True) -> ReleaseSet:
        """`evaluation_datasets.NAME`. Raises E729 for a missing key, a placeholder or a path that leads nowhere."""
        prefix = f"evaluation_datasets.{name}"
        if not any(key.startswith(f"{prefix}.") for key in self._entries):
            known = sorted({key.split(".")[1] for key in self._entries if key.startswith("evaluation_datasets.")})
            raise self._unusable(
                f"no {prefix}; it has {', '.join(known) or '-'}", f"缺少 {prefix}；现有 {'、'.join(known)}"
            )
        return ReleaseSet(
            name,
            self._path(f"{prefix}.eval_file_path"),
            self._path(f"{prefix}.img_path") if images else None,
            self._number(f"{prefix}.max_new_tokens", _LONGEST.get(name, 16)),
            self._number(f"{prefix}.batch_size", 5),
        )

    def _path(self, key: str, *, must_exist: bool = True) -> Path:
        from xverse_v.weights.release_yaml import PLACEHOLDER

        entry = self._entries.get(key)
        if entry is None:
            raise self._unusable(f"{key} is missing", f"缺少 {key}")
        text = "" if entry.value is None else str(entry.value)
        path = self.project / Path(text).expanduser()
        if text.strip() and path.exists():
            return path
        where, where_zh = f"line {entry.line}: {key}", f"第 {entry.line} 行：{key}"
        if PLACEHOLDER.search(text):
            raise self._unusable(f'{where} is still the placeholder "{text}"', f"{where_zh} 仍是占位文本“{text}”")
        if must_exist:
            raise self._unusable(
                f'{where} is "{text}", but there is nothing there', f"{where_zh} 为“{text}”，但那里什么也没有"
            )
        return path

    def _number(self, key: str, default: int) -> int:
        entry = self._entries.get(key)
        if entry is None or entry.value is None:
            return default
        text = str(entry.value)
        if not text.isdigit() or int(text) < 1:
            problem = f"line {entry.line}: {key} is {text!r}, not a whole number from 1"
            raise self._unusable(problem, f"第 {entry.line} 行：{key} 为 {text!r}，不是正整数")
        return int(text)

    def _unusable(self, problem: str, problem_zh: str) -> XverseError:
        return error("E729", file=self.path, problem=problem, problem_zh=problem_zh)


def release_verb(
    cfg_path: CfgPath,
    dataset: Annotated[
        str, typer.Option("--dataset", metavar="gqa|okvqa[,...]", help="Which of the YAML's data sets.")
    ] = "gqa",
    model: ModelFolder = None,
    out: PartsFolder = DEFAULT_FOLDER,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N questions.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
) -> None:
    """The release's eval_vqa.py: GQA and OKVQA with its prompts, its 16 tokens and its rules of scoring.

    Beside the bundles, save_path gets each data set's answers as the release wrote them: JSON lines, lower case.
    """
    from xverse_v.evaluation.bundle import RunFolder
    from xverse_v.evaluation.models import ModelOptions, open_model
    from xverse_v.evaluation.pick import tasks_of
    from xverse_v.evaluation.run import ask, finish
    from xverse_v.evaluation.scored import score_run

    from .eval_text import first_line, last_line, run_document, score_table
    from .eval_watch import Watch, own_device, share_of_processes

    share = share_of_processes()
    config = ReleaseConfig(cfg_path)
    names = [name.strip().lower() for name in dataset.split(",") if name.strip()]
    if unknown := [name for name in names if name not in DATASETS]:
        raise typer.BadParameter(f"--dataset {unknown[0]}: known are {', '.join(DATASETS)}")
    sets, save = [config.data_set(name) for name in names], config.save_path()
    options = ModelOptions(
        device=own_device(device, share), dtype=dtype or "auto", batch_size=max(one.batch_size for one in sets)
    )
    opened = open_model(model or str(folder_of_parts(cfg_path, out)), options, profile="release")
    reports = []
    for one in sets:
        (task,) = tasks_of(
            [f"{DATASETS[one.name]}={one.data}"],
            "release",
            image_root=one.images,
            limit=limit,
            max_new_tokens=one.max_new_tokens,
        )
        watch = Watch(share, first_line) if share.first else None
        reports.append(ask(task, opened, save, share=share, watch=watch))
    if not share.first:
        return
    done = []
    for one, report in zip(sets, reports, strict=True):
        folder = RunFolder(finish(report, opened, share=share).folder)
        done.append((report, score_run(folder, report.task.benchmark, None)))
        note(str(_write_answers(folder, save / f"{one.name}.jsonl")))
    if json_:
        show_json({"runs": [run_document(report, scored) for report, scored in done]})
    else:
        score_table([scored for _, scored in done])
    for report, scored in done:
        note(last_line(report, scored))


def _write_answers(folder: RunFolder, path: Path) -> Path:
    """The release's file: `{"answer", "question_id", "Prompt"}` a line."""
    from xverse_v.evaluation.digests import write_whole

    lines = []
    for line in folder.predictions():
        prompt = "".join(part for part in line["prompt"]["parts"] if part)
        lines.append({"answer": line["text"].lower(), "question_id": line["key"], "Prompt": prompt})
    write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def chat_verb(
    cfg_path: CfgPath,
    model: ModelFolder = None,
    out: PartsFolder = DEFAULT_FOLDER,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """The release's eval_chat.py: text questions, one conversation a line, greedy answers.

    A line is {"question": TEXT} or {"turns": [TEXT, ...]}, with any other fields, which are kept. Answers go to
    save_path/chat.jsonl, each line on disk before it counts; the same command goes on after a crash.
    """
    from xverse_v.batch import OutputFile
    from xverse_v.inference.sampling import SamplingSettings

    config = ReleaseConfig(cfg_path)
    wanted, save = config.data_set("chat", images=False), config.save_path()
    conversations = _conversations(wanted.data)
    assistant = load_assistant(model or str(folder_of_parts(cfg_path, out)), device, dtype)
    settings = SamplingSettings(max_new_tokens=wanted.max_new_tokens)
    target = save / "chat.jsonl"
    described = {
        "weights_id": assistant.engine.conditions.weights_id,
        "dtype": assistant.engine.conditions.dtype,
        "max_new_tokens": wanted.max_new_tokens,
        "decoding": "greedy",
    }
    from xverse_v.batch.output import row_key

    with OutputFile(target, described) as output:
        before = len(output.done)
        for place, (fields, turns) in enumerate(conversations):
            if row_key(place) in output.done:
                continue
            talk = assistant.chat(settings=settings)
            answers = [talk.say(turn).text for turn in turns]
            output.append([{"id": place, **fields, "turns": turns, "answers": answers, "input": ""}])
    show(
        say(
            f"{target}: {len(conversations)} conversations, {before} of them before",
            f"{target}：{len(conversations)} 个对话，其中 {before} 个此前已完成",
        )
    )


def _conversations(path: Path) -> list[tuple[dict[str, Any], list[str]]]:
    """Each line's other fields and its turns. Raises E707 for a line without a question."""
    from xverse_v.evaluation.official import read_records

    found = []
    for record in read_records(path):
        value = dict(record.value)
        turns = value.pop("turns", None)
        text = next(
            (value[name] for name in ("question", "text", "prompt", "conv_q") if isinstance(value.get(name), str)), None
        )
        turns = turns if isinstance(turns, list) and turns else [text]
        if not all(isinstance(turn, str) and turn.strip() for turn in turns):
            where = f"a record without a question (number {record.place + 1})"
            raise error("E707", path=path, got=where, expected='{"question": TEXT} or {"turns": [TEXT, ...]}')
        kept = {name: entry for name, entry in value.items() if name not in ("id", "answers", "input", "settings")}
        if "id" in value:
            kept["question_id"] = value["id"]
        found.append((kept, turns))
    return found
