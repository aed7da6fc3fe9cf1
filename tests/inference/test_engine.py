"""Batches equal single runs, rows come and go, answers end where they should."""

import random

import pytest

from tests.inference.small_model import (
    QUESTIONS,
    SIZES,
    noise,
    small_assistant,
    small_config,
    small_model,
    smallest_margin,
)
from xverse_v.inference.assistant import Request
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model import XverseVForConditionalGeneration


def random_requests(seed: int, count: int = 7) -> list[Request]:
    """Different numbers of images, sizes, texts, lengths and settings."""
    chance = random.Random(seed)
    requests = []
    for _ in range(count):
        images = tuple(
            noise(*chance.choice(SIZES), seed=chance.randrange(4)) for _ in range(chance.choice((0, 1, 1, 2)))
        )
        settings = SamplingSettings(
            max_new_tokens=chance.randint(1, 20),
            temperature=chance.choice((0.0, 0.0, 0.8)),
            seed=chance.randrange(100),
            top_k=chance.choice((0, 20)),
            repetition_penalty=chance.choice((1.0, 1.05, 1.5)),
            logprobs=2,
        )
        system = chance.choice((None, "Answer shortly."))
        requests.append(Request(chance.choice(QUESTIONS), images, system, settings=settings))
    return requests


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_equals_single_runs_token_for_token(seed):
    requests = random_requests(seed)
    single = [small_assistant().batch([request], batch_size=1)[0] for request in requests]
    for batch_size in (2, 3, 7):
        together = small_assistant().batch(requests, batch_size=batch_size)
        assert [answer.token_ids for answer in together] == [answer.token_ids for answer in single]
        assert [answer.text for answer in together] == [answer.text for answer in single]
    # If two logits were closer than rounding, equality would be luck.
    assert min(smallest_margin(answer.logprobs) for answer in single) > 1e-5


def test_a_batch_draws_as_a_single_run_does_in_any_order():
    requests = random_requests(99)
    forward = small_assistant().batch(requests)
    backward = small_assistant().batch(requests[::-1])
    assert [answer.token_ids for answer in backward[::-1]] == [answer.token_ids for answer in forward]


def test_finished_rows_are_not_computed_any_more(monkeypatch):
    lengths = (1, 9, 3, 5, 2, 2)
    requests = [Request("What is it?", settings=SamplingSettings(max_new_tokens=n, stop=())) for n in lengths]
    assistant, rows = small_assistant(), []
    original = XverseVForConditionalGeneration.forward

    def counted(self, *args, **kwargs):
        if kwargs["inputs_embeds"].shape[1] == 1:
            rows.append(kwargs["inputs_embeds"].shape[0])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(XverseVForConditionalGeneration, "forward", counted)
    answers = assistant.batch(requests, batch_size=3)
    assert [len(answer.token_ids) for answer in answers] == list(lengths)
    # The first token of each answer comes from its prefill; every other one is one row of one decode step.
    assert sum(rows) == sum(lengths) - len(lengths)
    assert max(rows) == 3


def test_requests_are_taken_only_when_there_is_a_place():
    taken = []

    def endless():
        index = 0
        while True:
            taken.append(index)
            yield Request("What is it?", settings=SamplingSettings(max_new_tokens=2))
            index += 1

    outcomes = small_assistant().map(endless(), batch_size=2)
    assert [next(outcomes)[0] for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 5


def test_the_end_token_ends_an_answer_and_is_no_text():
    assistant = small_assistant()
    first = assistant.ask("What is it?", max_new_tokens=10)
    assert first.finish_reason == "length"
    assistant.engine.stop_ids = frozenset([first.token_ids[4]])
    place = first.token_ids.index(first.token_ids[4])
    ended = assistant.ask("What is it?", max_new_tokens=10)
    assert ended.finish_reason == "stop"
    assert ended.token_ids == first.token_ids[: place + 1]
    assert ended.receipt.completion_tokens == place + 1
    assert first.text.startswith(ended.text)


def test_the_beginning_token_does_not_end_an_answer():
    """The release stops at id 2, which is the token that begins a text; the end token is 3."""
    assert small_assistant().engine.stop_ids == {3}


def test_a_stop_string_ends_an_answer_in_front_of_it():
    whole = small_assistant().ask("What is it?", max_new_tokens=30)
    stop = whole.text[7:9]
    cut = small_assistant().ask("What is it?", max_new_tokens=30, stop=stop)
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert len(cut.token_ids) < 30


def test_streamed_chunks_join_to_the_answer():
    for seed in range(10):
        options = {"temperature": 1.2, "seed": seed, "max_new_tokens": 40, "logprobs": 1}
        stream = small_assistant().stream(noise(60, 60, 1), "What is it?", **options)
        chunks = list(stream)
        assert "".join(chunk.text for chunk in chunks) == stream.answer.text
        assert [t for chunk in chunks for t in chunk.token_ids] == list(stream.answer.token_ids)
        assert sum((chunk.logprobs for chunk in chunks), ()) == stream.answer.logprobs
        assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].finish_reason == stream.answer.finish_reason
        assert stream.answer.text == small_assistant().ask(noise(60, 60, 1), "What is it?", **options).text


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_uneven_batches_under_each_attention(attention):
    model = XverseVForConditionalGeneration._from_config(small_config(), attn_implementation=attention)
    model.load_state_dict(small_model().state_dict())
    model.generation_config.eos_token_id = 3
    requests = [Request(q, settings=SamplingSettings(max_new_tokens=8)) for q in QUESTIONS]
    answers = small_assistant(model).batch(requests, batch_size=5)
    assert answers[0].receipt.attention == attention
    assert [a.token_ids for a in answers] == [a.token_ids for a in small_assistant().batch(requests, batch_size=1)]


def test_dropout_never_runs():
    """The release's demo leaves LoRA dropout on: greedy answers vary."""
    model = XverseVForConditionalGeneration(small_model().config)
    model.load_state_dict(small_model().state_dict())
    model.generation_config.eos_token_id = 3
    model.config.text_config.attention_dropout = 0.9
    assistant = small_assistant(model.train())
    assert not model.training
    assert (
        assistant.ask("What is it?", max_new_tokens=8).token_ids
        == small_assistant().ask("What is it?", max_new_tokens=8).token_ids
    )


def test_sampling_is_repeatable_and_depends_on_the_seed():
    def text(seed: int) -> str:
        return small_assistant().ask("What is it?", temperature=1.5, seed=seed, max_new_tokens=20).text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1
