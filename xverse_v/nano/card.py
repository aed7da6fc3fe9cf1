"""The model card of the built-in model, from its training facts and its measured scores.

What crosses: plain mappings in, Markdown out. This file measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = """\
---
license: apache-2.0
language: [en, zh]
pipeline_tag: image-text-to-text
---

# nano

The built-in model of this package: 3.5 million parameters that answer questions about images of coloured shapes. It
has the architecture of XVERSE-V-13B at a small size (CLIP vision tower, projector, Llama decoder, the same prompt
form), and it was trained by the code in `xverse_v/nano`. **It was not made by XVERSE and shares no weights with their
models.** It exists so that every command of the package can be tried, tested and measured offline on a laptop.

## What it can do

On images of one to six flat shapes on a light, plain background, in English and Chinese, it tells
- colour: red, orange, yellow, green, blue, purple, pink, black;
- shape: circle, square, triangle, star, heart;
- count: of all shapes, of a colour, of a shape (0 to 6);
- place: nine places, from "top left" over "centre" to "bottom right";
- whether something is there, and a list of everything in reading order.
It answers follow-up questions about the same image, and says a few sentences about itself without one.

## What it cannot do

Photographs, text, drawings, dark or textured backgrounds, overlapping objects, more than six objects, two objects in
one ninth of the image, several images in one prompt, other questions, other languages. It answers all the same, and
the answer is then worth nothing. Its tiles carry no information that its global view lacks.
"""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _scores(scores: Mapping[str, Any]) -> list[str]:
    lines = [
        "\n## Measured\n",
        "Whole answer equal to the truth, greedy decoding, float32, images and questions of seeds that no step saw;",
        "95 % Wilson intervals. Made by `python -m xverse_v.nano.evaluate FOLDER --start 1000`.\n",
        "| group | right | of | share | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for name, row in scores.items():
        share, low, high = (_percent(value) for value in (row["share"], *row["interval"]))
        lines.append(f"| {name} | {row['right']} | {row['asked']} | {share} | {low} to {high} |")
    return lines


def model_card(source: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """Markdown. `source`: name -> fact of the training; `scores`: group -> right, asked, share, interval."""
    lines = [_HEAD]
    if scores:
        lines += _scores(scores)
    lines += [
        "\n## How it was trained\n",
        "1. The vision tower learns from labels for every patch that the drawing program knows.",
        "2. The decoder learns to answer on images that are written out as sums of word-like vectors, without a pixel.",
        "   Some heads of its attention are set by hand at the start to look for a named colour, shape or place;",
        "   they are trained like the rest (`decoder.py`). From a plain start it stayed near 60 % on colours.",
        "3. The projector learns to write those vectors from the tower's features; both neighbours are frozen.",
        "4. Projector and decoder learn together from pixels and answers; the tower stays frozen. (The release trains",
        "   its decoder through LoRA; here all of the decoder is trained, because it starts from nothing.)\n",
        "All data is drawn and worded from seeds by `xverse_v/nano/world.py` and `questions.py`; there is no other.\n",
        "| fact | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in source.items()),
        "\nTo train it again: `python -m xverse_v.nano.build --out FOLDER`.",
    ]
    return "\n".join(lines) + "\n"
