"""The short ends of prompts share a pass: which ones, how many tokens of it, and what happens when it fails."""

import pytest
import torch

from tests.inference.arrivals import ids, serve, singles, three
from tests.inference.small_model import noise, out_of_memory, small_assistant, small_config, small_model
from xverse_v.inference import engine as engine_module
from xverse_v.inference import prefilling
from xverse_v.inference.assistant import Request
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model import XverseVForConditionalGeneration


@pytest.fixture
def passes(monkeypatch) -> list:
    """Tokens of each pass in order: a number for one row, the filled width times rows for several, "decode"."""
    work: list = []
    prefill, together, decode = prefilling.prefill, prefilling.prefill_together, engine_module.decode
    monkeypatch.setattr(prefilling, "prefill", lambda *a: work.append(len(a[3])) or prefill(*a))
    monkeypatch.setattr(
        prefilling, "prefill_together", lambda *a: work.append((len(a[3]), max(map(len, a[3])))) or together(*a)
    )
    monkeypatch.setattr(engine_module, "decode", lambda *a: work.append("decode") or decode(*a))
    return work


def about(image: int, count: int, tokens: int = 3) -> list[Request]:
    settings = SamplingSettings(max_new_tokens=tokens)
    return [Request(f"a {'b ' * n}", (noise(60, 60, image),), settings=settings) for n in range(count)]


def test_questions_about_one_image_cost_its_prefill_and_one_pass(passes):
    requests = about(0, 6)
    answers = small_assistant().batch(requests, batch_size=6)
    assert [type(item) for item in passes] == [int, tuple, str, str]
    assert passes[1][0] == 6
    assert [answer.receipt.cached_tokens for answer in answers] == [0] + [passes[0]] * 5
    assert all(answer.receipt.milliseconds.prefill > 0 for answer in answers)
    assert [answer.token_ids for answer in answers] == singles(requests)


def test_a_pass_over_several_ends_is_bounded(passes):
    assistant = small_assistant()
    requests = about(0, 9)
    for limit, most in ((None, engine_module._TOGETHER), (40, 40)):
        assistant.engine.pass_tokens = limit
        outcomes = serve(assistant, requests, [0] * 9, 9)
        assert [ids(outcomes[place]) for place in range(9)] == singles(requests)
        shared = [item for item in passes if isinstance(item, tuple)]
        assert shared and all(rows * width <= most for rows, width in shared)
        passes.clear()


def test_a_long_end_is_prefilled_alone(passes):
    long = Request("word " * engine_module._SHORT, settings=SamplingSettings(max_new_tokens=2))
    requests = [*about(0, 2), long, *about(0, 2)]
    assistant = small_assistant()
    outcomes = serve(assistant, requests, [0] * 5, 5)
    assert max(item for item in passes if isinstance(item, int)) > engine_module._SHORT
    assert max(width for _, width in filter(lambda item: isinstance(item, tuple), passes)) <= engine_module._SHORT
    assert [ids(outcomes[place]) for place in range(5)] == singles(requests)


def test_a_pass_is_never_mostly_filling(passes):
    """Ends of 200 tokens and of few do not share one."""
    long = [Request("word " * 60 + "a" * n, settings=SamplingSettings(max_new_tokens=2)) for n in range(2)]
    requests = [*about(0, 4), *long, *about(0, 3)]
    outcomes = serve(small_assistant(), requests, [0] * 9, 9)
    assert [ids(outcomes[place]) for place in range(9)] == singles(requests)
    widths = [width for _, width in filter(lambda item: isinstance(item, tuple), passes)]
    assert len(widths) > 1 and min(widths) < 50 < max(widths)


def test_nobody_waits_for_one_that_has_not_come(passes):
    outcomes = serve(small_assistant(), three(small_assistant()), [0, 2, 2], 3)
    assert not [item for item in passes if isinstance(item, tuple)]
    assert len(outcomes) == 3


@pytest.mark.parametrize("failure", ["memory", "other"])
def test_a_shared_pass_that_fails_is_done_one_by_one(monkeypatch, failure):
    def broken(*args):
        raise RuntimeError("shapes differ")

    assistant = small_assistant()
    requests = [*three(assistant), *about(0, 2)]
    monkeypatch.setattr(prefilling, "prefill_together", out_of_memory if failure == "memory" else broken)
    outcomes = serve(assistant, requests, [0] * 5, 5)
    assert [ids(outcomes[place]) for place in range(5)] == singles(requests)


def test_a_shared_pass_is_done_again_without_the_caches(monkeypatch, passes):
    assistant, counted, calls = small_assistant(), prefilling.prefill_together, []

    def once(*args):
        calls.append(args)
        if len(calls) == 1:
            out_of_memory()
        return counted(*args)

    monkeypatch.setattr(prefilling, "prefill_together", once)
    requests = about(0, 3)
    outcomes = serve(assistant, requests, [0] * 3, 3)
    assert (len(calls), assistant.cache_stats()["prefix"].entries) == (2, 0)
    assert [ids(outcomes[place]) for place in range(3)] == singles(requests)


def test_logits_of_a_shared_pass_that_are_no_numbers_cost_their_row(monkeypatch):
    assistant, together = small_assistant(), prefilling.prefill_together
    requests = three(assistant)

    def broken(*args):
        logits = together(*args).clone()
        logits[0, 3] = float("nan")
        return logits

    monkeypatch.setattr(prefilling, "prefill_together", broken)
    outcomes = serve(assistant, requests, [0] * 3, 3)
    assert (outcomes[0][-1].code, outcomes[0][-1].facts["position"]) == ("E131", 1)
    assert [ids(outcomes[place]) for place in (1, 2)] == singles(requests)[1:]


def test_answers_of_one_token_leave_from_a_shared_pass(passes):
    lengths = (1, 4, 1, 1, 3)
    requests = [Request(f"a {n}", settings=SamplingSettings(max_new_tokens=n, stop=())) for n in lengths]
    outcomes = serve(small_assistant(), requests, [0] * 5, 3)
    assert [ids(outcomes[place]) for place in range(5)] == singles(requests)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_each_attention_takes_the_mask(attention, passes):
    model = XverseVForConditionalGeneration._from_config(small_config(), attn_implementation=attention)
    model.load_state_dict(small_model().state_dict())
    model.generation_config.eos_token_id = 3
    requests = [*about(0, 2), *three(small_assistant())]
    answers = small_assistant(model).batch(requests, batch_size=5)
    assert [item for item in passes if isinstance(item, tuple)]
    assert [answer.token_ids for answer in answers] == singles(requests)


def test_a_kernel_that_takes_no_such_mask_prefills_one_by_one(monkeypatch, passes):
    monkeypatch.setattr(engine_module, "can_prefill_together", lambda model: False)
    requests = about(0, 3)
    answers = small_assistant().batch(requests, batch_size=3)
    assert [type(item) for item in passes[:5]] == [int, int, int, int, str]
    assert [answer.token_ids for answer in answers] == singles(requests)


def test_what_was_put_off_is_bit_for_bit_what_it_was_alone():
    """A single row takes the same pass as ever, so reuse changes no bit of it."""
    on, off = small_assistant(), small_assistant(cache_bytes=0)
    for _ in range(2):
        pair = [one.ask(noise(60, 60, 0), "What is it?", max_new_tokens=4, logprobs=5) for one in (on, off)]
        assert pair[0].logprobs == pair[1].logprobs
    assert torch.isfinite(torch.tensor(pair[0].logprobs[0].logprob))
