"""Questions about boards of tags, with their true answers, in English and Chinese.

What crosses: a `Board` and a seeded generator -> `QA` (kind, language, question, answer). What the board does not settle
is never asked here. Templates: `{c}` is a colour, `{w}` "number" or "text".
"""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import random

from xverse_v.nano import phrases
from xverse_v.nano.concepts import COLOURS
from xverse_v.nano.detail import Board
from xverse_v.nano.questions import QA

KINDS = {"tag_text": 14, "tag_only": 5, "tag_count": 3, "tag_exists": 3}
ASK = {
    "en": {
        "tag_text": (
            "What {w} is on the {c} tag?", "What is written on the {c} tag?", "What does the {c} tag say?",
            "Read the {c} tag.", "Which {w} is on the {c} tag?", "What is the {w} on the {c} tag?",
        ),
        "tag_only": ("What {w} is on the tag?", "What is written on the tag?", "What does the tag say?", "Read the tag."),
        "tag_count": ("How many tags are there?", "How many tags are in the image?", "Count the tags."),
        "tag_exists": ("Is there a {c} tag?", "Is there a {c} tag in the image?", "Can you see a {c} tag?"),
    },
    "zh": {
        "tag_text": (
            "{c}标签上是什么{w}？", "{c}标签上写的是什么？", "{c}的标签上写着什么？", "请读出{c}标签。", "{c}标签上的{w}是什么？",
        ),
        "tag_only": ("标签上是什么{w}？", "标签上写的是什么？", "标签上写着什么？", "请读出标签。"),
        "tag_count": ("有几个标签？", "图里有几个标签？", "一共有多少个标签？"),
        "tag_exists": ("有{c}的标签吗？", "图里有{c}标签吗？", "有没有{c}标签？"),
    },
}  # fmt: skip
NOUN = {"en": ("number", "text"), "zh": ("数字", "文字")}


def noun(language: str, text: str) -> str:
    """What a tag's text is called."""
    return NOUN[language][0 if text.isdigit() else 1]


def make_question(rng: random.Random, board: Board, kind: str, language: str, *, plain: bool = False) -> QA | None:
    """One question of `kind`, or None where this board cannot be asked that. `plain`: the first template."""
    words, colours = phrases.WORDS[language], phrases.COLOUR_WORDS[language]
    tag = rng.choice(board.tags)
    if kind == "tag_only" and len(board.tags) > 1:
        return None
    colour, answer = tag.colour, tag.text
    if kind == "tag_count":
        answer = str(len(board.tags))
    elif kind == "tag_exists":
        colour = colour if rng.random() < 0.5 else rng.choice(COLOURS)
        answer = words["yes" if colour in [other.colour for other in board.tags] else "no"]
    templates = ASK[language][kind]
    template = templates[0] if plain else rng.choice(templates)
    return QA(kind, language, phrases.fill(template, c=colours[colour], w=noun(language, tag.text)), answer)


def caption(language: str, board: Board) -> str:
    """Every tag with its text, from top to bottom."""
    colours = phrases.COLOUR_WORDS[language]
    if language == "en":
        return "; ".join(f"{colours[tag.colour]} tag: {tag.text}" for tag in board.tags)
    return "；".join(f"{colours[tag.colour]}标签：{tag.text}" for tag in board.tags)
