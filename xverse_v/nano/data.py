"""The built-in model's training data as files, in the formats that everyone's data comes in.

    python -m xverse_v.nano.data data/nano [--pairs 24000] [--conversations 32000]

What crosses: a folder name in; out come `pairs-00000.tar` ... (image and caption, for stage 1), `conversations.json`
and `held_out.json` (LLaVA's form, for stage 2) with `images/`. The same command writes the same bytes. This file
decides the mix of both stages; it refuses to know how they are trained. Files to measure with: `benchmarks.py`.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import tarfile
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from xverse_v.nano import phrases
from xverse_v.nano.ask import LANGUAGES, ask, ask_two, caption, refuse
from xverse_v.nano.concepts import Picture
from xverse_v.nano.detail import make_card
from xverse_v.nano.questions import QA
from xverse_v.nano.rows import PRACTICE, make_picture
from xverse_v.nano.views import picture_grid
from xverse_v.nano.world import make_scene, split_seed

log = logging.getLogger(__name__)
PAIRS_A_SHARD = 500
TURNS = 4
LOG_EVERY = 2000  # conversations
HELD_OUT = 2**38  # first number of the held-out conversations in their split
# What sample number n is about, by n modulo the length.
PAIR_MIX = ("scene", "card", "chart", "written", "scene", "card", "chart", "card", "board")
TALK_MIX = (
    "scene", "board", "chart", "written", "pair", "board", "scene", "written", "board", "scene", "chart", "pair",
    "board", "written", "scene", "board", "scene", "pair", "chart", "written", "scene", "talk",
)  # fmt: skip


def png(picture: Picture) -> bytes:
    """The picture as a file."""
    return encoded(picture.draw())


def encoded(image: Image.Image) -> bytes:
    """PNG, quickly."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)
    return stream.getvalue()


# Stage 1 --------------------------------------------------------------------------------------------------------------


def _small_picture(kind: str, seed: int) -> Picture:
    """A picture of one view, a board of two by two tiles; charts and boards are looked for from `seed` on."""
    if kind == "card":
        return make_card(seed)
    if kind in ("scene", "written"):
        return make_scene(seed, (224, 224), written=kind == "written")
    end = (seed // 2**40 + 1) * 2**40
    while True:
        picture = make_picture(kind, seed)
        if picture_grid(picture).tiles == (4 if kind == "board" else 1):
            return picture
        seed += 2**36
        if seed >= end:  # stay inside the split's own block of seeds
            seed += 2**30 - 2**40


def _pair(number: int) -> tuple[bytes, str]:
    picture = _small_picture(PAIR_MIX[number // 2 % len(PAIR_MIX)], split_seed("pretrain", number))
    # Languages take turns, as the recipe's `pair_questions` do; rows are counted from 1.
    return png(picture), caption(picture, LANGUAGES[(number + 1) % 2]).answer


def write_shard(folder: Path, start: int, stop: int) -> Path:
    """One tar shard of `N.png` and `N.txt`."""
    path = folder / f"pairs-{start // PAIRS_A_SHARD:05}.tar"
    with tarfile.open(path.with_suffix(".partial"), "w") as shard:
        for number in range(start, stop):
            image, text = _pair(number)
            for name, content in ((f"{number:06}.png", image), (f"{number:06}.txt", text.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    path.with_suffix(".partial").rename(path)
    return path


def _write_shard(numbers: tuple[Path, int, int]) -> Path:
    return write_shard(*numbers)


# Stage 2 --------------------------------------------------------------------------------------------------------------


def _turns(asked: list[QA], images: int) -> list[dict[str, str]]:
    turns = []
    for index, qa in enumerate(asked):
        marks = "<image>\n" * images if index == 0 else ""
        turns += [{"from": "human", "value": marks + qa.question}, {"from": "gpt", "value": qa.answer}]
    return turns


def _talk(rng: random.Random) -> list[QA]:
    """Two turns without an image: small talk, and a question that needs an image."""
    asked = []
    for _ in range(2):
        questions, answer = rng.choice(phrases.SMALL_TALK)
        asked.append(QA("talk", "en", rng.choice(questions), answer))
    language = rng.choice(LANGUAGES)
    (missing,) = ask(rng, make_scene(rng.randrange(2**39)), 1)
    asked.insert(rng.randrange(3), QA("talk", language, missing.question, phrases.NO_IMAGE[missing.language]))
    return asked


def conversation(number: int) -> tuple[list[bytes], list[QA]]:
    """Images and turns of sample `number`. Long answers come last: what follows could be copied from them."""
    kind, seed = TALK_MIX[number % len(TALK_MIX)], split_seed("finetune", number)
    rng = random.Random(seed + 1)
    if kind == "talk":
        return [], _talk(rng)
    if kind == "pair":
        pair = (make_scene(seed, (224, 224)), make_scene(seed + 2**30, (224, 224)))
        return [png(scene) for scene in pair], ask_two(rng, pair, TURNS)
    picture = make_picture(kind, seed)
    asked = ask(rng, picture, TURNS, PRACTICE if kind == "scene" else None)
    asked += refuse(rng, picture, 1) if rng.random() < 0.6 else []
    rng.shuffle(asked)
    asked.sort(key=lambda qa: qa.kind == "describe")
    if rng.random() < 0.25:
        asked.append(caption(picture, rng.choice(LANGUAGES)))
    return [png(picture)], asked


def _record(folder: Path, number: int) -> dict[str, Any]:
    images, asked = conversation(number)
    names = [f"images/{number:06}-{index}.png" for index in range(len(images))]
    for name, content in zip(names, images, strict=True):
        (folder / name).write_bytes(content)
    held: dict[str, Any] = {"id": f"nano-{number}"}
    if names:
        held["image"] = names[0] if len(names) == 1 else names
    return {**held, "conversations": _turns(asked, len(names))}


class _Recorder:
    """Writes one sample's images and returns its record; a class, so that other processes can be given it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> dict[str, Any]:
        return _record(self.folder, number)


def write_conversations(folder: Path, name: str, numbers: range, spread: Callable[..., Iterator[Any]]) -> None:
    """LLaVA JSON with its images beside it."""
    (folder / "images").mkdir(exist_ok=True)
    records = []
    for record in spread(_Recorder(folder), numbers, 50):
        records.append(record)
        if len(records) % LOG_EVERY == 0:
            log.info("%s: %d of %d conversations drawn", name, len(records), len(numbers))
    text = "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n"
    (folder / name).write_text(text, encoding="utf-8")


def write_data(folder: Path, pairs: int, conversations: int, workers: int) -> None:
    """Both stages' data. Shards that are there are kept; each holds what its number says."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = [s for s in range(0, pairs, PAIRS_A_SHARD) if not (folder / f"pairs-{s // PAIRS_A_SHARD:05}.tar").exists()]
    with get_context("spawn").Pool(workers) as crew:
        work = [(folder, start, min(pairs, start + PAIRS_A_SHARD)) for start in starts]
        for count, path in enumerate(crew.imap(_write_shard, work), start=1):
            log.info("%s written, %d of %d shards", path, count, len(work))
        for name, numbers in (
            ("held_out.json", range(HELD_OUT, HELD_OUT + max(16, conversations // 50))),
            ("conversations.json", range(conversations)),
        ):
            write_conversations(folder, name, numbers, crew.imap)
    log.info("wrote %d pairs and %d conversations to %s", pairs, conversations, folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw the built-in model's data.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=24000, help="image-text pairs of stage 1")
    parser.add_argument("--conversations", type=int, default=32000, help="conversations of stage 2")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_data(given.folder, given.pairs, given.conversations, given.workers)


if __name__ == "__main__":
    main()
