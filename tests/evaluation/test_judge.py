"""The judge against a real endpoint on this machine: patience, memory, costs, and never the key."""

import json
import logging
import time

import pytest

from tests.evaluation.scripted_endpoint import ScriptedEndpoint, answer, raw, slow, status
from xverse_v.errors import XverseError
from xverse_v.evaluation.endpoint import Endpoint, EndpointSettings, checked_base_url
from xverse_v.evaluation.judge import EndpointJudge, Prices

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def judge_of(server, cache=None, slept=None, concurrency=4, **settings):
    waits = [] if slept is None else slept
    options = EndpointSettings(server.url, "grader", **{"timeout": 5.0, "attempts": 4, **settings})
    return EndpointJudge(Endpoint(options, sleep=waits.append), cache=cache, concurrency=concurrency)


def echo(body):
    return answer("said " + body["messages"][-1]["content"])


def test_replies_come_in_the_order_of_the_prompts_whatever_finishes_first():
    def later_first(body):
        number = int(body["messages"][-1]["content"])
        return slow(0.05 * (3 - number), answer(f" {number}! \n"))

    with ScriptedEndpoint(default=later_first) as server:
        judge = judge_of(server)
        assert judge.ask(["0", "1", "2"], temperature=0.5, max_tokens=9, system="be fair") == ["0!", "1!", "2!"]
        assert server.most_at_once > 1
    sent = server.bodies[0]
    assert sent["model"] == "grader" and sent["temperature"] == 0.5 and sent["max_tokens"] == 9
    assert sent["messages"][0] == {"role": "system", "content": "be fair"}
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_429_waits_as_long_as_the_server_says_and_500_ever_longer():
    slept = []
    script = [status(429, retry_after="3"), status(500), status(503), answer("B")]
    with ScriptedEndpoint(script) as server:
        judge = judge_of(server, slept=slept)
        assert judge.ask(["which?"]) == ["B"]
    assert slept[0] == 3.0 and 1.0 <= slept[1] <= 2.0 and 2.0 <= slept[2] <= 4.0
    assert judge.usage.retries == 3 and judge.usage.asked == 1


def test_retry_after_may_be_a_date_and_one_too_far_off_is_an_error():
    slept = []
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    with ScriptedEndpoint([status(429, retry_after=date), answer("B")]) as server:
        judge_of(server, slept=slept).ask(["which?"])
    assert 10 < slept[0] <= 20
    with ScriptedEndpoint([status(429, retry_after="3600")]) as server:
        with pytest.raises(XverseError) as caught:
            judge_of(server, slept=[]).ask(["which?"])
        assert len(server.bodies) == 1
    assert caught.value.code == "E768" and "3600 s" in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        raw("<html>busy</html>", "text/html"),
        raw("{not json"),
        raw("{}"),
        raw('{"choices": []}'),
        raw('{"choices": [{"index": 0}]}'),
        raw('{"choices": [{"index": 0, "message": {"content": [1]}}]}'),
        slow(0.6, answer("too late")),
    ],
    ids=["html", "broken", "empty", "no choice", "no message", "odd content", "timeout"],
)
def test_unusable_replies_are_tried_again_and_then_an_error(bad):
    with ScriptedEndpoint([bad, answer("B")]) as server:
        assert judge_of(server, timeout=0.3).ask(["which?"]) == ["B"]
    with ScriptedEndpoint(default=bad) as server:
        with pytest.raises(XverseError) as caught:
            judge_of(server, timeout=0.3, attempts=2).ask(["which?"])
        assert len(server.bodies) == 2
    assert caught.value.code == "E768" and "2 tries" in str(caught.value)


def test_an_endpoint_that_is_not_there_is_named():
    with ScriptedEndpoint() as server:
        pass
    with pytest.raises(XverseError, match="E768") as caught:
        judge_of(server, attempts=2).ask(["which?"])
    assert server.url in str(caught.value)


@pytest.mark.parametrize(
    "refusal", [status(401), status(404), status(400), status(429, error_code="insufficient_quota")]
)
def test_what_cannot_get_better_is_not_tried_again(refusal):
    with ScriptedEndpoint(default=refusal) as server:
        with pytest.raises(XverseError, match="E768"):
            judge_of(server).ask(["which?"])
        assert len(server.bodies) == 1


def test_a_judge_that_is_gone_is_not_asked_about_every_row():
    with ScriptedEndpoint(default=status(503)) as server:
        judge = judge_of(server, attempts=1, concurrency=2)
        with pytest.raises(XverseError) as caught:
            judge.ask([str(number) for number in range(40)])
        assert len(server.bodies) < 10
    assert caught.value.facts["failed"] == 40


def test_an_empty_reply_is_no_answer():
    with ScriptedEndpoint(default=answer("  ", finish_reason="length")) as server:
        judge = judge_of(server)
        with pytest.raises(XverseError, match="length"):
            judge.ask(["which?"])
    assert judge.usage.failed == 1


def test_a_rerun_costs_nothing_and_a_failed_one_asks_only_what_is_missing(tmp_path):
    cache = tmp_path / "judge.jsonl"

    def second_fails(body):
        return status(400) if body["messages"][-1]["content"] == "b" else echo(body)

    with ScriptedEndpoint(default=second_fails) as server:
        with pytest.raises(XverseError) as caught:
            judge_of(server, cache).ask(["a", "b", "c", "a"])
        assert caught.value.facts["failed"] == 1 and len(server.bodies) == 3
        server.default = echo
        judge = judge_of(server, cache)
        assert judge.ask(["a", "b", "c", "a"]) == ["said a", "said b", "said c", "said a"]
        assert [body["messages"][-1]["content"] for body in server.bodies[3:]] == ["b"]
        assert (judge.usage.asked, judge.usage.cached) == (1, 2)
        again = judge_of(server, cache)
        assert again.ask(["c"]) == ["said c"] and again.usage.prompt_tokens == 0
        assert again.usage.cached_prompt_tokens == 7 and len(server.bodies) == 4
        for changed in ({"temperature": 0.5}, {"max_tokens": 9}, {"system": "s"}, {"attempt": 1}):
            again.ask(["c"], **changed)
        assert len(server.bodies) == 8


def test_a_line_cut_by_a_kill_is_dropped_and_any_other_damage_is_named(tmp_path):
    cache = tmp_path / "judge.jsonl"
    with ScriptedEndpoint(default=echo) as server:
        judge_of(server, cache).ask(["a", "b"])
        whole = cache.read_bytes()
        for cut in (1, 40, len(whole.splitlines()[1])):
            cache.write_bytes(whole[:-cut])
            judge = judge_of(server, cache)
            assert sorted(judge.ask(["a", "b"])) == ["said a", "said b"] and judge.usage.asked == 1
            assert len(cache.read_bytes().splitlines()) == 2
        cache.write_bytes(b'{"key": 1}\n' + whole)
        with pytest.raises(XverseError, match="E767") as caught:
            judge_of(server, cache)
        assert caught.value.facts["line"] == 1


def test_costs_are_tokens_and_money():
    with ScriptedEndpoint(default=answer("B", prompt_tokens=1000, completion_tokens=10)) as server:
        judge = judge_of(server)
        judge.prices = Prices(prompt=2.0, completion=8.0)
        judge.ask(["a", "b"])
        facts = judge.facts()
    assert facts["usage"]["prompt_tokens"] == 2000 and facts["usage"]["money"] == pytest.approx(0.00416)
    assert judge.usage.summary(judge.prices).endswith("2000 + 20 tokens, 0.0042 USD")
    assert facts["served_models"] == ["served-1"] and facts["judge"] == "grader"


def test_the_key_is_in_no_file_log_or_error(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    leaky = status(401, message=f"Incorrect API key provided: {KEY}.")
    with ScriptedEndpoint([answer("B"), leaky]) as server:
        judge = judge_of(server, tmp_path / "judge.jsonl")
        judge.ask(["a"])
        with pytest.raises(XverseError) as caught:
            judge.ask(["b"])
    everything = caplog.text + str(caught.value) + json.dumps(judge.facts()) + repr(judge._endpoint.settings)
    everything += "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in everything and "***" in str(caught.value)


def test_a_remote_endpoint_needs_a_key_and_a_local_one_may_do_without(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(XverseError, match="OPENAI_API_KEY"):
        Endpoint(EndpointSettings("https://api.example.com/v1", "m"))
    monkeypatch.setenv("OTHER_KEY", "k2")
    with ScriptedEndpoint() as server:
        judge_of(server).ask(["a"])
        judge_of(server, key_variable="OTHER_KEY").ask(["a"])
    assert [headers["Authorization"] for headers in server.headers] == [None, "Bearer k2"]


def test_newer_fields_replace_what_some_models_refuse():
    with ScriptedEndpoint() as server:
        judge_of(server, newer_fields=True).ask(["a"], max_tokens=5)
    assert server.bodies[0]["max_completion_tokens"] == 5
    assert not {"temperature", "max_tokens"} & set(server.bodies[0])


@pytest.mark.parametrize(
    "url", ["ftp://h/v1", "h/v1", "https://", "http://h:port/v1", "https://h/v1?api=1", "https://u:sk-1@h/v1", ""]
)
def test_a_bad_base_url_is_refused_without_repeating_its_password(url):
    with pytest.raises(XverseError, match="E766") as caught:
        checked_base_url(url)
    assert "sk-1" not in str(caught.value)


def test_a_full_url_as_other_harnesses_write_it_is_understood():
    assert checked_base_url("https://h/v1/chat/completions") == checked_base_url("https://h/v1/") == "https://h/v1"
