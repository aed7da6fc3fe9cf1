"""What the caches keep, what they forget, and what they take for the same."""

import random

import pytest
import torch
from PIL import Image

from tests.inference.small_model import small_processor
from xverse_v.inference.cache import FeatureCache, PrefixCache, chain_keys, content_key
from xverse_v.inference.prompt import PromptBuilder
from xverse_v.inference.window import Segment

BUILDER = PromptBuilder(small_processor())


def segment(tokens: int) -> Segment:
    """8 bytes a token."""
    return Segment((torch.zeros(1, tokens, 1),), (torch.zeros(1, tokens, 1),))


def test_bytes_are_counted_exactly_and_never_exceeded():
    chance, cache = random.Random(0), PrefixCache(1000)
    kept: dict[str, int] = {}
    for index in range(300):
        size = chance.randint(1, 40)
        cache.put([str(index)], segment(size))
        kept[str(index)] = size * 8
        stats = cache.stats()
        alive = {key: size for key, size in kept.items() if key in cache._store.entries}
        assert stats.bytes == sum(alive.values()) <= 1000
    assert cache.stats().evictions == 300 - cache.stats().entries


def test_the_entry_unused_for_longest_goes_first():
    cache = PrefixCache(240)
    for key in "abc":
        cache.put([key], segment(10))
    cache.find(["a"])
    cache.put(["d"], segment(10))
    assert [bool(cache.find([key])) for key in "abcd"] == [True, False, True, True]


def test_an_entry_larger_than_the_cache_is_refused_and_costs_nobody_else():
    cache = PrefixCache(100)
    cache.put(["a"], segment(10))
    assert not cache.put(["b"], segment(13))
    assert cache.stats().refused == 1
    assert cache.find(["a"])


def test_zero_bytes_turn_it_off():
    cache = PrefixCache(0)
    assert not cache.enabled
    assert not cache.put(["a"], segment(1))
    assert cache.stats().bytes == 0


def test_a_chain_gives_its_longest_known_beginning():
    cache = PrefixCache(10_000)
    cache.put(["a"], segment(1))
    cache.put(["a", "b"], segment(2))
    assert [s.tokens for s in cache.find(["a", "b", "c"])] == [1, 2]
    assert cache.find(["b"]) != []
    assert cache.find(["x", "a"]) == []


def test_a_beginning_is_never_forgotten_before_what_hangs_on_it():
    chance = random.Random(1)
    cache, chains = (
        PrefixCache(800),
        [[f"{root}", f"{root}.1", f"{root}.1.{leaf}"] for root in range(4) for leaf in range(3)],
    )
    for _ in range(500):
        chain = chance.choice(chains)
        known = len(cache.find(chain))
        for depth in range(known, 3):
            cache.put(chain[: depth + 1], segment(chance.randint(5, 30)))
        entries = cache._store.entries
        for one in chains:
            present = [key in entries for key in one]
            assert present == sorted(present, reverse=True), "a part is kept whose beginning is gone"
    assert cache.stats().evictions > 50


def test_a_part_whose_beginning_is_gone_is_not_kept():
    cache = PrefixCache(1000)
    assert not cache.put(["gone", "b"], segment(1))


def test_features_are_counted_by_what_they_keep_alive():
    cache, whole = FeatureCache(10_000), torch.zeros(10, 4, 8)
    cache.put("view", whole[:2])
    assert cache.stats().bytes == 2 * 4 * 8 * 4
    stored = cache.get("view")
    assert stored is not None
    assert stored.untyped_storage().nbytes() == stored.nbytes
    assert cache.get("other") is None
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_the_same_bytes_in_another_shape_are_another_image():
    data = bytes(random.Random(2).randrange(256) for _ in range(30 * 150 * 3))
    tall, wide = Image.frombytes("RGB", (30, 150), data), Image.frombytes("RGB", (150, 30), data)
    assert tall.tobytes() == wide.tobytes()
    assert BUILDER.prepare(tall).key != BUILDER.prepare(wide).key
    assert BUILDER.prepare(tall).key == BUILDER.prepare(tall.copy()).key


def test_everything_that_shapes_the_views_is_in_the_key():
    image = Image.new("RGB", (60, 60), "red")
    tiler = small_processor().image_processor
    keys = {
        BUILDER.prepare(image).key,
        BUILDER.prepare(image, max_tiles=4).key,
        BUILDER.prepare(image.convert("L")).key,
    }
    changes = {"orientation": "upright", "apply_exif": True, "background": (0, 0, 0), "image_mean": (0.5, 0.5, 0.5)}
    for name, value in changes.items():
        before = getattr(tiler, name)
        try:
            setattr(tiler, name, value)
            keys.add(BUILDER.prepare(image).key)
        finally:
            setattr(tiler, name, before)
    assert len(keys) == 3 + len(changes)


def test_parts_of_a_key_cannot_run_into_each_other():
    assert content_key("k", {}, b"ab", b"c") != content_key("k", {}, b"a", b"bc")
    assert content_key("k", {"a": "1"}) != content_key("k", {}, b'{"a": "1"}')


def test_a_chain_depends_on_ids_images_and_everything_before():
    base = chain_keys("salt", [((1, 2), ["i"]), ((3,), [])])
    assert base == chain_keys("salt", [((1, 2), ["i"]), ((3,), [])])
    for other in (
        chain_keys("pepper", [((1, 2), ["i"]), ((3,), [])]),
        chain_keys("salt", [((1, 9), ["i"]), ((3,), [])]),
        chain_keys("salt", [((1, 2), ["j"]), ((3,), [])]),
    ):
        assert not set(base) & set(other)
    assert chain_keys("salt", [((1, 2), ["i"])]) == base[:1]


def test_a_negative_bound_is_a_mistake():
    with pytest.raises(ValueError, match="at least 0 bytes"):
        PrefixCache(-1)
