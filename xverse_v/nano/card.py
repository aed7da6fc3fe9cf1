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

The built-in model of this package: {parameters:.1f} million parameters that answer questions about made images. It
has the architecture of XVERSE-V-13B at a small size (CLIP vision tower, projector, Llama decoder, tiles, the same
prompt form) and went through the same two stages, in the package's own trainer. **It was not made by XVERSE and
shares no weights with their models.** It exists so that every command of the package can be tried, tested and
measured offline on a laptop.

## What it knows, in English and Chinese

- scenes of up to six flat shapes (circle, square, triangle, star, heart) in eight colours: colour, shape, count, place
  (nine places), size, comparison, yes or no, a list of everything;
- tags of three characters in large images, readable only in the tiles ("What number is on the red tag?");
- bar, line and pie charts: values from 1 to 9 or in tenths, largest, smallest, comparison;
- handwritten digits in scenes;
- follow-up questions, two images, a few sentences about itself;
- "I cannot see that in the image." for what it does not see.

## What it cannot do

Photographs, other text, other charts, dark or textured backgrounds, overlapping objects, more than six objects, two
objects in one ninth of the image, three images, other questions, other languages. It answers or refuses all the same,
and the answer is then worth nothing. What its tags say is three of 32 characters (no I, J, O, Q) that fit one tile.
"""
_TRAINING = """
## How it was made

1. Stand-ins for CLIP and XVERSE-13B-Chat, which are given in the real recipe. The vision tower learns from labels for
   every patch that the drawing program knows. The decoder learns to answer on images that are written out as sums of
   word-like vectors, without a pixel; six of the eight heads of a layer are set by hand at the start to look for a
   named colour, shape, place or character and are trained like the rest (`decoder.py`).
2. Stage 1, `recipes/nano/pretrain.yaml`: the projector alone, on image-text pairs.
3. Stage 2, `recipes/nano/finetune.yaml`: projector and LoRA on all linears of the decoder, two rates; LoRA is merged.
4. The same once more with fresh adapters at half the rates, `recipes/nano/polish.yaml`.

All data is drawn and worded from seeds by `xverse_v/nano`; the handwriting is the UCI set of scikit-learn, of which
every fifth sample is kept for testing. There is no other data.
"""
# Rows of the table, in this order; kinds of question follow in docs/evidence.md.
ROWS = (
    "scenes", "small text", "small text, global view only", "charts", "handwritten digits", "follow-up and two images",
    "refusals", "wrong refusals", "English", "Chinese",
)  # fmt: skip


def percent(value: float) -> str:
    """0.954 -> "95.4 %"."""
    return f"{100 * value:.1f} %"


def score_table(scores: Mapping[str, Any], rows: tuple[str, ...] = ROWS) -> list[str]:
    """Lines of a Markdown table. `scores`: row -> right, asked, share, interval."""
    lines = ["| row | right | of | share | 95 % interval |", "|---|---|---|---|---|"]
    for name in rows:
        if name in scores:
            share, low, high = (percent(value) for value in (scores[name]["share"], *scores[name]["interval"]))
            lines.append(f"| {name} | {scores[name]['right']} | {scores[name]['asked']} | {share} | {low} to {high} |")
    return lines


def model_card(parameters: int, facts: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Markdown. `facts`: name -> fact of the training; `measured`: what `evaluate` wrote (settings, scores)."""
    lines = [_HEAD.format(parameters=parameters / 1e6)]
    lines += [
        "## Measured\n",
        "Whole answer equal to the truth, greedy decoding, float32; images, questions and handwriting no step saw;",
    ]
    lines += ['95 % Wilson intervals. "wrong refusals" is the share of answerable questions that were refused.\n']
    lines += score_table(measured["scores"])
    settings = measured["settings"]
    asked = f"--questions {settings['questions']} --start {settings['start']}"
    lines.append(f"\nMade by `python -m xverse_v.nano.evaluate nano {asked}`.")
    lines += [_TRAINING, "| fact | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    lines.append("\n`make nano` makes it again.")
    return "\n".join(lines) + "\n"
