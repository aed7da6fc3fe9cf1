"""The built-in model's own questions as benchmark files in VLMEvalKit's form, so that any harness can ask them.

    python -m xverse_v.nano.benchmarks OUT [--questions 1000] [--start 0] [--rows scenes,charts]
    xverse-v eval run --data OUT/nano_charts.tsv --work-dir results

What crosses: rows of `items.py` -> `OUT/nano_{row}.tsv`. Columns: `index`; `image`, the PNG in base64, or the index of
the row whose image it shares, or a list of two; `question`; `answer`; `category`, the kind of question; `language`. An
answer is right if it equals the truth whole. The same command writes the same bytes.

Follow-up questions have no place in this form, which knows no turns: `evaluate` alone asks them. Small text at the
global view alone is the same file asked of a model with one tile at most. Of two images a harness must show both: one
that shows the first alone, as that of the release did, does not measure them. This file refuses to know about models.
"""

from __future__ import annotations

import argparse
import base64
import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from xverse_v.nano.data import encoded
from xverse_v.nano.items import ROWS, Item, items

log = logging.getLogger(__name__)
COLUMNS = ("index", "image", "question", "answer", "category", "language")
FILED = tuple(row for row in ROWS if row != "follow-up")


def file_name(row: str) -> str:
    """The file of a row: "small text" -> "nano_small_text.tsv"."""
    return f"nano_{row.replace(' ', '_')}.tsv"


def _cell(images: Sequence[Image.Image]) -> str:
    """One image as base64, several as a list of them."""
    texts = [base64.b64encode(encoded(image)).decode("ascii") for image in images]
    return texts[0] if len(texts) == 1 else str(texts)


def records(asked: Iterator[Item]) -> Iterator[tuple[str, ...]]:
    """The cells of every question, in the order of `COLUMNS`. Questions about one picture must follow each other.

    Raises `ValueError` for a question with earlier turns.
    """
    shown: tuple[Image.Image, ...] = ()
    first = -1
    for index, item in enumerate(asked):
        if item.history:
            raise ValueError(f"{item.key} has earlier turns, which a table of questions cannot hold")
        if item.images is not shown:
            shown, first = item.images, index
        image = _cell(shown) if first == index else str(first)
        yield str(index), image, item.qa.question, item.qa.answer, item.qa.kind, item.qa.language


def write_benchmark(path: Path, row: str, questions: int, start: int = 0) -> None:
    """One row as one file, complete or not there. Raises `ValueError` for follow-up questions."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(records(items(row, questions, start)))
    partial.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the built-in model's questions as benchmark files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=1000, help="questions a file")
    parser.add_argument("--start", type=int, default=0, help="first picture of the test split")
    parser.add_argument("--rows", default=",".join(FILED), help="rows, separated by commas")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = given.rows.split(",")
    if unknown := [row for row in rows if row not in FILED]:
        parser.error(f"--rows: {', '.join(unknown)}; expected some of {', '.join(FILED)}")
    given.folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        path = given.folder / file_name(row)
        write_benchmark(path, row, given.questions, given.start)
        log.info("%s: %d questions, %.1f MB", path, given.questions, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
