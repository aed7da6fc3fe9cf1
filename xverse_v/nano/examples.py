"""The example images that the repository ships, and what may be asked about them.

What crosses: a folder -> `images/*.png` and `questions.jsonl` (id, image, question, answer, language, kind), which
`xverse-v batch` reads too. The pictures come from a split of their own, so no training step has seen them, nor the
handwriting in them. They were picked by their look; the answers are the truth of the pictures, not the model's, so
some of them it gets wrong. Examples measure nothing; `evaluate` measures.

    python -m xverse_v.nano.examples examples
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xverse_v.nano import ask_board, ask_chart, questions
from xverse_v.nano.charts import Chart
from xverse_v.nano.concepts import Picture
from xverse_v.nano.detail import Board
from xverse_v.nano.questions import QA
from xverse_v.nano.rows import make_picture
from xverse_v.nano.world import Scene, make_scene, split_seed


@dataclass(frozen=True)
class Example:
    """An example image: its file name, what kind of picture, its number in the split, and for scenes the canvas."""

    name: str
    kind: str
    index: int
    canvas: tuple[int, int] | None = None

    def picture(self) -> Picture:
        """The picture behind the image."""
        seed = split_seed("examples", self.index)
        if self.canvas:
            return make_scene(seed, self.canvas, written=self.kind == "written")
        return make_picture(self.kind, seed)


EXAMPLES = (
    Example("shapes", "scene", 6, (448, 448)),
    Example("landscape", "scene", 27, (672, 448)),
    Example("portrait", "scene", 4, (448, 672)),
    Example("tags", "board", 3),
    Example("large", "board", 52),
    Example("panorama", "board", 87),
    Example("bars", "chart", 2),
    Example("lines", "chart", 6),
    Example("pie", "chart", 52),
    Example("digits", "written", 3, (448, 448)),
)
KINDS: dict[type, tuple[str, ...]] = {
    Scene: ("colour_of", "where", "count_all", "larger", "what_at", "count_colour", "same_colour", "describe"),
    Board: ("tag_text", "tag_count", "tag_exists"),
    Chart: ("value", "largest", "compare", "chart"),
}
WRITTEN_KINDS = ("digit_at", "digit_count", "digit_where")


def _question(rng: random.Random, picture: Picture, kind: str, language: str) -> QA | None:
    if isinstance(picture, Board):
        return ask_board.make_question(rng, picture, kind, language, plain=True)
    if isinstance(picture, Chart):
        return ask_chart.make_question(rng, picture, kind, language, plain=True)
    assert isinstance(picture, Scene)
    return questions.make_question(rng, picture, kind, language, plain=True)


def questions_of(picture: Picture, seed: int) -> Iterator[QA]:
    """Up to six plain questions about a picture, three in each language, of kinds that it allows."""
    rng = random.Random(seed)
    kinds = WRITTEN_KINDS if isinstance(picture, Scene) and picture.digits else KINDS[type(picture)]
    for language in ("en", "zh"):
        made = 0
        for kind in [kinds[0], *rng.sample(kinds[1:], len(kinds) - 1)]:
            qa = _question(rng, picture, kind, language)
            if qa is not None and made < 3:
                made += 1
                yield qa


def write_examples(folder: Path) -> int:
    """Writes images and questions; returns the number of questions."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for example in EXAMPLES:
        picture = example.picture()
        path = folder / "images" / f"{example.name}.png"
        picture.draw().save(path, optimize=True)
        for number, qa in enumerate(questions_of(picture, example.index), start=1):
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
