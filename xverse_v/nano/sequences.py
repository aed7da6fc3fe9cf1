"""Conversations as token trees: many questions about one image share the image's tokens in one row.

What crosses: token ids in, `Row` out. A row is a list of segments; a segment sees itself and its ancestors
only, and its positions go on where its parent ends, so every path from the root reads exactly like one prompt
of the product: `Human: <|image|>xN\\n{question}\\nAssistant: {answer}<|endoftext|>Human: ...`. A supervised
segment ends with an answer as the decoder must write it (after the prompt `Assistant: `, whose last token is a
lone space); a history segment holds the answer as the processor will encode it later, in one piece with its
prompt. This file knows nothing of images' contents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from tokenizers import Tokenizer

from xverse_v.nano.vocabulary import END, END_ID, IMAGE, PAD_ID, build_tokenizer


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The built-in tokenizer, built once a process."""
    return build_tokenizer()


@lru_cache(maxsize=1)
def image_id() -> int:
    """Id of the placeholder token."""
    return tokenizer().get_vocab()[IMAGE]


@lru_cache(maxsize=200_000)
def _encode(text: str, skip: int) -> tuple[int, ...]:
    return tuple(tokenizer().encode(text, add_special_tokens=False).ids[skip:])


def opening_ids(system: str) -> tuple[int, ...]:
    """Everything before the first placeholder token."""
    return _encode(f"{system}\nHuman: {IMAGE}" if system else f"Human: {IMAGE}", 0)[:-1]


def between_ids() -> tuple[int, ...]:
    """What stands between the placeholder tokens of two images of one turn."""
    return _encode(f"{IMAGE}\n{IMAGE}", 0)[1:-1]


def again_ids() -> tuple[int, ...]:
    """What stands between an answer's end and an image that comes with a later turn."""
    return _encode(f"{END}Human: {IMAGE}", 0)[1:-1]


def prompt_ids(question: str, before: str) -> tuple[int, ...]:
    """A question and the opening of its answer. `before`: "image", "turn" (after an answer), "start" (no image)."""
    if before == "image":
        return _encode(f"{IMAGE}\n{question}\nAssistant: ", 1)
    if before == "turn":
        return _encode(f"{END}Human: {question}\nAssistant: ", 1)
    return _encode(f"Human: {question}\nAssistant: ", 0)


def history_ids(question: str, answer: str, before: str) -> tuple[int, ...]:
    """A question and its answer as a later turn's prompt holds them."""
    if before == "image":
        return _encode(f"{IMAGE}\n{question}\nAssistant: {answer}{END}", 1)
    if before == "turn":
        return _encode(f"{END}Human: {question}\nAssistant: {answer}{END}", 1)
    return _encode(f"Human: {question}\nAssistant: {answer}{END}", 0)


def answer_ids(answer: str) -> tuple[int, ...]:
    """An answer as the decoder must write it after the prompt's lone space, with the end token."""
    return (*_encode(f"\n{answer}", 2), END_ID)


@dataclass
class Row:
    """Segments of one row. Per token: id, position, segment, and whether the token is to be predicted."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def add(self, ids: tuple[int, ...], parent: int, *, answer: int = 0, positions: list[int] | None = None) -> int:
        """Adds a segment below `parent` (-1: none) whose last `answer` tokens are wanted; returns its index."""
        start = self.ends[parent] if parent >= 0 else 0
        where = positions if positions is not None else list(range(start, start + len(ids)))
        index = len(self.parents)
        self.ids += ids
        self.positions += where
        self.segments += [index] * len(ids)
        self.wanted += [False] * (len(ids) - answer) + [True] * answer
        self.parents.append(parent)
        self.ends.append(where[-1] + 1)
        if answer:
            self.answers.append(index)
        return index

    def ask(self, question: str, answer: str, parent: int, before: str) -> int:
        """A supervised question."""
        wanted = answer_ids(answer)
        return self.add(prompt_ids(question, before) + wanted, parent, answer=len(wanted))


def join_rows(first: Row, second: Row) -> Row:
    """Two rows as one; neither sees the other. Saves padding where a long and a short row are joined."""
    shift = len(first.parents)
    return Row(
        first.ids + second.ids,
        first.positions + second.positions,
        first.segments + [segment + shift for segment in second.segments],
        first.wanted + second.wanted,
        first.parents + [parent + shift if parent >= 0 else -1 for parent in second.parents],
        first.ends + second.ends,
        first.answers + [segment + shift for segment in second.answers],
    )


@dataclass(frozen=True)
class Batch:
    """ids, positions int64[B, S]; mask bool[B, 1, S, S] (True: is seen); labels int64[B, S], -100 where not wanted,
    already shifted: the label at a position is the token that follows it. `answer` int64[B, S] numbers the answers."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    answer: torch.Tensor


def collate(rows: list[Row]) -> Batch:
    """Pads rows to one length with the pad token; a pad sees only itself."""
    size = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), size), PAD_ID)
    positions = torch.zeros((len(rows), size), dtype=torch.long)
    labels = torch.full((len(rows), size), -100)
    answer = torch.full((len(rows), size), -1)
    mask = torch.eye(size, dtype=torch.bool).repeat(len(rows), 1, 1)
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    for index, row in enumerate(rows):
        n = len(row.ids)
        ids[index, :n] = torch.tensor(row.ids)
        positions[index, :n] = torch.tensor(row.positions)
        segments, wanted = torch.tensor(row.segments), torch.tensor(row.wanted)
        sees = torch.eye(len(row.parents), dtype=torch.bool)
        for child, parent in enumerate(row.parents):
            if parent >= 0:
                sees[child] |= sees[parent]
        mask[index, :n, :n] = sees[segments][:, segments] & causal[:n, :n]
        following = wanted[1:]
        labels[index, : n - 1][following] = ids[index, 1:n][following]
        answer[index, : n - 1][following] = segments[1:][following]
    return Batch(ids, positions, mask[:, None], labels, answer)
