"""Our tokenizer in the form llama.cpp reads, and a check that it gives the same ids there.

What crosses: a parsed `tokenizer.json` in; token texts, scores and kinds out. llama.cpp's SPM tokenizer joins the two
neighbours whose joint token has the highest score; ours joins those whose merge was learned first. So a token's score
is minus the rank of its first merge. That is the same order unless a token can be reached by a merge that was never
learned, which `spm_ids`, llama.cpp's rule in Python, shows on a text.

Known difference, by construction: ours puts a word mark in front of a text unless it begins with a space, llama.cpp
always does; and llama.cpp cannot tell a special token that a user typed from a true one. `--backend llamacpp` gives
llama.cpp no text at all and so is not touched by either.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xverse_v.errors import error

SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Token kinds of a GGUF file.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# What people ask this model, with numbers, signs and characters that a small vocabulary has to spell in bytes.
SAMPLES = (
    "What is in the image?",
    "How many people are there, and what are they wearing?",
    "Read the text on the sign.",
    "The total is 1,234.56 dollars (12 % more than in 2023).",
    "Is the red circle left of the blue square? Answer yes or no.",
    'She said: "It\'s fine." -- and left... at 9:45 p.m.',
    "Describe   the chart;\n\nthen list its values:\n1. first\n2. second",
    "def f(x):\n    return x ** 2 + 3 * x - 1  # a comment",
    "https://example.com/a_b?c=d&e=f#g user@example.org",
    "naïve café, Zürich, Ελλάδα, Москва, 日本語, 한국어, עברית",
    "😀 🚀 → ≤ ± € £ ½ \t|\t\u00a0end",
    "图片里有什么？",
    "请描述这张图片的内容，并说出图中一共有多少个人。",
    "图中的文字是“出口”，左边是红色的圆形，右边是蓝色的正方形。",
    "2023年第三季度的销售额为1,234.5万元，同比增长12%。",
    "这是一个中英文 mixed 的句子，with 数字 42 and 标点！",
    "龘靐齉爩，生僻字也要能还原。",
    "一、二、三；（四）【五】《六》——七……八",
    "Human: What is it?\nAssistant: ",
)


@dataclass(frozen=True)
class Vocabulary:
    """What `tokenizer.ggml.*` holds, by id. ``ids``: bos, eos, unk, pad, None where the tokenizer has none."""

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    ids: Mapping[str, int | None]
    adds_start: bool
    adds_space: bool


def read_vocabulary(tokenizer: Mapping[str, Any], size: int, specials: Mapping[str, str | None]) -> Vocabulary:
    """``size``: rows of the embedding. ``specials``: the strings of bos, eos, unk and pad.

    Raises E832 for a tokenizer that is not a BPE with byte fallback and word marks.
    """
    model = tokenizer["model"]
    steps = _steps(tokenizer.get("pre_tokenizer"))
    for name, found, expected in (
        ("tokenizer type", model.get("type"), "BPE"),
        ("tokenizer byte_fallback", bool(model.get("byte_fallback")), True),
        ("tokenizer pre_tokenizer", "Metaspace" in [step["type"] for step in steps], True),
    ):
        if found != expected:
            raise error("E832", name=name, found=found, expected=expected)
    vocabulary: dict[str, int] = model["vocab"]
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    places = {**vocabulary, **{text: token["id"] for text, token in added.items()}}
    tokens, kinds = [f"[unused{i}]" for i in range(size)], [UNUSED] * size
    for text, place in places.items():
        tokens[place], kinds[place] = text, _kind(text, added, model.get("unk_token"))
    scores = [0.0] * size
    for rank, pair in reversed(list(enumerate(_pairs(model["merges"])))):
        scores[vocabulary["".join(pair)]] = -float(rank)
    metaspace = next(step for step in steps if step["type"] == "Metaspace")
    ids = {name: None if text is None else places.get(text) for name, text in specials.items()}
    return Vocabulary(
        tuple(tokens),
        tuple(scores),
        tuple(kinds),
        ids,
        _adds_start(tokenizer.get("post_processor"), specials.get("bos")),
        metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space") else "never") == "always",
    )


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if pre_tokenizer is None:
        return []
    return list(pre_tokenizer["pretokenizers"]) if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]


def _kind(text: str, added: Mapping[str, Mapping[str, Any]], unknown: str | None) -> int:
    if text == unknown:
        return UNKNOWN
    if text in added:
        return CONTROL if added[text]["special"] else USER_DEFINED
    return BYTE if _BYTE.fullmatch(text) else NORMAL


def _pairs(merges: Iterable[str | Sequence[str]]) -> list[tuple[str, str]]:
    """Older files write a merge as one string with a space between, newer ones as a list."""
    return [tuple(merge.split(" ", 1)) if isinstance(merge, str) else (merge[0], merge[1]) for merge in merges]  # type: ignore[misc]


def _adds_start(post_processor: Mapping[str, Any] | None, start: str | None) -> bool:
    first = (post_processor or {}).get("single") or [{}]
    return start is not None and first[0].get("SpecialToken", {}).get("id") == start


def spm_ids(vocabulary: Vocabulary, text: str) -> list[int]:
    """The ids llama.cpp's SPM tokenizer gives a text without special tokens; no start token in front."""
    ids = {token: place for place, token in reversed(list(enumerate(vocabulary.tokens)))}
    marked = (SPACE if vocabulary.adds_space and text else "") + text.replace(" ", SPACE)
    found: list[int] = []
    for piece in _joined(list(marked), ids, vocabulary.scores):
        # What forms no token is spelt in bytes.
        found += [ids[piece]] if piece in ids else [ids[f"<0x{byte:02X}>"] for byte in piece.encode()]
    return found


def _joined(pieces: list[str], ids: Mapping[str, int], scores: Sequence[float]) -> list[str]:
    """Join the best-scored neighbours, the leftmost of equals first, until no two form a token."""
    following = [*range(1, len(pieces)), -1]
    before = list(range(-1, len(pieces) - 1))
    waiting: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 and right >= 0 and (token := ids.get(pieces[left] + pieces[right])) is not None:
            heapq.heappush(waiting, (-scores[token], left, right, pieces[left] + pieces[right]))

    for right in range(1, len(pieces)):
        offer(right - 1, right)
    while waiting:
        _, left, right, joint = heapq.heappop(waiting)
        if not pieces[left] or not pieces[right] or pieces[left] + pieces[right] != joint:
            continue
        pieces[left], pieces[right] = joint, ""
        following[left] = following[right]
        if following[right] >= 0:
            before[following[right]] = left
        offer(before[left], left)
        offer(left, following[left])
    return [piece for piece in pieces if piece]


def differing(
    ours: Callable[[str], list[int]], theirs: Callable[[str], list[int]], texts: Sequence[str] = SAMPLES
) -> list[str]:
    """The texts that get other ids from ``theirs`` than from ``ours``."""
    return [text for text in texts if ours(text) != theirs(text)]
