"""What grouping rows by image is worth: a GQA-like run beside the same questions asked one at a time, nothing reused.

    python benchmarks/eval_throughput.py [--model nano|FOLDER] [--images 10] [--questions 30] [--batch-size N]

GQA asks about thirty questions an image. An image of 672x448 becomes 7 views, and its tokens are nearly the whole
prompt; prefilled once, thirty questions cost little more than one. The run is the evaluation's own (`ask`, with its
predictions on disk), the other side a model without any cache that gets one prompt at a time. Both must give the same
answers, or the numbers are not printed. The ceiling is where prefills alone count: rows divided by images.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import json
import os
import platform
import random
import tempfile
import time
from datetime import date
from pathlib import Path

from PIL import Image, ImageDraw

from xverse_v.evaluation.bundle import RunFolder
from xverse_v.evaluation.contract import ImageRef, Prompt, Row
from xverse_v.evaluation.models.images import ImageRule
from xverse_v.evaluation.models.ours import XverseModel, own_batch_size
from xverse_v.evaluation.pick import tasks_of
from xverse_v.evaluation.run import ask, finish
from xverse_v.evaluation.tsv import image_bytes
from xverse_v.inference.answer import versions
from xverse_v.inference.assistant import Assistant
from xverse_v.inference.loading import load
from xverse_v.inference.sampling import SamplingSettings

SIZE = (672, 448)  # 3 x 2 tiles and the global view
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "block", "dot", "shape", "thing")
WORDS = (
    "What colour is the {}?",
    "Is the {} red?",
    "Is there a {} on the left?",
    "Where is the {}?",
    "How big is the {}?",
)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        data = _data(Path(folder) / "GQA_TestDev_Balanced.tsv", options.images, options.questions)
        (task,) = tasks_of([f"GQA_TestDev_Balanced={data}"], "release")
        alone_assistant = load(options.model, device=options.device, cache_bytes=0, feature_cache_bytes=0)
        questions = [
            _question(row.key, task.benchmark.prompt(row, task.profile))
            for row in task.benchmark.rows(data, task.profile, None)
            if isinstance(row, Row)
        ]
        _alone(alone_assistant, questions[:1])  # warm up
        clock = _Clock()
        alone = _alone(alone_assistant, questions)
        alone_seconds = clock.seconds()

        assistant = load(options.model, device=options.device)
        options.batch_size = options.batch_size or own_batch_size(assistant)
        model = XverseModel(assistant, "run", ImageRule(), batch_size=options.batch_size)
        warm = Prompt(("Warm up?",), max_new_tokens=2)
        next(iter(model.answers([("warm", warm)])))
        clock = _Clock()
        report = finish(ask(task, model, Path(folder) / "work"), model)
        run_seconds = clock.seconds()
        answers = {row.key: prediction.text for row, prediction in RunFolder(report.folder).answered()}
    if answers != alone:
        changed = [key for key in alone if alone[key] != answers.get(key)]
        raise SystemExit(f"{len(changed)} of {len(alone)} answers differ: {changed[:5]}")
    _show(options, model, len(alone), alone_seconds, run_seconds)


class _Clock:
    """Seconds since it was made, by the wall and of this process's processors: on a busy machine only these compare."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._processor


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default=None)
    parser.add_argument("--images", type=int, default=10, help="GQA has 398; of few, the end weighs")
    parser.add_argument("--questions", type=int, default=30, help="an image")
    parser.add_argument("--batch-size", type=int, help="default: that of eval run")
    return parser.parse_args()


def _data(path: Path, images: int, questions: int) -> Path:
    """A GQA table of made images; the rows of an image are not neighbours."""
    dice = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["index", "image", "question", "answer"])
        for number in range(images * questions):
            image = number % images
            cell = _image(image) if number < images else str(image)
            question = dice.choice(WORDS).format(f"{dice.choice(COLOURS)} {dice.choice(SHAPES)}")
            writer.writerow([number, cell, question, "yes"])
    return path


def _image(seed: int) -> str:
    dice = random.Random(seed)
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, side = dice.randrange(SIZE[0] - 120), dice.randrange(SIZE[1] - 120), dice.randrange(40, 120)
        draw.ellipse((x, y, x + side, y + side), fill=dice.choice(COLOURS))
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def _question(key: str, prompt: Prompt) -> tuple[str, bytes, str, int]:
    """A row as somebody asks it who knows nothing of the others: an image file, a text, the longest answer."""
    image, text = prompt.parts
    assert isinstance(image, ImageRef) and isinstance(text, str)
    return key, image_bytes(image), text, prompt.max_new_tokens


def _alone(assistant: Assistant, questions: list[tuple[str, bytes, str, int]]) -> dict[str, str]:
    return {
        key: assistant.ask(image, text, settings=SamplingSettings(max_new_tokens=longest), reuse="off").text
        for key, image, text, longest in questions
    }


def _show(
    options: argparse.Namespace,
    model: XverseModel,
    rows: int,
    alone: tuple[float, float],
    run: tuple[float, float],
) -> None:
    times = [before / after for before, after in zip(alone, run, strict=True)]
    record = {
        "what": "eval_throughput",
        "date": date.today().isoformat(),
        "model": options.model,
        "weights_id": model.facts["weights_id"],
        "device": model.facts["device"],
        "dtype": model.facts["dtype"],
        "threads": model.facts["threads"],
        "machine": platform.machine(),
        "versions": dict(versions()),
        "images": options.images,
        "questions_an_image": options.questions,
        "views": 7,
        "batch_size": options.batch_size,
        "rows": rows,
        "alone_rows_per_second": round(rows / alone[0], 3),
        "run_rows_per_second": round(rows / run[0], 3),
        "times": round(times[0], 2),
        "alone_processor_seconds": round(alone[1], 3),
        "run_processor_seconds": round(run[1], 3),
        "times_by_processor": round(times[1], 2),
        "load_average": round(os.getloadavg()[0], 1),
        "ceiling": options.questions,
        "answers_identical": True,
    }
    print(f"{'':28}{'seconds':>10}{'rows/s':>10}{'processor seconds':>20}")
    print(f"{'one at a time, no reuse':28}{alone[0]:10.2f}{rows / alone[0]:10.2f}{alone[1]:20.2f}")
    print(f"{'eval run, batch ' + str(options.batch_size):28}{run[0]:10.2f}{rows / run[0]:10.2f}{run[1]:20.2f}")
    print(f"{times[0]:.1f} times by the wall, {times[1]:.1f} by processor seconds; {rows} answers identical")
    print(f"the ceiling is {options.questions}, the rows of an image")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
