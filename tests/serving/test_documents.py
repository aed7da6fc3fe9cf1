"""Requests and replies without a server: what is unknown, what a token is called, what an error says."""

import pytest

from xverse_v.errors import catalogue, error
from xverse_v.inference.answer import Alternative, Chunk, TokenLogprob
from xverse_v.serving.errors import error_document, error_headers, reader_language, status_of
from xverse_v.serving.protocol import ChatRequest, field_path, unknown_fields
from xverse_v.serving.replies import Envelope
from xverse_v.serving.stream import event
from xverse_v.serving.translate import common_detail, json_schema, text_of
from xverse_v.serving.upstream_errors import refusal_of


def request(*messages, **more):
    return ChatRequest.model_validate({"model": "nano", "messages": list(messages), **more})


def user(*parts):
    return {"role": "user", "content": list(parts)}


def text(words):
    return {"type": "text", "text": words}


def image(detail):
    return {"type": "image_url", "image_url": {"url": "data:,", "detail": detail}}


def test_unknown_fields_are_found_at_every_depth():
    part = {**text("a"), "cache_control": {}}
    asked = request(user(part), user(image("low") | {"x": 1}), safety=1, stream_options={"y": 1})
    assert unknown_fields(asked) == [
        "safety",
        "messages[0].content[0].cache_control",
        "messages[1].content[0].x",
        "stream_options.y",
    ]
    many = unknown_fields(request(user(text("a")), **{f"x{n}": 1 for n in range(50)}))
    assert len(many) == 21
    assert many[-1] == "30 more"


def test_text_parts_are_joined_as_the_template_joins_them():
    assert text_of(request(user(text("a"), image("low"), text("b"))).messages[0]) == "a\nb"
    assert text_of(request({"role": "user", "content": "a"}).messages[0]) == "a"


@pytest.mark.parametrize(
    ("details", "common"),
    [((), "auto"), (("auto", "high"), "auto"), (("low", "low"), "low"), (("low", "high"), None)],
)
def test_one_detail_for_all_images_or_none(details, common):
    assert common_detail(request(user(*(image(detail) for detail in details)))) == common


def test_response_formats_become_schemas():
    asked = request(user(text("a")))
    for wanted, schema in (
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}}, {"type": "array"}),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": True}}, {}),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, {}),
    ):
        asked = request(user(text("a")), response_format=wanted)
        assert json_schema(asked) == schema


def test_tokens_have_openais_names_and_bytes():
    envelope = Envelope("m", "f", frozenset({3}), 1)
    other = Alternative(9, "▁b", float("-inf"))
    tokens = [TokenLogprob(7, "▁红", -0.5, (other,)), TokenLogprob(8, "<0xE5>", -1.0, (other,))]
    end = TokenLogprob(3, "<|endoftext|>", -0.1, (other,))
    document = envelope.chunk(Chunk("红", (7, 8), None, (*tokens, end)))
    content = document["choices"][0]["logprobs"]["content"]
    assert [(token["token"], token["bytes"]) for token in content] == [
        (" 红", list(" 红".encode())),
        ("bytes:\\xe5", [0xE5]),
    ]
    assert content[0]["top_logprobs"] == [{"token": " b", "logprob": -9999.0, "bytes": [32, 98]}]
    assert envelope.chunk(Chunk("", (7,))) is None


def test_an_event_is_one_line():
    assert event({"a": "x\ny\u2028"}).count(b"\n") == 2


def test_paths_are_named_without_pydantics_alternatives():
    location = ("body", "messages", 2, "content", "list[tagged-union[A,B]]", 1, "image_url", "image_url", "url")
    assert field_path(location) == "messages[2].content[1].image_url.url"
    assert field_path(("body", 7)) == "[7]"
    assert field_path(("body", "stop", "list[str]", 0)) == "stop[0]"


def test_every_code_of_this_room_has_a_status_of_its_own_or_belongs_to_the_command():
    from xverse_v.serving.errors import _STATUS

    of_the_command = {"E603", "E604", "E605", "E606", "E640", "E641"}
    ours = {code for code in catalogue() if "E600" <= code < "E660"}
    assert ours - of_the_command <= set(_STATUS)
    assert set(_STATUS) <= set(catalogue())


@pytest.mark.parametrize(
    ("problem", "status", "kind"),
    [
        (error("E521", name="a", bytes=1, head="00"), 400, "invalid_request_error"),
        (error("E602", host="a", allowed="b"), 403, "permission_error"),
        (error("E607", bytes=2, limit=1), 413, "invalid_request_error"),
        (error("E131", position=1, dtype="float16"), 500, "server_error"),
        (error("E101", name="top_p", got="0", expected="a", expected_zh="b"), 400, "invalid_request_error"),
    ],
)
def test_statuses_and_types(problem, status, kind):
    assert status_of(problem) == status
    assert error_document(problem)["error"]["type"] == kind


def test_errors_speak_of_fields_and_not_of_flags():
    problem = error("E109", max_tiles=3)
    message = error_document(problem)["error"]["message"]
    assert "--" not in message
    assert 'detail "low"' in message


def test_waiting_times_are_told():
    assert error_headers(error("E615", per_minute=1, burst=1, retry_after=9))["Retry-After"] == "9"
    assert refusal_of(503, {"retry-after": "5"}, b"").facts["retry_after"] == 5
    assert "Retry-After" not in error_headers(error("E620", param="a", got="b", expected="c"))


@pytest.mark.parametrize(("header", "language"), [("zh", "zh"), (" ZH-cn", "zh"), ("en, zh", "en"), (None, "en")])
def test_the_readers_language(header, language):
    assert reader_language({} if header is None else {"accept-language": header}) == language
