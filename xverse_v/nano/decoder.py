"""The built-in decoder: a small Llama, and how its weights start.

What crosses: `make_decoder(seed)` -> `LlamaForCausalLM` and the vectors of the concepts; `answer_loss` and
`right_answers` over a `Batch`. This file refuses to know where image tokens come from.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from xverse_v.nano import phrases
from xverse_v.nano.concepts import CHARACTERS, CONCEPTS, concept
from xverse_v.nano.sequences import Batch, tokenizer
from xverse_v.nano.vocabulary import END_ID, PAD_ID, START_ID

WIDTH = 192
HEADS = 8
HEAD = 32
LAYERS = 4
SPREAD = 0.07  # about 1/sqrt(WIDTH): the usual 0.02 is for wide models
RANK_WORDS = {
    "largest": ("largest", "highest", "tallest", "最大", "最高"),
    "smallest": ("smallest", "lowest", "shortest", "最小", "最低", "最矮"),
}
KIND_WORDS = {
    "tag": ("tag", "tags", "标签"),
    "digit": ("digit", "digits", "handwritten", "数字", "手写", "手写的"),
    "bar": ("bar", "bars", "柱子"),
    "slice": ("slice", "slices", "扇形"),
    "line": ("line", "lines", "折线"),
}

SLOTS = ("char1", "char2", "char3")


def _of(*groups: str) -> list[int]:
    """Concepts of some groups, in their order."""
    return [index for index, name in enumerate(CONCEPTS) if name.split()[0] in groups]


# What the wired heads match with the words of the question, and what the first three of them bring back.
MATCHED: tuple[list[int], ...] = (
    _of("colour", "rank", "kind"),
    _of("shape", "row", "column", "size"),
    _of("cell"),
    *[[*_of("colour", "row", "column", "rank"), concept("kind digit"), concept("kind tag")]] * len(SLOTS),
)
BROUGHT = _of("colour", "shape", "size", "rank", "row", "column") + _of("cell")[:-1]


def token_concepts() -> dict[int, list[int]]:
    """Token id -> the concepts its word means, for colours, shapes and places of both languages."""
    words: dict[str, list[str]] = {}
    for table, kind in ((phrases.SHAPE_WORDS, "shape"), (phrases.COLOUR_WORDS, "colour")):
        for language in table:
            for name, word in table[language].items():
                words[word] = [f"{kind} {name}"]
                words[word + "s"] = [f"{kind} {name}"]
    for name, others in phrases.SHAPE_SYNONYMS["zh"].items():
        words.update({other: [f"shape {name}"] for other in others})
    for (row, column), places in phrases.PLACE_WORDS["zh"].items():
        words.update({place: [f"row {row}", f"column {column}", f"cell {row} {column}"] for place in places})
    words.update({"large": ["size large"], "small": ["size small"], "大": ["size large"], "小": ["size small"]})
    for name, forms in RANK_WORDS.items():
        words.update({form: [f"rank {name}"] for form in forms})
    for name, forms in KIND_WORDS.items():
        words.update({form: [f"kind {name}"] for form in forms})
    words.update({"top": ["row 0"], "bottom": ["row 2"], "left": ["column 0"], "right": ["column 2"]})
    words.update({middle: ["row 1", "column 1"] for middle in ("centre", "center", "middle")})
    vocabulary = tokenizer().get_vocab()
    found = {}
    for word, names in words.items():
        for form in (word, "▁" + word):
            if form in vocabulary:
                found[vocabulary[form]] = [concept(name) for name in names]
    for character in CHARACTERS:
        found[vocabulary[character]] = [concept(f"{SLOTS[0]} {character}")]
    return found


def decoder_config() -> LlamaConfig:
    """The shape of the built-in decoder."""
    return LlamaConfig(
        vocab_size=tokenizer().get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000_000.0},
        initializer_range=SPREAD,
        rms_norm_eps=1e-6,
        pad_token_id=PAD_ID,
        bos_token_id=START_ID,
        eos_token_id=END_ID,
        tie_word_embeddings=False,
    )


def _directions(count: int) -> torch.Tensor:
    """float[count, D]: orthonormal rows from the global generator."""
    return torch.linalg.qr(torch.randn(WIDTH, count)).Q.T.contiguous()


def _slow_dimensions() -> list[int]:
    """The dimensions of a head that the rotary embedding turns least, slowest first."""
    half = HEAD // 2
    return [index for pair in range(half - 1, half // 3, -1) for index in (pair, pair + half)]


def _concept_vectors() -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of the concepts in image tokens (`seen`) and in words (`said`), each float[C, D].

    All are orthogonal, but for characters: the words of the three slots share one vector a character, which is the one
    of the first slot in image tokens.
    """
    slots = [_of(slot) for slot in SLOTS]
    others = [index for index in range(len(CONCEPTS)) if not any(index in slot for slot in slots)]
    directions = _directions(2 * len(others) + sum(map(len, slots)))
    seen, said = torch.zeros(len(CONCEPTS), WIDTH), torch.zeros(len(CONCEPTS), WIDTH)
    seen[others], said[others] = directions[: len(others)], directions[len(others) : 2 * len(others)]
    for slot, rows in zip(slots, directions[2 * len(others) :].split(len(slots[0])), strict=True):
        seen[slot] = rows
        said[slot] = directions[2 * len(others) :][: len(slots[0])]
    return seen, said


def _wire(model: LlamaForCausalLM, seen: torch.Tensor, said: torch.Tensor) -> None:
    """Points six of the eight heads of every layer at the concepts, see `make_decoder`. `seen`, `said`: float[C, D]."""
    slow = _slow_dimensions()
    for depth, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        for head, group in enumerate(MATCHED):
            first = head * HEAD
            early, slot = depth < LAYERS // 2, head - 3
            if early:
                rows = [first + slow[at] for at in range(len(group))]
                attention.q_proj.weight[rows] = 0.8 * said[group]
                attention.k_proj.weight[rows] = 0.8 * seen[group]
            if slot < 0:
                copied = BROUGHT if early else group
                read, written = (seen if early else said)[copied], said[copied]
            else:
                # Early the three characters travel side by side; late each becomes the word of its character.
                read = seen[_of(SLOTS[slot])]
                written = read if early else said[_of(SLOTS[slot])]
            count = len(read)
            attention.v_proj.weight[first : first + count] = 0.5 * read
            attention.o_proj.weight[:, first : first + count] = 0.3 * written.T


def make_decoder(seed: int) -> tuple[LlamaForCausalLM, torch.Tensor]:
    """The decoder at its start and the concepts' vectors in image tokens, float[C, D].

    A lookup ("the colour of what is a circle") is slow to be found from random weights, so the start is wired for it.
    Every concept has one direction in image tokens (`seen`) and one in words (`said`); words of one meaning share
    theirs in both languages, in and out. In the first half of the layers three heads ask in `said`, match in `seen`,
    and bring what they find back in `said`, three more bring the characters of what they match; in the second half
    the same heads copy along `said`. Two heads a layer and everything else are random, and training moves it all.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(decoder_config())
    seen, said = _concept_vectors()
    size = SPREAD * math.sqrt(WIDTH)
    with torch.no_grad():
        rows = model.model.embed_tokens.weight
        for token, meanings in token_concepts().items():
            shared = said[meanings].sum(0) / math.sqrt(len(meanings))
            rows[token] = 0.8 * size * shared + 0.6 * SPREAD * torch.randn(WIDTH)
        model.lm_head.weight.copy_(rows)
        _wire(model, seen, said)
    return model, size * seen


def answer_loss(
    body: nn.Module, head: nn.Module, batch: Batch, embeds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over supervised tokens, and bool[N]: was each predicted. `body`: a Llama without its `head`."""
    wanted = batch.labels != -100
    hidden = body(inputs_embeds=embeds, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False)
    logits = head(hidden.last_hidden_state[wanted])
    labels = batch.labels[wanted]
    return F.cross_entropy(logits, labels), logits.argmax(-1) == labels


def right_answers(batch: Batch, hits: torch.Tensor, row: int) -> list[bool]:
    """For every answer of a row, in order: were all its tokens predicted (then greedy decoding writes it)."""
    places = batch.labels != -100
    answers, owner = batch.answer[places], places.nonzero()[:, 0]
    mine = owner == row
    return [bool(hits[mine & (answers == index)].all()) for index in sorted(set(answers[mine].tolist()))]


class WordDecoder(nn.Module):
    """The decoder with a table of concepts that stand in for image tokens."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.decoder, start = make_decoder(seed)
        self.concepts = nn.Parameter(start)
