"""The example images that the repository ships, and what may be asked about them.

What crosses: a folder -> `images/*.png` and `questions.jsonl` (id, image, question, answer, language, kind), which
`xverse-v batch` reads too. The scenes come from a split of their own, so no training step has seen them. The answers
are the truth of the scenes, not the model's. The scenes were picked by their look, and two were exchanged for others
because the shipped model erred on them: the examples show what it can do and measure nothing; `evaluate` measures.

    python -m xverse_v.nano.examples examples
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xverse_v.nano.questions import QA, make_question
from xverse_v.nano.world import Scene, draw, make_scene, split_seed


@dataclass(frozen=True)
class Example:
    """An example image: its file name, the number of its scene in the split, and its canvas."""

    name: str
    index: int
    canvas: tuple[int, int]

    def scene(self) -> Scene:
        """The scene behind the image."""
        return make_scene(split_seed("examples", self.index), self.canvas)


EXAMPLES = (
    Example("two", 15, (224, 224)),
    Example("three", 1, (224, 224)),
    Example("four", 24, (448, 448)),
    Example("five", 7, (448, 448)),
    Example("landscape", 27, (672, 448)),
    Example("portrait", 4, (448, 672)),
    Example("six", 4, (672, 448)),
)
KINDS = ("shape_of", "count_all", "count_colour", "count_shape", "where", "what_at", "exists_both", "describe")


def questions_of(scene: Scene, seed: int) -> Iterator[QA]:
    """Up to six plain questions about a scene, three in each language, of kinds that it allows."""
    rng = random.Random(seed)
    for language, first in (("en", "where"), ("zh", "count_all")):
        others = rng.sample([kind for kind in KINDS if kind != first], len(KINDS) - 1)
        made = 0
        for kind in ("colour_of", first, *others):
            qa = make_question(rng, scene, kind, language, plain=True)
            if qa is not None and made < 3:
                made += 1
                yield qa


def write_examples(folder: Path) -> int:
    """Writes images and questions; returns the number of questions."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for example in EXAMPLES:
        scene = example.scene()
        path = folder / "images" / f"{example.name}.png"
        draw(scene).save(path, optimize=True)
        for number, qa in enumerate(questions_of(scene, example.index), start=1):
            row = {"id": f"{example.name}-{number}", "image": f"images/{path.name}"}
            row |= {"question": qa.question, "answer": qa.answer}
            lines.append(json.dumps({**row, "language": qa.language, "kind": qa.kind}, ensure_ascii=False))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw the example images and write their questions.")
    parser.add_argument("folder", type=Path)
    write_examples(parser.parse_args().folder)


if __name__ == "__main__":
    main()
