"""What the engine cannot do: said with its numbers, before any compute where it can be known."""

import pytest
import torch

from tests.inference.small_model import noise, out_of_memory, small_assistant
from xverse_v.errors import XverseError
from xverse_v.inference.engine import Engine


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
