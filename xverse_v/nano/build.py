"""The steps of the built-in model's recipe that are not the product's own trainer: its two halves, and its folder.

    python -m xverse_v.nano.build parts --work runs/nano [--only tower|words] [--scale 1.0]
    python -m xverse_v.nano.build start --work runs/nano --out models/nano-start
    python -m xverse_v.nano.build ship models/nano --out FOLDER --scores scores.json

Between `start` and `ship` stand `xverse-v train` and `xverse-v export`, twice (`make nano` runs all of it). Both halves
resume from their checkpoints in the work folder; everything random comes from the seeds below, so the same version of
torch on the same processor makes the same bits. Tower and words do not need each other: two processes may run at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import torch

from xverse_v.nano.folder import ship, write_start
from xverse_v.nano.tower import train_tower
from xverse_v.nano.words import train_words

log = logging.getLogger(__name__)
TOWER_CYCLES, WORDS_CYCLES = (4500, 3000), (4000,)
TOWER_SEED, WORDS_SEED, PROJECTOR_SEED = 1, 2, 3
FACTS = {
    "vision tower": f"{sum(TOWER_CYCLES):,} steps of some 34 views drawn anew, dense labels, seed {TOWER_SEED}",
    "decoder": f"{sum(WORDS_CYCLES):,} steps of 12 rows of text with images written out, seed {WORDS_SEED}",
    "stage 1": "1,600 steps of 16 of 24,000 pairs (recipes/nano/pretrain.yaml), projector from seed 3, two processes",
    "stage 2": "1,400 steps of 16 of 32,000 conversations (recipes/nano/finetune.yaml), LoRA of rank 32, two processes",
    "stage 2 once more": "500 steps in another order, fresh adapters, half the rates (recipes/nano/polish.yaml)",
    "compute": "about 3.7 CPU-hours on two cores, no GPU; estimated from rates of its parts, not timed in one piece",
}


def _scaled(cycles: tuple[int, ...], scale: float) -> list[int]:
    return [max(1, round(length * scale)) for length in cycles]


def make_parts(work: Path, only: str | None, scale: float) -> None:
    """Trains what is asked for of the two halves, `scale` of their steps."""
    started = time.process_time()
    if only in (None, "tower"):
        train_tower(work / "tower", _scaled(TOWER_CYCLES, scale), seed=TOWER_SEED)
    if only in (None, "words"):
        train_words(work / "words", _scaled(WORDS_CYCLES, scale), seed=WORDS_SEED)
    log.info("CPU-minutes of this process: %.1f", (time.process_time() - started) / 60)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the built-in model's halves and its folders.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    parts = verbs.add_parser("parts", help="train vision tower and decoder apart from each other")
    parts.add_argument("--work", type=Path, default=Path("runs/nano"), help="checkpoints; a run resumes from them")
    parts.add_argument("--only", choices=("tower", "words"))
    parts.add_argument("--scale", type=float, default=1.0, help="share of the steps, for a quick trial")
    parts.add_argument("--threads", type=int, default=1)
    start = verbs.add_parser("start", help="join them with a new projector into a model folder")
    start.add_argument("--work", type=Path, default=Path("runs/nano"))
    start.add_argument("--out", type=Path, required=True)
    last = verbs.add_parser("ship", help="copy a trained folder and write its model card")
    last.add_argument("trained", type=Path)
    last.add_argument("--out", type=Path, required=True)
    last.add_argument("--scores", type=Path, required=True, help="what `python -m xverse_v.nano.evaluate` wrote")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.verb == "parts":
        torch.set_num_threads(given.threads)
        make_parts(given.work, given.only, given.scale)
    elif given.verb == "start":
        write_start(given.work / "tower", given.work / "words", given.out, PROJECTOR_SEED)
    else:
        ship(given.trained, given.out, FACTS, json.loads(given.scores.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
