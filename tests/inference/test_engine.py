"""Batches equal single runs, rows come and go, answers end where they should, failures say what happened."""

import random
import threading

import pytest
import torch

from tests.inference.small_model import noise, small_assistant, small_config, small_model, smallest_margin
from xverse_v.errors import XverseError
from xverse_v.inference.assistant import Request
from xverse_v.inference.engine import Engine
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model import XverseVForConditionalGeneration

QUESTIONS = ("What is it?", "What colour is the big word?", "图片里有什么？", "a", "Is the 12 cm cat on the left? " * 5)
SIZES = ((28, 28), (30, 150), (150, 30), (60, 60), (84, 84), (20, 200))


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


@pytest.mark.parametrize("made", [1, 2, 5])
def test_cancelling_ends_within_one_token_and_keeps_what_was_made(made):
    whole = small_assistant().ask("What is it?", max_new_tokens=30)
    stream = small_assistant().stream("What is it?", max_new_tokens=30)
    for _ in range(made):
        next(stream)
    stream.cancel()
    rest = list(stream)
    assert [chunk.finish_reason for chunk in rest] == ["cancelled"]
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.token_ids == whole.token_ids[:made]
    assert whole.text.startswith(stream.answer.text)


def test_cancelling_before_the_first_token_gives_an_empty_answer():
    stream = small_assistant().stream(noise(60, 60, 0), "What is it?")
    stream.cancel()
    assert (stream.answer.text, stream.answer.token_ids, stream.answer.finish_reason) == ("", (), "cancelled")


def test_cancelling_from_another_thread():
    stream = small_assistant().stream("What is it?", max_new_tokens=900)
    next(stream)
    timer = threading.Timer(0.05, stream.cancel)
    timer.start()
    answer = stream.answer
    timer.join()
    assert answer.finish_reason == "cancelled"
    assert 1 <= len(answer.token_ids) < 900


def test_closing_a_stream_ends_the_work_and_keeps_what_was_made():
    with small_assistant().stream("What is it?", max_new_tokens=900) as stream:
        next(stream)
        next(stream)
    assert len(stream.answer.token_ids) == 2
    assert stream.answer.finish_reason == "cancelled"
    assert list(stream) == []


def test_an_interrupt_inside_a_step_keeps_what_was_made(monkeypatch):
    stream = small_assistant().stream("What is it?", max_new_tokens=30)
    first = [next(stream).token_ids[0] for _ in range(3)]

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("xverse_v.inference.engine.decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert list(stream.answer.token_ids) == first
    assert stream.answer.finish_reason == "cancelled"


def test_one_cancelled_row_leaves_the_others_alone():
    assistant = small_assistant()
    settings = SamplingSettings(max_new_tokens=12)
    expected = [assistant.batch([Request(q, settings=settings)])[0].token_ids for q in QUESTIONS[:3]]
    generations = [assistant.generation(Request(q, settings=settings)) for q in QUESTIONS[:3]]
    for generation, _ in assistant.engine.run(generations, 3):
        if generation is generations[1] and len(generation.token_ids) == 4:
            generation.job.cancel.set()
    assert [tuple(g.token_ids) for g in generations] == [expected[0], expected[1][:4], expected[2]]
    assert [g.finish_reason for g in generations] == ["length", "cancelled", "length"]


def test_too_long_a_context_is_refused_with_numbers_before_any_compute(monkeypatch):
    assistant = small_assistant()
    prompt = assistant.ask(noise(84, 84, 0), "What is it?", max_new_tokens=1).receipt.prompt_tokens
    monkeypatch.setattr("xverse_v.inference.prefilling.prefill", None)
    with pytest.raises(XverseError) as caught:
        assistant.ask(noise(84, 84, 0), "What is it?", max_new_tokens=1025 - prompt)
    facts = caught.value.facts
    assert caught.value.code == "E120"
    assert (facts["needed"], facts["limit"], facts["over"]) == (1025, 1024, 1)
    assert (facts["prompt"], facts["image_tokens"]) == (prompt, 40)
    assert "1025" in caught.value.text("en") and "1024" in caught.value.text("zh")


def test_exactly_the_context_fits():
    assistant = small_assistant()
    question = "word " * 980
    prompt = assistant.ask(question, max_new_tokens=1).receipt.prompt_tokens
    assert prompt > 900
    answer = assistant.ask(question, max_new_tokens=1024 - prompt)
    assert answer.finish_reason in ("length", "stop")


def test_logits_that_are_no_numbers_are_an_error_not_an_answer(monkeypatch):
    assistant = small_assistant()
    stream = assistant.stream("What is it?", max_new_tokens=5)
    next(stream)
    monkeypatch.setattr("xverse_v.inference.engine.decode", lambda *a: torch.full((1, 513), float("nan")))
    with pytest.raises(XverseError) as caught:
        next(stream)
    assert (caught.value.code, caught.value.facts["position"]) == ("E131", 2)


def out_of_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.95 GiB")


@pytest.mark.parametrize(("module", "phase"), [("prefilling", "prefill"), ("engine", "decode")])
def test_running_out_of_memory_has_a_code_and_numbers(monkeypatch, module, phase):
    monkeypatch.setattr(f"xverse_v.inference.{module}.{phase}", out_of_memory)
    with pytest.raises(XverseError) as caught:
        small_assistant().ask(noise(60, 60, 0), "What is it?", max_new_tokens=5)
    assert caught.value.code == "E130"
    assert caught.value.facts["phase"] == phase
    assert caught.value.facts["image_tokens"] == 20


def test_kept_prefixes_give_way_when_memory_runs_out(monkeypatch):
    from xverse_v.inference import prefilling

    assistant, original, calls = small_assistant(), prefilling.prefill, []
    first = assistant.ask(noise(60, 60, 0), "What is it?", max_new_tokens=5)

    def once(*args):
        calls.append(args)
        if len(calls) == 1:
            out_of_memory()
        return original(*args)

    monkeypatch.setattr(prefilling, "prefill", once)
    again = assistant.ask(noise(60, 60, 0), "What is it?", max_new_tokens=5)
    assert again.token_ids == first.token_ids
    assert len(calls) == 2
    assert assistant.cache_stats()["prefix"].entries == assistant.cache_stats()["features"].entries == 0


def test_another_runtime_error_stays_what_it_is_and_is_not_tried_again(monkeypatch):
    assistant, calls = small_assistant(), []
    assistant.ask(noise(60, 60, 0), "What is it?", max_new_tokens=1)

    def broken(*args):
        calls.append(args)
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("xverse_v.inference.prefilling.prefill", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        assistant.ask("What is it?")
    assert len(calls) == 1
    assert assistant.cache_stats()["prefix"].entries == 1


def test_a_decode_step_that_ran_out_of_memory_is_done_again_without_the_caches(monkeypatch):
    from xverse_v.inference import engine

    expected = small_assistant().ask(noise(60, 60, 0), "What is it?", max_new_tokens=9)
    assistant, original, calls = small_assistant(), engine.decode, []

    def fails_late(*args):
        calls.append(args)
        logits = original(*args)
        if len(calls) == 4:
            args[1]._window.lengths[0] -= 1  # the step failed: its tokens were never counted
            out_of_memory()
        return logits

    monkeypatch.setattr(engine, "decode", fails_late)
    answer = assistant.ask(noise(60, 60, 0), "What is it?", max_new_tokens=9)
    assert answer.token_ids == expected.token_ids
    assert assistant.cache_stats()["prefix"].entries == 0


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


def test_a_model_without_an_end_token_is_refused():
    assistant = small_assistant()
    model, tokenizer = assistant.engine.model, assistant.engine.tokenizer

    class Silent:
        eos_token_id = None

    model.generation_config.eos_token_id = None
    try:
        with pytest.raises(XverseError) as caught:
            Engine(model, Silent(), assistant.engine.conditions, assistant.engine.prefix_cache, None)
        assert Engine(model, tokenizer, assistant.engine.conditions, assistant.engine.prefix_cache, None).stop_ids == {
            3
        }
    finally:
        model.generation_config.eos_token_id = 3
    assert caught.value.code == "E132"


def test_sampling_is_repeatable_and_depends_on_the_seed():
    def text(seed: int) -> str:
        return small_assistant().ask("What is it?", temperature=1.5, seed=seed, max_new_tokens=20).text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1
