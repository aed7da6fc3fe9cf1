"""The release's own greedy answers: evaluation form, repetition penalty, chat over turns, text only; single and
batched.
"""

import pytest

from tests.conftest import golden, golden_image
from xverse_v.inference.assistant import Request
from xverse_v.inference.loading import assemble
from xverse_v.inference.prompt import Message
from xverse_v.inference.sampling import SamplingSettings, penalise

MODEL, CHAT = golden("model"), golden("chat")
ROWS = {row["pair"]: row for row in MODEL["generate_individual"]}


@pytest.fixture(scope="module")
def assistant(tiny_model, processor):
    tiny_model.generation_config.eos_token_id = 3
    return assemble(tiny_model, processor, weights_id="tiny")


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row["image"])
@pytest.mark.parametrize("reuse", ["off", "turns"])
def test_evaluation_answers(assistant, row, reuse):
    answer = assistant.ask(golden_image(row["image"]), row["question"], max_new_tokens=24, reuse=reuse, logprobs=2)
    assert list(answer.token_ids) == row["new_ids"]
    assert answer.text == row["text"]
    for token, margin in zip(answer.logprobs, row["margins"], strict=True):
        assert token.top[0].logprob - token.top[1].logprob == pytest.approx(margin, abs=1e-4)


@pytest.mark.parametrize("name", MODEL["generate_variants"])
def test_repetition_penalty_counts_generated_tokens_only(assistant, name):
    row = MODEL["generate_variants"][name]
    asked = ROWS[row["pair"]]
    answer = assistant.ask(golden_image(asked["image"]), asked["question"], max_new_tokens=24, **row["kwargs"])
    assert list(answer.token_ids) == row["raw_output_ids"][1:]
    assert answer.text == row["text"]


def test_counting_the_prompt_too_would_be_seen(assistant, monkeypatch):
    """Proof that the recordings decide: with the prompt's ids penalised as well, `rep15` comes out differently."""
    row = MODEL["generate_variants"]["rep15"]
    asked = ROWS[row["pair"]]
    prompt = [490, 335, 335, 260, 303, 423, 485, 410, 384, 377, 408, 327, 328, 376, 67, 481, 335]

    def with_prompt(logits, seen, penalty):
        seen = seen.clone()
        seen[:, prompt] = True
        return penalise(logits, seen, penalty)

    monkeypatch.setattr("xverse_v.inference.sampling.penalise", with_prompt)
    answer = assistant.ask(golden_image(asked["image"]), asked["question"], max_new_tokens=24, **row["kwargs"])
    assert list(answer.token_ids) != row["raw_output_ids"][1:]


def test_evaluation_answers_in_one_batch(assistant):
    requests = [
        Request(row["question"], (golden_image(row["image"]),), settings=SamplingSettings(max_new_tokens=24))
        for row in ROWS.values()
    ]
    answers = assistant.batch(requests)
    assert [list(answer.token_ids) for answer in answers] == [row["new_ids"] for row in ROWS.values()]


def history_of(row: dict) -> tuple[Message, ...]:
    """The turns in front of a chat row, as the recorded prompt has them (the release's own cut answers included)."""
    kind, turn = row["name"].split("_turn")
    earlier = [one for one in CHAT if one["name"].startswith(kind)][: int(turn) - 1]
    messages = []
    for index, one in enumerate(earlier):
        images = (golden_image(one["image"]),) if one["image"] and index == 0 else ()
        messages += [Message("user", one["question"], images), Message("assistant", one["text"])]
    return tuple(messages)


@pytest.mark.parametrize("row", CHAT, ids=lambda row: row["name"])
def test_chat_answers(assistant, row):
    history = history_of(row)
    images = (golden_image(row["image"]),) if row["image"] and not history else ()
    settings = SamplingSettings(max_new_tokens=24, repetition_penalty=1.05)
    answer = assistant.batch([Request(row["question"], images, row["system"], history, settings=settings)])[0]
    assert list(answer.token_ids) == row["raw_output_ids"][1:]
    assert answer.receipt.prompt_tokens == row["ctx_len"]
    # The release drops everything up to "Assistant:" from an answer; ours is the text the tokens say.
    assert answer.text.split("Assistant:")[-1] == row["text"]


def test_an_answer_that_says_assistant_is_whole(assistant):
    """`img_turn2` generates that word: the recorded text lost all before it."""
    row = next(row for row in CHAT if row["name"] == "img_turn2")
    settings = SamplingSettings(max_new_tokens=24, repetition_penalty=1.05)
    request = Request(row["question"], (), row["system"], history_of(row), settings=settings)
    assert assistant.batch([request])[0].text == '--------Assistant:3"'
