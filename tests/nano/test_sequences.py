"""Token trees: every path through a row reads and computes like one prompt of its own, as the product writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from xverse_v.model import XverseVProcessor
from xverse_v.nano.decoder import answer_loss, make_decoder, right_answers
from xverse_v.nano.sequences import (
    Row,
    again_ids,
    answer_ids,
    between_ids,
    collate,
    history_ids,
    image_id,
    join_rows,
    opening_ids,
    prompt_ids,
    tokenizer,
)
from xverse_v.nano.vocabulary import END_ID, IMAGE


@pytest.fixture(scope="module")
def decoder() -> LlamaForCausalLM:
    return make_decoder(seed=5)[0].eval()


def logits(decoder: LlamaForCausalLM, row: Row) -> torch.Tensor:
    batch = collate([row])
    embeds = decoder.model.embed_tokens(batch.ids)
    with torch.no_grad():
        hidden = decoder.model(
            inputs_embeds=embeds, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        )
        return decoder.lm_head(hidden.last_hidden_state)[0]


def path_ids(row: Row, segment: int) -> list[int]:
    """The tokens that a segment sees, in order of their positions, and its own."""
    chain = [segment]
    while row.parents[chain[-1]] >= 0:
        chain.append(row.parents[chain[-1]])
    places = [at for at, owner in enumerate(row.segments) if owner in chain]
    places.sort(key=lambda at: row.positions[at])
    assert [row.positions[at] for at in places] == list(range(len(places)))
    return [row.ids[at] for at in places]


def assert_reads_and_computes_like(decoder: LlamaForCausalLM, row: Row, whole: str, question: str, answer: str) -> None:
    """The last segment of a row against its prompt as one text, encoded in one piece."""
    ids = tokenizer().encode(whole).ids + list(answer_ids(answer))
    assert path_ids(row, len(row.parents) - 1) == ids
    with torch.no_grad():
        alone = decoder(input_ids=torch.tensor([ids])).logits[0]
    size = row.segments.count(len(row.parents) - 1)
    assert size >= len(prompt_ids(question, "turn"))
    torch.testing.assert_close(logits(decoder, row)[-size:], alone[-size:], atol=2e-5, rtol=0)


def images(row: Row, before: tuple[int, ...], parent: int, count: int) -> int:
    return row.add(before + (image_id(),) * count, parent)


def test_a_branch_computes_what_the_prompt_alone_computes(decoder: LlamaForCausalLM) -> None:
    row = Row()
    root = images(row, opening_ids(""), -1, 5)
    row.ask("What colour is the circle?", "red", root, "image")
    past = row.add(history_ids("图里有几个图形？", "2", "image"), root)
    row.ask("Where is the star?", "top left", past, "turn")
    whole = f"Human: {IMAGE * 5}\n图里有几个图形？\nAssistant: 2<|endoftext|>Human: Where is the star?\nAssistant: "
    assert_reads_and_computes_like(decoder, row, whole, "Where is the star?", "top left")


def test_two_images_of_one_turn_compute_what_the_prompt_alone_computes(decoder: LlamaForCausalLM) -> None:
    row = Row()
    one = images(row, opening_ids(""), -1, 4)
    two = images(row, between_ids(), one, 3)
    row.ask("Which image has more shapes?", "the first image", two, "image")
    row.ask("两张图里都有星星吗？", "没有", two, "image")
    whole = f"Human: {IMAGE * 4}\n{IMAGE * 3}\n两张图里都有星星吗？\nAssistant: "
    assert_reads_and_computes_like(decoder, row, whole, "两张图里都有星星吗？", "没有")


def test_an_image_in_a_later_turn_computes_what_the_prompt_alone_computes(decoder: LlamaForCausalLM) -> None:
    row = Row()
    one = images(row, opening_ids("Answer the question about the image."), -1, 4)
    row.ask("Describe the image.", "a red circle", one, "image")
    past = row.add(history_ids("What is it?", "a red circle", "image"), one)
    two = images(row, again_ids(), past, 3)
    row.ask("Where is the star?", "top left", two, "image")
    whole = (
        f"Answer the question about the image.\nHuman: {IMAGE * 4}\nWhat is it?\nAssistant: a red circle<|endoftext|>"
        f"Human: {IMAGE * 3}\nWhere is the star?\nAssistant: "
    )
    assert_reads_and_computes_like(decoder, row, whole, "Where is the star?", "top left")


def test_rows_read_as_the_products_own_processor_writes_them(start: Path) -> None:
    processor = XverseVProcessor.from_pretrained(start)
    picture: dict[str, Any] = {"type": "image"}

    def turn(role: str, text: str, count: int = 0) -> dict[str, Any]:
        return {"role": role, "content": [picture] * count + [{"type": "text", "text": text}]}

    def written(*messages: dict[str, Any]) -> list[int]:
        text = processor.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return list(processor.tokenizer(text)["input_ids"])

    row = Row()
    one = images(row, opening_ids(""), -1, 1)
    two = images(row, between_ids(), one, 1)
    asked = row.add(prompt_ids("哪张图里的图形更多？", "image"), two)
    assert path_ids(row, asked) == written(turn("user", "哪张图里的图形更多？", 2))
    past = row.add(history_ids("What is it?", "red circle", "image"), one)
    again = images(row, again_ids(), past, 1)
    asked = row.add(prompt_ids("Where is it?", "image"), again)
    messages = (turn("user", "What is it?", 1), turn("assistant", "red circle"), turn("user", "Where is it?", 1))
    assert path_ids(row, asked) == written(*messages)


def test_left_out_image_tokens_keep_the_positions_of_the_rest() -> None:
    row = Row()
    opening = opening_ids("")
    row.add(opening + (image_id(),) * 2, -1, positions=[*range(len(opening)), len(opening) + 3, len(opening) + 60])
    row.ends[0] = len(opening) + 64
    row.ask("What is it?", "red", 0, "image")
    assert row.positions[len(opening) + 2] == len(opening) + 64


def test_labels_are_the_answers_and_nothing_else() -> None:
    row = Row()
    root = row.add((*opening_ids(""), image_id()), -1)
    row.ask("What colour is it?", "red", root, "image")
    row.ask("Where is it?", "top left", root, "image")
    batch = collate([row, join_rows(row, row)])
    wanted = list(answer_ids("red") + answer_ids("top left"))
    assert batch.labels[0][batch.labels[0] != -100].tolist() == wanted
    assert batch.labels[1][batch.labels[1] != -100].tolist() == wanted * 2
    assert wanted[-1] == END_ID and batch.ids.shape[1] == 2 * len(row.ids)


def test_joined_rows_do_not_see_each_other(decoder: LlamaForCausalLM) -> None:
    first, second = Row(), Row()
    first.ask("Who are you?", "nano", -1, "start")
    second.ask("你好", "你好！", -1, "start")
    joined = logits(decoder, join_rows(first, second))
    torch.testing.assert_close(joined[: len(first.ids)], logits(decoder, first), atol=2e-5, rtol=0)
    torch.testing.assert_close(joined[len(first.ids) :], logits(decoder, second), atol=2e-5, rtol=0)


def test_an_answer_is_right_only_if_all_its_tokens_are(decoder: LlamaForCausalLM) -> None:
    row = Row()
    row.ask("a?", "top left", -1, "start")
    row.ask("b?", "red", -1, "start")
    batch = collate([row])
    assert right_answers(batch, torch.tensor([True, True, True, True, True]), 0) == [True, True]
    assert right_answers(batch, torch.tensor([True, False, True, True, True]), 0) == [False, True]
    loss, hits = answer_loss(decoder.model, decoder.lm_head, batch, decoder.model.embed_tokens(batch.ids))
    assert hits.shape == (5,) and torch.isfinite(loss)
