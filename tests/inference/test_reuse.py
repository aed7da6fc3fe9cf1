"""Reuse skips work and changes nothing: not a bit of a logit, not a token, in any order, for any image."""

import random

import pytest
import torch
from PIL import Image

from tests.inference.small_model import noise, small_assistant, small_model
from xverse_v.inference.assistant import Assistant
from xverse_v.model import XverseVForConditionalGeneration

QUESTIONS = ("What is it?", "What colour is it?", "a", "图片里有什么？", "Is the 12 cm cat on the left?")


def colliding_pair() -> tuple[Image.Image, Image.Image]:
    """The same bytes as 30x150 and as 150x30."""
    data = noise(30, 150, 5).tobytes()
    return Image.frombytes("RGB", (30, 150), data), Image.frombytes("RGB", (150, 30), data)


def exact(assistant: Assistant, *content, **options) -> tuple:
    """Tokens and the log-probabilities of the likeliest ones, bit for bit."""
    answer = assistant.ask(*content, max_new_tokens=3, logprobs=5, **options)
    return answer.token_ids, answer.logprobs


def test_two_hundred_orders_of_images_and_questions():
    images = [noise(60, 60, 0), noise(60, 60, 1), noise(28, 28, 2), *colliding_pair()]
    off = small_assistant(cache_bytes=0, feature_cache_bytes=0)
    expected = {
        (i, q, system): exact(off, images[i], QUESTIONS[q], system=system, reuse="off")
        for i in range(len(images))
        for q in range(len(QUESTIONS))
        for system in (None, "Be brief.")
    }
    assert len(set(expected.values())) > 40, "the answers hardly differ, so this test shows little"
    hits = evictions = 0
    for seed in range(200):
        chance = random.Random(seed)
        # From no room at all, over a few entries that push each other out, to everything kept.
        bytes_ = chance.choice((0, 6_000, 20_000, 60_000, 10**7))
        on = small_assistant(cache_bytes=bytes_, feature_cache_bytes=chance.choice((0, 3_000, 10**6)))
        pair = chance.sample(range(len(images)), 2)
        for _ in range(4):
            key = i, q, system = (
                chance.choice(pair),
                chance.randrange(len(QUESTIONS)),
                chance.choice((None, "Be brief.")),
            )
            reuse = chance.choice(("images", "turns"))
            assert exact(on, images[i], QUESTIONS[q], system=system, reuse=reuse) == expected[key]
            assert on.cache_stats()["prefix"].bytes <= bytes_
        hits += on.cache_stats()["prefix"].hits
        evictions += on.cache_stats()["prefix"].evictions
    assert hits > 50 and evictions > 20, "the orders hardly used the cache, so this test shows little"


def test_an_image_is_encoded_once_for_all_its_questions(monkeypatch):
    encoded, original = [], XverseVForConditionalGeneration.get_image_features

    def counted(self, pixel_values, **kwargs):
        encoded.append(pixel_values.shape[0])
        return original(self, pixel_values, **kwargs)

    monkeypatch.setattr(XverseVForConditionalGeneration, "get_image_features", counted)
    assistant = small_assistant()
    receipts = [assistant.ask(noise(60, 60, 0), q, max_new_tokens=2).receipt for q in QUESTIONS]
    assert encoded == [5]
    prefix = receipts[1].cached_tokens
    assert [receipt.cached_tokens for receipt in receipts] == [0] + [prefix] * 4
    assert prefix >= 5 * 4
    assert all(receipt.prompt_tokens > receipt.cached_tokens for receipt in receipts)

    # Another system text is another prefix, but the same image tokens.
    other = assistant.ask(noise(60, 60, 0), "a", system="Be brief.", max_new_tokens=2).receipt
    assert (other.cached_tokens, other.cached_features, encoded) == (0, 1, [5])


def test_a_colliding_pair_gets_its_own_answers():
    tall, wide = colliding_pair()
    assistant = small_assistant()
    first, second = exact(assistant, tall, "What is it?"), exact(assistant, wide, "What is it?")
    assert first != second
    assert second == exact(small_assistant(), wide, "What is it?", reuse="off")


def test_an_overwritten_file_is_read_again(tmp_path):
    path, assistant = tmp_path / "image.png", small_assistant()
    noise(60, 60, 0).save(path)
    first = exact(assistant, path, "What is it?")
    noise(60, 60, 1).save(path)
    second = exact(assistant, path, "What is it?")
    noise(60, 60, 0).save(path)
    assert exact(assistant, path, "What is it?") == first
    assert second == exact(small_assistant(), noise(60, 60, 1), "What is it?", reuse="off")
    assert first != second


def test_off_neither_reads_nor_writes():
    assistant = small_assistant()
    for _ in range(2):
        receipt = assistant.ask(noise(60, 60, 0), "a", max_new_tokens=2, reuse="off").receipt
        assert (receipt.cached_tokens, receipt.cached_features, receipt.reuse) == (0, 0, "off")
    stats = assistant.cache_stats()
    assert stats["prefix"].entries == stats["features"].entries == 0


def test_text_alone_needs_no_cache_entry():
    assistant = small_assistant()
    assistant.ask("What is it?", max_new_tokens=2)
    assert assistant.cache_stats()["prefix"].entries == 0


def talk(assistant: Assistant, reuse: str) -> tuple[list, list]:
    chat = assistant.chat(system="Be brief.", max_new_tokens=7, logprobs=5, reuse=reuse)
    script = (("What is it?", (noise(60, 60, 0),)), ("What colour?", ()), ("and this?", (noise(28, 28, 1),)), ("a", ()))
    answers = [chat.say(text, images) for text, images in script]
    return [(a.token_ids, a.logprobs) for a in answers], [a.receipt.cached_tokens for a in answers]


def test_turns_are_reused_bit_for_bit():
    off, none = talk(small_assistant(), "off")
    images, some = talk(small_assistant(), "images")
    turns, most = talk(small_assistant(), "turns")
    assert off == images == turns
    assert none == [0, 0, 0, 0]
    assert some[0] == 0 and some[1] == some[2] == some[3] > 0
    assert most[1] == some[1] and most[2] > some[2] and most[3] > most[2]


def test_a_conversation_holds_its_image_once():
    assistant = small_assistant()
    talk(assistant, "turns")
    stats = assistant.cache_stats()["prefix"]
    tokens = stats.bytes // assistant.engine.kv_bytes_per_token
    longest = assistant.engine.prefix_cache
    assert stats.bytes % assistant.engine.kv_bytes_per_token == 0
    assert stats.evictions == 0 and longest.enabled
    # Two images (5 views and 1 view of 4 tokens) and four short turns: with a copy a turn it would be far more.
    assert 24 < tokens < 120


def test_reuse_survives_a_batch():
    from xverse_v.inference.assistant import Request
    from xverse_v.inference.sampling import SamplingSettings

    settings = SamplingSettings(max_new_tokens=5)
    requests = [Request(q, (noise(60, 60, i),), settings=settings) for i in range(2) for q in QUESTIONS]
    on, off = small_assistant(), small_assistant(cache_bytes=0)
    answers = on.batch(requests, batch_size=4)
    assert [a.token_ids for a in answers] == [a.token_ids for a in off.batch(requests, batch_size=4)]
    assert sum(a.receipt.cached_tokens > 0 for a in answers) == len(requests) - 2
    assert on.cache_stats()["prefix"].entries == 2


@pytest.mark.parametrize("field", ["weights_id", "dtype", "device", "attention"])
def test_other_conditions_are_other_entries(field):
    from dataclasses import replace

    from xverse_v.inference.engine import Engine

    one = small_assistant()
    conditions = replace(one.engine.conditions, **{field: "other"})
    other = Engine(small_model(), one.engine.tokenizer, conditions, one.engine.prefix_cache, one.engine.feature_cache)
    one.ask(noise(60, 60, 0), "a", max_new_tokens=1)
    one.engine = other
    receipt = one.ask(noise(60, 60, 0), "a", max_new_tokens=1).receipt
    assert (receipt.cached_tokens, receipt.cached_features) == (0, 0)


def test_features_come_out_as_they_went_in():
    assistant = small_assistant()
    assistant.ask(noise(60, 60, 0), "a", max_new_tokens=3)
    [stored] = assistant.engine.feature_cache._store.entries.values()
    before = stored.clone()
    for q in QUESTIONS:
        assistant.ask(noise(60, 60, 0), q, system=q, max_new_tokens=3)
    assert torch.equal(stored, before)
