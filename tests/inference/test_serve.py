"""Requests that come while others are answered: any order gives the same answers, and tenants share nothing."""

import random

import pytest
import torch

from tests.inference.arrivals import ids, run, serve, some_requests, three
from tests.inference.small_model import noise, small_assistant, smallest_margin
from xverse_v.inference import engine as engine_module
from xverse_v.inference import prefilling
from xverse_v.inference.assistant import Request
from xverse_v.inference.generation import Job
from xverse_v.inference.sampling import SamplingSettings


def test_two_hundred_arrival_orders_give_the_answers_of_single_requests(monkeypatch):
    requests = some_requests(10)
    single = [small_assistant().batch([request], batch_size=1)[0] for request in requests]
    assert len({answer.token_ids for answer in single}) > 7
    assert min(smallest_margin(answer.logprobs) for answer in single) > 1e-5, "equality would be luck"
    assistants = {length: small_assistant() for length in (None, 8, 40)}
    prompts = [assistants[None].generation(request).job.prompt for request in requests]
    shared, together = [], prefilling.prefill_together
    monkeypatch.setattr(prefilling, "prefill_together", lambda *a: shared.append(len(a[3])) or together(*a))
    for seed in range(200):
        chance = random.Random(seed)
        assistant = assistants[chance.choice(list(assistants))]
        assistant.engine.pass_tokens = next(length for length, one in assistants.items() if one is assistant)
        order = chance.sample(range(len(requests)), chance.randint(2, 4))
        gaps = [chance.choice((0, 0, 1, 3)) for _ in order]
        generations = [assistant.engine.generation(Job(prompts[index], requests[index].settings)) for index in order]
        outcomes = run(assistant, generations, gaps, chance.randint(1, 4))
        for place, index in enumerate(order):
            assert ids(outcomes[place]) == single[index].token_ids
            assert "".join(chunk.text for chunk in outcomes[place]) == single[index].text
    assert len(shared) > 50 and max(shared) > 2, "hardly any ends of prompts shared a pass"


def test_a_request_joins_while_another_decodes_and_leaves_before_it():
    assistant = small_assistant()
    long = Request("What is it?", settings=SamplingSettings(max_new_tokens=30))
    short = Request("a", settings=SamplingSettings(max_new_tokens=3))
    generations = {name: assistant.generation(request) for name, request in (("long", long), ("short", short))}
    order = []

    def arriving():
        yield generations["long"]
        for _ in range(5):
            yield None
        yield generations["short"]

    for generation, _ in assistant.engine.serve(arriving(), 4):
        order.append("long" if generation is generations["long"] else "short")
    first, last = order.index("short"), len(order) - 1 - order[::-1].index("short")
    assert first >= 5 and last < len(order) - 10
    assert (order.count("long"), order.count("short")) == (30, 3)


def test_a_long_prompt_holds_others_up_for_one_pass_at_a_time(monkeypatch):
    assistant, work = small_assistant(), []
    assistant.engine.pass_tokens = 16
    prefill, decode = prefilling.prefill, engine_module.decode
    monkeypatch.setattr(prefilling, "prefill", lambda *a: work.append(len(a[3])) or prefill(*a))
    monkeypatch.setattr(engine_module, "decode", lambda *a: work.append("decode") or decode(*a))
    talker = Request("a", settings=SamplingSettings(max_new_tokens=40))
    long = Request("word " * 60, (noise(84, 84, 0),), settings=SamplingSettings(max_new_tokens=4))
    outcomes = serve(assistant, [talker, long], [0, 3], 2)
    assert [len(ids(outcomes[0])), len(ids(outcomes[1]))] == [40, 4]
    text = " ".join(str(item) for item in work)
    assert sum(item for item in work if item != "decode") == sum(
        len(assistant.generation(request).job.prompt.token_ids) for request in (talker, long)
    )
    between = [sum(map(int, run.split())) for run in text.split("decode")[1:-1] if run.strip()]
    assert len(between) > 5 and max(between) < 2 * 16, "a pass is begun when fewer than 16 tokens were prefilled"
    assert max(item for item in work if item != "decode") <= 16


def test_short_prompts_share_what_one_pass_may_take(monkeypatch):
    """Several that are short join at once: a decode step between each two would only make everybody wait longer."""
    assistant, work = small_assistant(), []
    assistant.engine.pass_tokens = 200
    together, decode = prefilling.prefill_together, engine_module.decode
    monkeypatch.setattr(prefilling, "prefill", None)
    monkeypatch.setattr(prefilling, "prefill_together", lambda *a: work.append(len(a[3])) or together(*a))
    monkeypatch.setattr(engine_module, "decode", lambda *a: work.append("decode") or decode(*a))
    serve(assistant, [Request("a", settings=SamplingSettings(max_new_tokens=5))] * 4, [0] * 4, 4)
    assert work == [4] + ["decode"] * 4


def test_a_row_of_the_buffer_is_made_when_it_is_needed():
    assistant, rows = small_assistant(), []
    assistant.engine.pass_tokens = None
    original = engine_module.decode

    def counted(model, cache, tokens):
        logits = original(model, cache, tokens)
        rows.append(cache.layers[0].keys.shape[0])
        return logits

    engine_module.decode = counted
    try:
        serve(assistant, [three(assistant)[0]], [0], 16)
        serve(assistant, three(assistant), [0, 1, 1], 16)
    finally:
        engine_module.decode = original
    assert set(rows[:7]) == {1}
    assert max(rows) == 4


@pytest.mark.parametrize("reuse", ["turns", "off"])
def test_what_is_done_ahead_changes_nothing(monkeypatch, reuse):
    settings = SamplingSettings(max_new_tokens=4)
    request = Request("What is it?", (noise(60, 60, 0), noise(28, 28, 1)), settings=settings, reuse=reuse)
    expected = small_assistant().batch([request])[0]
    assistant = small_assistant()
    generation = assistant.generation(request)
    assistant.engine.look_ahead(generation)
    monkeypatch.setattr("xverse_v.inference.features.ImageTokens._encode", None)
    assert [chunk for _, chunk in assistant.engine.run([generation])]
    answer = generation.answer()
    assert answer.token_ids == expected.token_ids
    assert answer.receipt.cached_features == 0
    assert answer.receipt.milliseconds.vision > 0
    again = assistant.generation(request)
    monkeypatch.undo()
    assistant.engine.look_ahead(again)
    assert bool(again.ahead_features) is (reuse == "off"), "a kept prefix needs no image"


def test_images_kept_for_another_prompt_are_counted_once():
    assistant = small_assistant()
    assistant.ask(noise(60, 60, 0), "a", max_new_tokens=2)
    settings = SamplingSettings(max_new_tokens=1)
    generation = assistant.generation(Request("a", (noise(60, 60, 0),), system="Be brief.", settings=settings))
    assistant.engine.look_ahead(generation)
    list(assistant.engine.run([generation]))
    assert generation.answer().receipt.cached_features == 1


def test_one_tenant_never_sees_what_another_keeps():
    assistant = small_assistant()

    def cached(tenant: str, **more) -> tuple[int, int]:
        settings = SamplingSettings(max_new_tokens=1)
        request = Request("a", (noise(60, 60, 0),), settings=settings, tenant=tenant, **more)
        receipt = assistant.batch([request])[0].receipt
        return receipt.cached_tokens, receipt.cached_features

    assert cached("one") == (0, 0)
    assert cached("two") == (0, 0)
    assert cached("") == (0, 0)
    assert cached("one")[0] > 0 and cached("two")[0] > 0
    assert cached("one", system="Be brief.") == (0, 1)
    assert cached("three", system="Be brief.") == (0, 0)


def test_all_tenants_together_stay_within_the_bytes():
    assistant = small_assistant(cache_bytes=30_000, feature_cache_bytes=6_000)
    settings = SamplingSettings(max_new_tokens=1)
    requests = [Request("a", (noise(60, 60, n % 3),), settings=settings, tenant=f"tenant {n}") for n in range(12)]
    assistant.batch(requests, batch_size=3)
    stats = assistant.cache_stats()
    assert 0 < stats["prefix"].bytes <= 30_000 and 0 < stats["features"].bytes <= 6_000
    assert stats["prefix"].evictions > 0 and stats["features"].evictions > 0


def test_a_device_that_waits_is_not_asked_to_encode_ahead(monkeypatch):
    """Beside an accelerator only the views are cut ahead; the vision tower runs in the engine's own turn."""
    assistant = small_assistant()
    images = assistant.engine._images

    class Elsewhere:
        device = torch.device("meta")

    settings = SamplingSettings(max_new_tokens=2)
    generation = assistant.generation(Request("a", (noise(60, 60, 0),), settings=settings))
    monkeypatch.setattr(images, "_model", Elsewhere())
    assistant.engine.look_ahead(generation)
    assert (len(generation.ahead_pixels), len(generation.ahead_features)) == (1, 0)
    monkeypatch.undo()
    monkeypatch.setattr("xverse_v.inference.prompt.PreparedImage.pixel_values", None)
    list(assistant.engine.run([generation]))
    assert not generation.ahead_pixels and generation.finish_reason
