"""The whole server over real HTTP, asked with OpenAI's own client: a small random model, then the built-in one."""

import json
import logging
import math
from dataclasses import replace

import httpx
import openai
import pytest

from tests.inference.small_model import small_assistant
from tests.serving.servers import (
    KEY,
    NANO,
    OTHER_KEY,
    SETTINGS,
    ask,
    data_url,
    local_backend,
    question,
    served,
    text_of,
    wait_until_ready,
)
from xverse_v.inference.assistant import Request
from xverse_v.inference.prompt import Message
from xverse_v.inference.sampling import SamplingSettings


def test_an_answer_has_openais_shape(client, assistant):
    reply = ask(client, question("What is it?", data_url()), max_tokens=5)
    alone = assistant_alone("What is it?", data_url(), max_new_tokens=5, detail="low")
    assert reply.object == "chat.completion"
    assert reply.model == NANO
    assert reply.id.startswith("chatcmpl-")
    assert reply.system_fingerprint.startswith("fp_small")
    choice = reply.choices[0]
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", alone.finish_reason)
    assert choice.message.content == alone.text
    assert reply.usage.completion_tokens == len(alone.token_ids)
    assert reply.usage.prompt_tokens == alone.receipt.prompt_tokens
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.image_tokens == 4


def assistant_alone(text, *images, **options):
    """What the engine says without a server."""
    return small_assistant().ask(*images, text, repetition_penalty=1.0, temperature=0.0, **options)


def test_several_images_turns_and_a_system_text(client):
    messages = [
        {"role": "system", "content": "Be short."},
        question("What is it?", data_url(30, 20, "red"), data_url(20, 30, "blue")),
        {"role": "assistant", "content": "Two squares."},
        question("And this?", data_url(28, 28, "green")),
    ]
    reply = ask(client, *messages, max_tokens=4)
    model = small_assistant()
    assert reply.usage.prompt_tokens_details.image_tokens == 12
    history = (Message("user", "What is it?", (data_url(30, 20, "red"), data_url(20, 30, "blue"))),)
    history += (Message("assistant", "Two squares."),)
    wanted = Request("And this?", (data_url(28, 28, "green"),), "Be short.", history, detail="low")
    alone = model.batch([replace(wanted, settings=SamplingSettings(max_new_tokens=4))])[0]
    assert reply.choices[0].message.content == alone.text
    assert reply.usage.prompt_tokens == alone.receipt.prompt_tokens


def test_streamed_equals_whole(client):
    options = {"max_tokens": 8, "logprobs": True, "top_logprobs": 2}
    whole = ask(client, question("Tell me.", data_url()), **options)
    chunks = list(ask(client, question("Tell me.", data_url()), stream=True, **options))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == 1
    streamed = [t for chunk in chunks for t in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else [])]
    assert [t.token for t in streamed] == [t.token for t in whole.choices[0].logprobs.content]


def test_usage_comes_last_in_a_stream_that_asks_for_it(server, client):
    chunks = list(ask(client, question("Tell me."), max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3
    body = {"model": NANO, "messages": [question("Tell me.")], "max_tokens": 3, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    raw = httpx.post(f"{server}/v1/chat/completions", json=body, headers=headers, trust_env=False)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("data: [DONE]\n\n")
    assert all(event.startswith("data: ") for event in raw.text.split("\n\n") if event)


def test_logprobs_are_openais(client):
    reply = ask(client, question("Tell me."), max_tokens=6, logprobs=True, top_logprobs=3)
    content = reply.choices[0].logprobs.content
    assert len(content) == 6
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob, "greedy takes the likeliest"
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.0001
    without = ask(client, question("Tell me."), max_tokens=6, logprobs=True)
    assert [token.top_logprobs for token in without.choices[0].logprobs.content] == [[]] * 6
    assert ask(client, question("Tell me."), max_tokens=2).choices[0].logprobs is None


def test_seed_temperature_and_top_p(client):
    def drawn(**options):
        return ask(client, question("Tell me."), max_tokens=10, temperature=1.5, **options).choices[0].message.content

    assert drawn(seed=5) == drawn(seed=5)
    assert len({drawn(seed=seed) for seed in range(4)}) > 1
    raw = client.chat.completions.with_raw_response.create(
        model=NANO, messages=[question("Tell me.")], max_tokens=10, temperature=1.5
    )
    assert drawn(seed=int(raw.headers["x-seed"])) == raw.parse().choices[0].message.content
    assert len({drawn() for _ in range(4)}) > 1, "without a seed draws differ"
    greedy = ask(client, question("Tell me."), max_tokens=10, temperature=0).choices[0].message.content
    assert drawn(seed=1, extra_body={"top_k": 1}) == greedy


def test_stop_strings_and_both_names_of_the_limit(client):
    whole = ask(client, question("Tell me."), max_tokens=10).choices[0].message.content
    stop = whole[len(whole) // 2 :][:3]
    cut = ask(client, question("Tell me."), max_tokens=10, stop=[stop, "never said"])
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert ask(client, question("Tell me."), max_completion_tokens=3).usage.completion_tokens == 3


def test_detail_is_each_images_own(client):
    large = data_url(84, 84, "red")
    low, high = (ask(client, question("?", large, detail=d), max_tokens=1).usage for d in ("low", "high"))
    assert low.prompt_tokens_details.image_tokens == 4
    assert high.prompt_tokens_details.image_tokens == 40
    parts = question("?", large, detail="low")["content"][:1] + question("?", large, detail="high")["content"]
    mixed = ask(client, {"role": "user", "content": parts}, max_tokens=1).usage
    assert mixed.prompt_tokens_details.image_tokens == 44
    fewer = ask(client, question("?", large, detail="auto"), max_tokens=1, extra_body={"max_tiles": 4}).usage
    assert fewer.prompt_tokens_details.image_tokens == 20


def test_an_image_behind_the_text_is_moved_and_that_is_said(client):
    moved = question("What?", data_url())
    moved["content"].reverse()
    raw = client.chat.completions.with_raw_response.create(model=NANO, messages=[moved], max_tokens=4)
    plain = client.chat.completions.with_raw_response.create(
        model=NANO, messages=[question("What?", data_url())], max_tokens=4
    )
    assert raw.headers["x-notes"] == "messages[0]: images moved before the text"
    assert "x-notes" not in plain.headers
    assert raw.parse().choices[0].message.content == plain.parse().choices[0].message.content


def test_caches_are_shared_within_a_tenant_only(server, client):
    asked = question("Which one is it?", data_url(50, 31, "purple"))
    first = ask(client, asked, max_tokens=2).usage
    second = ask(client, asked, max_tokens=2).usage
    assert first.prompt_tokens_details.cached_tokens == 0
    assert second.prompt_tokens_details.cached_tokens > 0
    with openai.OpenAI(base_url=f"{server}/v1", api_key=OTHER_KEY, max_retries=0) as other:
        assert ask(other, asked, max_tokens=2).usage.prompt_tokens_details.cached_tokens == 0


def test_json_answers(client):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    reply = ask(client, question("?", data_url()), max_tokens=200, response_format=wanted)
    assert reply.choices[0].finish_reason == "stop"
    answer = json.loads(reply.choices[0].message.content)
    assert set(answer) == {"colour", "sure"}
    assert answer["colour"] in ("red", "blue")
    chunks = list(ask(client, question("?", data_url()), max_tokens=200, response_format=wanted, stream=True))
    assert json.loads(text_of(chunks)) == answer


def test_models_and_version(server, client, assistant):
    card = client.models.list().data[0]
    assert (card.id, card.object, card.owned_by) == (NANO, "model", "xverse-v")
    assert card.max_model_len == assistant.engine.max_context
    assert client.models.retrieve(NANO).id == NANO
    with pytest.raises(openai.NotFoundError, match="E612"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match="E612"):
        client.chat.completions.create(model="other", messages=[question("?")])
    headers = {"Authorization": f"Bearer {KEY}"}
    assert "torch" in httpx.get(f"{server}/version", headers=headers, trust_env=False).json()
    page = httpx.get(f"{server}/metrics", headers=headers, trust_env=False).text
    assert "xverse_v_time_to_first_token_seconds_count" in page
    assert 'xverse_v_engine{what="running"} 0.0' in page


def test_a_wrong_key_is_openais_authentication_error(server):
    stranger = openai.OpenAI(base_url=f"{server}/v1", api_key="not-a-key-of-this-server", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError, match="E601"):
        stranger.models.list()


def test_tiles(server):
    def tiles(**body):
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.post(f"{server}/v1/tiles", json=body, headers=headers, trust_env=False)

    document = tiles(image=data_url(84, 56), question="What?").json()
    assert (document["object"], document["width"], document["height"]) == ("tiles", 84, 56)
    assert document["image_tokens"] == 4 * len(document["views"])
    assert "png" not in document["views"][0]
    assert tiles(image=data_url(84, 56), views=True).json()["views"][0]["png"].startswith("data:image/png;base64,")
    assert len(tiles(image=data_url(84, 56), detail="low").json()["views"]) == 1
    for body, code in (
        ({"image": "/etc/passwd"}, "E509"),
        ({"image": data_url(), "max_tiles": 60}, "E112"),
        ({}, "E610"),
    ):
        response = tiles(**body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, code)


def test_prompts_are_logged_only_when_asked(assistant, caplog):
    for wanted in (False, True):
        settings = replace(SETTINGS, log_prompts=wanted)
        caplog.clear()
        with caplog.at_level(logging.DEBUG), served(local_backend(assistant, settings), settings) as url:
            wait_until_ready(url)
            body = {"model": NANO, "messages": [question("a rare word", data_url())], "max_tokens": 2}
            assert httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False).status_code == 200
        assert ("a rare word" in caplog.text) == wanted
        assert data_url()[30:60] not in caplog.text
