"""A failure in a serving engine stays with the request that has it."""

import pytest

from tests.inference.arrivals import ids, serve, singles, three
from tests.inference.small_model import noise, out_of_memory, small_assistant
from xverse_v.errors import XverseError
from xverse_v.inference import engine as engine_module
from xverse_v.inference import prefilling
from xverse_v.inference.assistant import Request


def test_a_prefill_that_fails_is_one_requests_failure(monkeypatch):
    assistant = small_assistant()
    requests, broken = three(assistant), Request("What is it?", (noise(28, 28, 9),))
    monkeypatch.setattr("xverse_v.inference.prompt.PreparedImage.pixel_values", lambda image: 1 / 0)
    outcomes = serve(assistant, [requests[0], broken, *requests[1:]], [0, 2, 0, 0], 3)
    assert [type(outcome) for outcome in outcomes[1]] == [ZeroDivisionError]
    assert [ids(outcomes[place]) for place in (0, 2, 3)] == singles(requests)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_memory_that_runs_out_costs_one_request(monkeypatch, phase):
    assistant = small_assistant()
    requests = three(assistant)
    longest = max(range(3), key=lambda index: len(assistant.generation(requests[index]).job.prompt.token_ids))
    module = prefilling if phase == "prefill" else engine_module
    original, calls = getattr(module, phase), []

    def sometimes(*args):
        calls.append(args)
        if (phase == "prefill" and len(calls) == 2) or (phase == "decode" and len(calls) == 3):
            out_of_memory()
        return original(*args)

    monkeypatch.setattr(module, phase, sometimes)
    if phase == "prefill":
        monkeypatch.setattr(prefilling, "prefill_together", out_of_memory)
    outcomes = serve(assistant, requests, [0, 0, 0], 3)
    lost = 1 if phase == "prefill" else longest
    assert isinstance(outcomes[lost][-1], XverseError) and outcomes[lost][-1].code == "E130"
    assert outcomes[lost][-1].facts["phase"] == phase
    for place, expected in enumerate(singles(requests)):
        if place != lost:
            assert ids(outcomes[place]) == expected


def test_logits_that_are_no_numbers_cost_the_row_that_has_them(monkeypatch):
    assistant, original, calls = small_assistant(), engine_module.decode, []
    requests = three(assistant)

    def broken(*args):
        logits = original(*args)
        calls.append(logits)
        if len(calls) == 2:
            logits = logits.clone()
            logits[1, 7] = float("inf")
        return logits

    monkeypatch.setattr(engine_module, "decode", broken)
    outcomes = serve(assistant, requests, [0, 0, 0], 3)
    assert (outcomes[1][-1].code, outcomes[1][-1].facts["position"]) == ("E131", 3)
    assert [ids(outcomes[place]) for place in (0, 2)] == [singles(requests)[place] for place in (0, 2)]


def test_a_step_that_fails_fails_its_rows_and_those_that_come_are_answered(monkeypatch):
    assistant, original, calls = small_assistant(), engine_module.decode, []
    requests = three(assistant)

    def once(*args):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("shapes differ")
        return original(*args)

    monkeypatch.setattr(engine_module, "decode", once)
    outcomes = serve(assistant, requests, [0, 0, 0], 2)
    assert [str(outcomes[place][-1]) for place in (0, 1)] == ["shapes differ"] * 2
    assert ids(outcomes[2]) == singles(requests)[2]


def test_a_cancelled_request_leaves_during_its_prefill():
    assistant = small_assistant()
    assistant.engine.pass_tokens = 8
    long = assistant.generation(Request("word " * 60))
    other = assistant.generation(three(assistant)[0])
    ends = []
    for generation, chunk in assistant.engine.serve([other, long], 3):
        if generation is long:
            ends.append(chunk.finish_reason)
        elif len(other.token_ids) == 3:
            long.job.cancel.set()
    assert ends == ["cancelled"]
    assert long.answer().receipt.milliseconds.prefill > 0
    assert tuple(other.token_ids) == singles(three(assistant)[:1])[0]
