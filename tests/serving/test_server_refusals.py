"""What the whole server refuses, asked with OpenAI's own client: by the field's name and with a code."""

import openai
import pytest

from tests.serving.servers import ask, data_url, question

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
