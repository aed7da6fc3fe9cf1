"""The whole server over real HTTP, asked with OpenAI's own client: a small random model, then the built-in one."""

import json
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import openai
import pytest

from tests.inference.small_model import small_assistant
from tests.serving.servers import KEY, OTHER_KEY, data_url, local_backend, question, served, wait_for, wait_until_ready
from xverse_v.errors import error
from xverse_v.inference.assistant import Request
from xverse_v.inference.prompt import Message
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.serving.backend_local import LocalBackend
from xverse_v.serving.metrics import Metrics
from xverse_v.serving.settings import Limits, ServeSettings

NANO = "nano"
SETTINGS = ServeSettings(port=0)


@pytest.fixture(scope="module")
def assistant():
    # No end token that greedy decoding would meet: answers are as long as they are asked to be.
    return small_assistant(profiles={"demo": SamplingSettings(max_new_tokens=12)})


@pytest.fixture(scope="module")
def server(assistant):
    """(base URL, metrics) of a server of the small model with two tenants."""
    metrics = Metrics()
    with served(local_backend(assistant, SETTINGS, metrics), SETTINGS, [KEY, OTHER_KEY], metrics) as url:
        wait_until_ready(url)
        yield url


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0, timeout=60) as made:
        yield made


def ask(client, *messages, **options):
    return client.chat.completions.create(model=NANO, messages=list(messages), **options)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


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


UNSUPPORTED = [
    ({"n": 2}, "n"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"logit_bias": {"5": 10}}, "logit_bias"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": -0.5}, "frequency_penalty"),
    ({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}, "modalities"),
    ({"prediction": {"type": "content", "content": "a"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"store": True}, "store"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
]


@pytest.mark.parametrize(("options", "field"), UNSUPPORTED, ids=[field for _, field in UNSUPPORTED])
def test_what_is_not_supported_is_refused_by_name(client, options, field):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, question("?"), **options)
    assert (caught.value.code, caught.value.param) == ("E611", field)


@pytest.mark.parametrize(
    "options",
    [
        {"n": 1, "tools": [], "tool_choice": "none", "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0},
        {"modalities": ["text"], "store": False, "parallel_tool_calls": True, "response_format": {"type": "text"}},
        {"max_tokens": 2, "max_completion_tokens": 2, "stop": [], "logprobs": False},
    ],
)
def test_values_that_change_nothing_pass(client, options):
    assert ask(client, question("?"), **({"max_tokens": 2} | options)).usage.completion_tokens == 2


BAD_MESSAGES = [
    ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "E620"),
    ([{"role": "assistant", "content": "a"}], "E620"),
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None}, question("b")], "E620"),
    ([{"role": "user", "content": []}], "E620"),
    ([{"role": "system", "content": question("a", "data:image/png;base64,AA")["content"]}, question("b")], "E620"),
    ([{"role": "tool", "content": "a", "tool_call_id": "1"}], "E611"),
    ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}], "E611"),
    ([question("a", *["data:image/png;base64,AA"] * 17)], "E621"),
    ([question("a")] * 257, "E624"),
    ([question("a", "/etc/passwd")], "E509"),
    ([question("a", "file:///etc/passwd")], "E507"),
    ([question("a", "https://example.com/a.png")], "E506"),
    ([question("a", "http://127.0.0.1/a.png")], "E506"),
    ([question("a", "ftp://example.com/a.png")], "E508"),
    ([question("a", "data:image/png;base64,AAAA")], "E521"),
    ([question("a", "data:text/html;base64,AA")], "E523"),
    ([question("a", data_url()[:-40])], "E517"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("messages", "code"), BAD_MESSAGES)
def test_bad_messages_are_400_with_a_code(client, messages, code, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, *messages, stream=stream)
    assert caught.value.code == code
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 2000}, {"temperature": 3}, {"top_p": 0}, {"seed": -1}, {"stop": [""]}, {"stop": ["a"] * 17}],
)
def test_bad_values_are_400(client, options):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, question("?"), **options)
    assert caught.value.code in ("E120", "E610", "E101", "E624")


@pytest.mark.parametrize("bad", [data_url()[:-40], "/etc/passwd"])
def test_a_bad_image_is_named(client, bad):
    messages = [question("a", data_url()), {"role": "assistant", "content": "b"}, question("c", data_url(), bad)]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, *messages)
    assert caught.value.param == "messages[2].content[1].image_url"


def test_a_prompt_that_does_not_fit_says_by_how_much(client):
    with pytest.raises(openai.BadRequestError, match=r"E120 The request needs .* the model's limit is 1024"):
        ask(client, question("word " * 3000))


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


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_schema"},
        {"type": "json_object", "json_schema": {"name": "a", "schema": {}}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "no such type"}}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "https://example.com/a.json"}}},
        {"type": "xml"},
    ],
)
def test_a_bad_schema_is_400(client, wanted):
    with pytest.raises(openai.BadRequestError):
        ask(client, question("?"), max_tokens=50, response_format=wanted)


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


def test_leaving_a_stream_frees_its_row(server, client):
    headers = {"Authorization": f"Bearer {KEY}"}

    def running():
        page = httpx.get(f"{server}/metrics", headers=headers, trust_env=False).text
        return 'xverse_v_engine{what="running"} 1.0' in page

    stream = ask(client, question("Tell me all."), max_tokens=900, stream=True)
    next(stream)
    wait_for(running)
    stream.close()
    wait_for(lambda: not running())


def test_a_full_queue_is_429_with_a_time_to_wait(assistant):
    settings = replace(SETTINGS, limits=Limits(batch=1, queue=1))
    with served(local_backend(assistant, settings), settings) as url:
        wait_until_ready(url)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            streams = [ask(client, question("Tell me all."), max_tokens=900, stream=True)]
            next(streams[0])
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(ask, client, question("Tell me."), max_tokens=2) for _ in range(4)]
                wait_for(lambda: sum(done.done() for done in asked) == 3)
                streams[0].close()
                failures = [done.exception() for done in asked if done.exception()]
            assert len(failures) == 3
            assert all(isinstance(failure, openai.RateLimitError) for failure in failures)
            assert all(int(failure.response.headers["retry-after"]) >= 1 for failure in failures)


def test_a_request_ends_at_its_wall_clock(assistant):
    settings = replace(SETTINGS, limits=Limits(request_seconds=0.3))
    with served(local_backend(assistant, settings), settings) as url:
        wait_until_ready(url)
        body = {"model": NANO, "messages": [question("Tell me all.")], "max_tokens": 950}
        response = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=30)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "E145")
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with client, pytest.raises(openai.APIError, match="E145"):
            list(ask(client, question("Tell me all."), max_tokens=950, stream=True))


def test_while_loading_it_says_so(assistant):
    loaded = threading.Event()

    def load():
        assert loaded.wait(30)
        return assistant

    with served(LocalBackend(load, SETTINGS, Metrics())) as url:
        response = httpx.get(f"{url}/health", trust_env=False)
        assert (response.status_code, response.json()) == (503, {"status": "loading"})
        body = {"model": NANO, "messages": [question("?")]}
        for path in ("/v1/chat/completions", "/v1/tiles"):
            sent = body if "chat" in path else {"image": data_url()}
            response = httpx.post(f"{url}{path}", json=sent, trust_env=False)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "E600")
            assert int(response.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 503
        loaded.set()
        wait_until_ready(url)


def test_a_model_that_cannot_be_loaded_is_told_to_who_started_it():
    told = []

    def load():
        raise error("E105", model="x", kind="missing", kind_zh="", near="nano")

    backend = LocalBackend(load, SETTINGS, Metrics(), lambda: told.append(True))
    with served(backend) as url:
        wait_for(lambda: told)
        assert httpx.get(f"{url}/health", trust_env=False).json() == {"status": "failed"}
    assert backend.failure.code == "E105"


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
