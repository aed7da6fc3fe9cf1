"""Counting without a server: the token bucket, bodies, keys and addresses."""

import asyncio
import os

import pytest

from xverse_v.errors import XverseError
from xverse_v.serving.auth import KEYS_VARIABLE, Keys, read_keys, refuse_open_door
from xverse_v.serving.limits import BodyReader, Disconnected, RateLimit
from xverse_v.serving.settings import Limits, ServeSettings, is_loopback

KEY = "a-key-long-enough-for-anybody"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def code_of(call, *arguments):
    with pytest.raises(XverseError) as caught:
        call(*arguments)
    return caught.value.code


def test_a_bucket_empties_and_refills():
    clock = Clock()
    rate = RateLimit(Limits(per_minute=60, burst=3), clock)
    for _ in range(3):
        rate.take("a")
    with pytest.raises(XverseError) as caught:
        rate.take("a")
    assert (caught.value.code, caught.value.facts["retry_after"]) == ("E615", 1)
    rate.take("b")
    clock.now += 0.99
    assert code_of(rate.take, "a") == "E615"
    clock.now += 0.02
    rate.take("a")
    clock.now += 3600
    for _ in range(3):
        rate.take("a")
    assert code_of(rate.take, "a") == "E615", "an idle hour fills the bucket once"


def test_refusals_do_not_cost_tokens():
    clock = Clock()
    rate = RateLimit(Limits(per_minute=6, burst=1), clock)
    rate.take("a")
    for _ in range(100):
        assert code_of(rate.take, "a") == "E615"
    clock.now += 10
    rate.take("a")


def test_without_a_rate_nothing_is_counted():
    rate = RateLimit(Limits())
    for _ in range(10_000):
        rate.take("a")


def messages(*bodies, end=True):
    left = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    left.append({"type": "http.request", "body": b"", "more_body": False} if end else {"type": "http.disconnect"})

    async def receive():
        return left.pop(0)

    return receive


def test_bodies_are_counted_while_they_are_held():
    reader = BodyReader(Limits(body_bytes=10, held_bytes=12))

    async def run():
        with reader.holding() as one, reader.holding() as two:
            assert await reader.read(one, None, messages(b"12345", b"67890")) == b"1234567890"
            assert reader.held == 10
            with pytest.raises(XverseError) as caught:
                await reader.read(two, None, messages(b"123"))
            assert caught.value.code == "E623"
        assert reader.held == 0
        with reader.holding() as share, pytest.raises(XverseError) as caught:
            await reader.read(share, None, messages(b"12345", b"678901"))
        assert caught.value.code == "E607"
        with reader.holding() as share, pytest.raises(Disconnected):
            await reader.read(share, None, messages(b"123", end=False))
        assert reader.held == 0

    asyncio.run(run())


def test_an_announced_length_is_refused_before_anything_is_kept():
    reader = BodyReader(Limits(body_bytes=10))

    async def run():
        with reader.holding() as share, pytest.raises(XverseError) as caught:
            await reader.read(share, 11, messages(b"x" * 11))
        assert (caught.value.code, share.bytes) == ("E607", 0)

    asyncio.run(run())


@pytest.mark.parametrize("changes", [{"batch": 0}, {"queue": -1}, {"body_bytes": 0}, {"per_minute": 0}, {"images": -1}])
def test_limits_that_let_nothing_through_are_refused(changes):
    assert code_of(lambda: Limits(**changes)) == "E605"


def test_keys_come_from_a_file_and_the_environment(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n  {KEY}1  \n{KEY}2\n")
    keys = read_keys(path, {KEYS_VARIABLE: f"{KEY}3, {KEY}4,"})
    tenants = {keys.tenant(f"Bearer {KEY}{number}") for number in (1, 2, 3, 4)}
    assert len(tenants) == 4
    assert code_of(keys.tenant, f"Bearer {KEY}5") == "E601"
    assert code_of(keys.tenant, None) == "E601"
    assert keys.tenant(f"bearer  {KEY}1") in tenants
    assert not read_keys(None, {})
    assert read_keys(None, {KEYS_VARIABLE: KEY})


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", f"{KEY} with spaces\n", f"{KEY}中\n", "x" * 600])
def test_bad_key_files_are_refused(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    assert code_of(read_keys, path, {}) == "E604"


def test_an_error_never_shows_a_key(tmp_path):
    path = tmp_path / "keys"
    path.write_text("half-a-key !")
    with pytest.raises(XverseError) as caught:
        read_keys(path, {})
    assert "half-a-key" not in caught.value.text("en") + caught.value.text("zh")
    assert code_of(read_keys, tmp_path / "missing", {}) == "E604"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_key_file_that_others_can_read_is_said(tmp_path, caplog):
    path = tmp_path / "keys"
    path.write_text(KEY)
    path.chmod(0o644)
    read_keys(path, {})
    assert "chmod 600" in caplog.text
    caplog.clear()
    path.chmod(0o600)
    read_keys(path, {})
    assert not caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "a.example", "10.0.0.1", ""])
def test_beyond_loopback_a_key_is_needed(host):
    settings = ServeSettings(host=host)
    assert code_of(refuse_open_door, settings, Keys()) == "E603"
    refuse_open_door(settings, Keys([KEY]))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_loopback_needs_none(host):
    assert is_loopback(host)
    refuse_open_door(ServeSettings(host=host), Keys())
