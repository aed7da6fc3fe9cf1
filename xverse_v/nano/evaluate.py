"""How good the built-in model is: greedy answers through the product's own engine, on unseen seeds.

What crosses: a model folder -> rows with counts, shares and 95 % Wilson intervals. A question counts as right only if
the whole answer equals the truth. This file knows nothing of how the model was trained.

    python -m xverse_v.nano.evaluate FOLDER [--questions 1000] [--start 0] [--rows scenes,charts] [--out scores.json]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.loading import load
from xverse_v.inference.prompt import Message
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.nano import phrases
from xverse_v.nano.items import ROWS, Item, items

log = logging.getLogger(__name__)
BATCH = 16
LONGEST = 128
GLOBAL_ONLY = "small text, global view only"
REFUSALS = tuple(phrases.REFUSAL.values())


def _request(item: Item, max_tiles: int | None) -> Request:
    """The chat that the product would send; images stand in front of the first question."""
    history: list[Message] = []
    images = item.images
    for question, answer in item.history:
        history += [Message("user", question, images), Message("assistant", answer)]
        images = ()
    settings = SamplingSettings(max_new_tokens=LONGEST)
    return Request(item.qa.question, images, history=tuple(history), max_tiles=max_tiles, settings=settings)


def answers(assistant: Assistant, asked: Sequence[Item], max_tiles: int | None = None) -> list[str]:
    """Greedy answers in the order of the items."""
    requests = [_request(item, max_tiles) for item in asked]
    return [answer.text.strip() for answer in assistant.batch(requests, batch_size=BATCH)]


def wilson(right: int, asked: int) -> tuple[float, float]:
    """95 % Wilson interval of a share. Source: E. B. Wilson, 1927."""
    z, share = 1.96, right / asked
    middle = share + z * z / (2 * asked)
    reach = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return (middle - reach) / (1 + z * z / asked), (middle + reach) / (1 + z * z / asked)


def _tally(asked: Sequence[Item], said: Sequence[str], row: str, tally: dict[str, list[bool]]) -> None:
    for item, text in zip(asked, said, strict=True):
        right = text == item.qa.answer
        tally.setdefault(row, []).append(right)
        tally.setdefault(f"{row} / {item.qa.kind}", []).append(right)
        if row == GLOBAL_ONLY:
            continue
        tally.setdefault("English" if item.qa.language == "en" else "Chinese", []).append(right)
        if row != "refusals":
            tally.setdefault("wrong refusals", []).append(text in REFUSALS)


def evaluate(
    folder: str | Path, questions: int, *, start: int = 0, rows: Iterable[str] = ROWS, max_tiles: int | None = None
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Scores by row and kind of question, and the wrong answers. `max_tiles` holds for every row."""
    assistant = load(folder, dtype="float32", device="cpu")
    tally: dict[str, list[bool]] = {}
    wrong: list[dict[str, str]] = []
    for row in rows:
        asked = list(items(row, questions, start))
        for name, most in ((row, max_tiles), (GLOBAL_ONLY, 1)):
            if name == GLOBAL_ONLY and row != "small text":
                continue
            began = time.perf_counter()
            said = answers(assistant, asked, most)
            _tally(asked, said, name, tally)
            log.info("%s: %.1f %%, %.0f s", name, 100 * sum(tally[name]) / len(asked), time.perf_counter() - began)
            wrong += [
                {"key": item.key, "row": name, "question": item.qa.question, "truth": item.qa.answer, "said": text}
                for item, text in zip(asked, said, strict=True)
                if text != item.qa.answer and name != GLOBAL_ONLY
            ]
    both = tally.get("follow-up", []) + tally.get("two images", [])
    if both:
        tally["follow-up and two images"] = both
    return {name: _share(values) for name, values in tally.items()}, wrong


def _share(values: Sequence[bool]) -> dict[str, Any]:
    right, asked = sum(values), len(values)
    return {"right": right, "asked": asked, "share": right / asked, "interval": wilson(right, asked)}


def report(scores: Mapping[str, Any]) -> str:
    """The table for people."""
    lines = []
    for name, row in scores.items():
        low, high = (100 * value for value in row["interval"])
        lines.append(
            f"{name:44s} {row['right']:5d} / {row['asked']:5d}  {100 * row['share']:5.1f} %  [{low:.1f}, {high:.1f}]"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Score a built-in model on unseen seeds.")
    parser.add_argument("folder", type=str, help="a model folder, or nano")
    parser.add_argument("--questions", type=int, default=1000, help="questions a row")
    parser.add_argument("--start", type=int, default=0, help="first picture of the test split")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows, separated by commas")
    parser.add_argument("--max-tiles", type=int, help="most tiles of an image, for all rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write scores and wrong answers as JSON")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(given.threads)
    scores, wrong = evaluate(
        given.folder, given.questions, start=given.start, rows=given.rows.split(","), max_tiles=given.max_tiles
    )
    log.info("%s", report(scores))
    for one in wrong[:30]:
        log.info("wrong: %s", one)
    if given.out:
        facts = {"questions": given.questions, "start": given.start, "max_tiles": given.max_tiles}
        given.out.write_text(
            json.dumps({"settings": facts, "scores": scores, "wrong": wrong}, ensure_ascii=False, indent=1)
        )


if __name__ == "__main__":
    main()
