"""Data for the nano recipes: captions in tar shards, and questions with Chinese answers as LLaVA JSON, drawn from
seeds.

    python recipes/nano/make_data.py data/nano [--samples 256]

What crosses: a folder name in; `captions-00000.tar`, `train.json`, `held_out.json` and `images/` out. The same
command writes the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

from xverse_v.nano.questions import QA, make_question
from xverse_v.nano.world import Scene, draw, make_scene, split_seed

FIRST = {"train.json": 2**30, "held_out.json": 2**31, "captions": 2**32}
SHARD = 128


def scene(name: str, number: int) -> Scene:
    """Scene `number` of one of the three sets; sets do not meet."""
    return make_scene(split_seed("joint", FIRST[name] + number), (224, 224))


def description(found: Scene, number: int, language: str) -> QA:
    """What is in the image: asks nothing particular, so the two languages can be exchanged."""
    made = make_question(random.Random(number), found, "describe", language, plain=True)
    assert made is not None, "every scene can be described"
    return made


def png(found: Scene) -> bytes:
    """The scene's image as a file."""
    stream = io.BytesIO()
    draw(found).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def write_captions(folder: Path, samples: int) -> None:
    """Tar shards of `N.png` and `N.txt`."""
    for start in range(0, samples, SHARD):
        with tarfile.open(folder / f"captions-{start // SHARD:05}.tar", "w") as shard:
            for number in range(start, min(samples, start + SHARD)):
                found = scene("captions", number)
                caption = description(found, number, "en").answer.encode()
                for name, content in ((f"{number:06}.png", png(found)), (f"{number:06}.txt", caption)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def write_questions(folder: Path, name: str, samples: int) -> None:
    """LLaVA JSON: an English question, the Chinese answer."""
    records: list[dict[str, Any]] = []
    for number in range(samples):
        found = scene(name, number)
        image = f"images/{name.removesuffix('.json')}-{number:06}.png"
        (folder / image).write_bytes(png(found))
        asked, answered = (description(found, number, language) for language in ("en", "zh"))
        turns = [{"from": "human", "value": f"<image>\n{asked.question}"}, {"from": "gpt", "value": answered.answer}]
        records.append({"id": f"{name.removesuffix('.json')}-{number}", "image": image, "conversations": turns})
    (folder / name).write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw the data of the nano recipes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=256, help="training samples of each stage")
    given = parser.parse_args()
    (given.folder / "images").mkdir(parents=True, exist_ok=True)
    write_captions(given.folder, given.samples)
    write_questions(given.folder, "train.json", given.samples)
    write_questions(given.folder, "held_out.json", max(16, given.samples // 8))


if __name__ == "__main__":
    main()
