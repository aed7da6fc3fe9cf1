"""The ablations of the built-in model's recipe: what each part of it is worth, over several seeds.

    python -m xverse_v.nano.ablate --start models/nano-start --data data/nano --work runs/ablate [--seeds 3]
        [--pretrain-steps N] [--finetune-steps N] [--questions N] [--only NAME]... [--out table.md]

What crosses: folders and a budget in; `WORK/results.jsonl`, one line a run, and a table in Markdown out. A run whose
line is there is not made again, so the command may be stopped and started; one that was stopped midway starts anew.
Lines of another start folder, other data or another budget stay in the file and out of the table. One process, one
thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from xverse_v.nano.ablations import ABLATIONS, BASE, Ablation, Finished, Given, run
from xverse_v.nano.evaluate import GLOBAL_ONLY
from xverse_v.nano.items import ROWS
from xverse_v.training.config import read_config
from xverse_v.weights.load import weights_id

log = logging.getLogger(__name__)
RESULTS = "results.jsonl"
MEASURES = (*ROWS[:2], GLOBAL_ONLY, *ROWS[2:], "wrong refusals")
SEEDS = 3


def conditions(given: Given) -> dict[str, Any]:
    """What must be the same for two runs to stand in one table."""
    files = sorted([*given.data.glob("pairs-*.tar"), given.data / "conversations.json"])
    listed = "\n".join(f"{path.name} {path.stat().st_size}" for path in files)
    return {
        "start": weights_id(given.start),
        "data": hashlib.sha256(listed.encode()).hexdigest()[:12],
        "pretrain_steps": given.pretrain_steps,
        "finetune_steps": given.finetune_steps,
        "questions": given.questions,
    }


def finished(given: Given) -> list[Finished]:
    """The runs of these conditions that are there, in the order in which they were made."""
    path, wanted = given.work / RESULTS, conditions(given)
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Finished(**line["run"]) for line in lines if line["conditions"] == wanted]


def run_all(given: Given, ablations: Sequence[Ablation], seeds: int) -> None:
    """Makes what is missing, all ablations of a seed before the next seed."""
    given.work.mkdir(parents=True, exist_ok=True)
    there = {(one.ablation, one.seed) for one in finished(given)}
    for seed in range(1, seeds + 1):
        for ablation in ablations:
            if (ablation.name, seed) in there:
                continue
            log.info("%s, seed %d", ablation.name, seed)
            done = run(ablation, seed, given)
            with (given.work / RESULTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"conditions": conditions(given), "run": asdict(done)}) + "\n")
            log.info("%s, seed %d: loss %.4f, %.1f CPU-minutes", ablation.name, seed, done.loss, done.minutes)


def _cell(runs: Sequence[Finished], base: Sequence[Finished], measure: str) -> str:
    """Mean and range in percent; an arrow where the range lies apart from that of `base`."""
    values, known = ([100 * one.scores[measure]["share"] for one in of if measure in one.scores] for of in (runs, base))
    if not values:
        return "-"
    mark = ""
    if runs is not base and len(values) > 1 and len(known) > 1:
        mark = " ↓" if max(values) < min(known) else " ↑" if min(values) > max(known) else ""
    return f"{sum(values) / len(values):.1f} ({min(values):.1f}..{max(values):.1f}){mark}"


def table(given: Given, runs: Sequence[Finished]) -> str:
    """Markdown: mean and range over seeds, ablation by ablation, then what each of them changed."""
    by_name = {ablation.name: [one for one in runs if one.ablation == ablation.name] for ablation in ABLATIONS}
    base = by_name[BASE]
    lines = [
        f"{given.pretrain_steps} steps of stage 1 and {given.finetune_steps} of stage 2, {given.questions} questions a",
        "row; percent of whole answers right, mean over seeds (least..most). An arrow: the range lies apart from that",
        "of `base`.",
        "",
        f"| ablation | seeds | {' | '.join(MEASURES)} | CPU-minutes |",
        f"|{'---|' * (len(MEASURES) + 3)}",
    ]
    for name, made in by_name.items():
        if not made:
            continue
        cells = [_cell(made, base, measure) for measure in MEASURES]
        minutes = sum(one.minutes for one in made) / len(made)
        lines.append(f"| {name} | {len(made)} | {' | '.join(cells)} | {minutes:.1f} |")
    lines += ["", "| ablation | what it changes |", "|---|---|"]
    lines += [f"| {ablation.name} | {ablation.changed} |" for ablation in ABLATIONS if by_name[ablation.name]]
    return "\n".join(lines) + "\n"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Leave one thing out of the built-in model's recipe at a time.")
    parser.add_argument("--start", type=Path, required=True, help="the folder stage 1 starts from")
    parser.add_argument("--data", type=Path, required=True, help="what `python -m xverse_v.nano.data` wrote")
    parser.add_argument("--work", type=Path, required=True, help="results, and what is being made")
    parser.add_argument("--recipes", type=Path, default=Path("recipes/nano"))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--pretrain-steps", type=int, help="default: the recipe's own")
    parser.add_argument("--finetune-steps", type=int, help="default: the recipe's own")
    parser.add_argument("--questions", type=int, default=200, help="questions a row")
    names = [ablation.name for ablation in ABLATIONS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--out", type=Path, help="write the table here, not to stdout")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    asked = parsed(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(1)
    own = [read_config(asked.recipes / f"{stage}.yaml").config.optimisation.steps for stage in ("pretrain", "finetune")]
    given = Given(
        asked.start,
        asked.data,
        asked.work,
        asked.recipes,
        asked.pretrain_steps or own[0],
        asked.finetune_steps or own[1],
        asked.questions,
    )
    run_all(given, [one for one in ABLATIONS if asked.only is None or one.name in asked.only], asked.seeds)
    text = table(given, finished(given))
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
