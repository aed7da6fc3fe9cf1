"""Token trees: every path through a row reads and computes like one prompt of its own."""

from __future__ import annotations

import random

import pytest
import torch

from xverse_v.nano.decoder import answer_loss, make_decoder, right_answers
from xverse_v.nano.sequences import (
    Row,
    answer_ids,
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
def decoder():
    return make_decoder(seed=5)[0].eval()


def logits(decoder, row: Row) -> torch.Tensor:
    batch = collate([row])
    embeds = decoder.model.embed_tokens(batch.ids)
    with torch.no_grad():
        hidden = decoder.model(
            inputs_embeds=embeds, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        )
        return decoder.lm_head(hidden.last_hidden_state)[0]


def test_a_branch_computes_what_the_prompt_alone_computes(decoder):
    row = Row()
    root = row.add(opening_ids("") + (image_id(),) * 5, -1)
    row.ask("What colour is the circle?", "red", root, "image")
    past = row.add(history_ids("图里有几个图形？", "2", "image"), root)
    row.ask("Where is the star?", "top left", past, "turn")
    whole = f"Human: {IMAGE * 5}\n图里有几个图形？\nAssistant: 2<|endoftext|>Human: Where is the star?\nAssistant: "
    ids = tokenizer().encode(whole).ids + list(answer_ids("top left"))
    with torch.no_grad():
        alone = decoder(input_ids=torch.tensor([ids])).logits[0]
    size = len(prompt_ids("Where is the star?", "turn")) + len(answer_ids("top left"))
    torch.testing.assert_close(logits(decoder, row)[-size:], alone[-size:], atol=2e-5, rtol=0)


def test_left_out_image_tokens_keep_the_positions_of_the_rest():
    row = Row()
    opening = opening_ids("")
    row.add(opening + (image_id(),) * 2, -1, positions=[*range(len(opening)), len(opening) + 3, len(opening) + 60])
    row.ends[0] = len(opening) + 64
    row.ask("What is it?", "red", 0, "image")
    assert row.positions[len(opening) + 2] == len(opening) + 64


def test_labels_are_the_answers_and_nothing_else():
    row = Row()
    root = row.add((*opening_ids(""), image_id()), -1)
    row.ask("What colour is it?", "red", root, "image")
    row.ask("Where is it?", "top left", root, "image")
    batch = collate([row, join_rows(row, row)])
    wanted = list(answer_ids("red") + answer_ids("top left"))
    assert batch.labels[0][batch.labels[0] != -100].tolist() == wanted
    assert batch.labels[1][batch.labels[1] != -100].tolist() == wanted * 2
    assert wanted[-1] == END_ID and batch.ids.shape[1] == 2 * len(row.ids)


def test_joined_rows_do_not_see_each_other(decoder):
    first, second = Row(), Row()
    first.ask("Who are you?", "nano", -1, "start")
    second.ask("你好", "你好！", -1, "start")
    joined = logits(decoder, join_rows(first, second))
    torch.testing.assert_close(joined[: len(first.ids)], logits(decoder, first), atol=2e-5, rtol=0)
    torch.testing.assert_close(joined[len(first.ids) :], logits(decoder, second), atol=2e-5, rtol=0)


def test_an_answer_is_right_only_if_all_its_tokens_are(decoder):
    row = Row()
    row.ask("a?", "top left", -1, "start")
    row.ask("b?", "red", -1, "start")
    batch = collate([row])
    assert right_answers(batch, torch.tensor([True, True, True, True, True]), 0) == [True, True]
    assert right_answers(batch, torch.tensor([True, False, True, True, True]), 0) == [False, True]
    loss, hits = answer_loss(decoder.model, decoder.lm_head, batch, decoder.model.embed_tokens(batch.ids))
    assert hits.shape == (5,) and torch.isfinite(loss)


def test_seeds_decide_every_question_of_a_row():
    from xverse_v.nano.words import talk_row, word_rows

    first, second = word_rows("words", 3, 2, 0.1, 4), word_rows("words", 3, 2, 0.1, 4)
    assert [row.ids for row in first[0]] == [row.ids for row in second[0]]
    assert talk_row(random.Random(1)).ids == talk_row(random.Random(1)).ids != talk_row(random.Random(2)).ids
