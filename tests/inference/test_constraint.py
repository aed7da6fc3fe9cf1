"""Answers under a JSON schema: always JSON when they end by themselves, and nobody else's business."""

import json
import sys

import pytest

from tests.inference.small_model import small_assistant
from xverse_v.errors import XverseError
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.constraint import MAX_SCHEMA_CHARACTERS, JsonConstraints
from xverse_v.inference.loading import load
from xverse_v.inference.sampling import SamplingSettings

CAT = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "蓝", 'a "quoted" one']},
        "count": {"type": "integer", "minimum": 3, "maximum": 2000},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["colour", "count"],
    "additionalProperties": False,
}


def is_cat(value: object) -> bool:
    if not isinstance(value, dict) or not {"colour", "count"} <= set(value) <= set(CAT["properties"]):
        return False
    tags = value.get("tags", [])
    return (
        value["colour"] in CAT["properties"]["colour"]["enum"]
        and isinstance(value["count"], int)
        and 3 <= value["count"] <= 2000
        and len(tags) <= 2
        and all(isinstance(tag, str) and len(tag) <= 3 for tag in tags)
    )


def request(schema: object, **settings: object) -> Request:
    return Request("Which cat?", settings=SamplingSettings(**{"max_new_tokens": 90, **settings}), schema=schema)


@pytest.fixture(scope="module")
def nano() -> Assistant:
    return load("nano", device="cpu")


@pytest.mark.parametrize("name", ["small", "nano"])
def test_an_answer_that_ends_by_itself_is_valid(name, nano):
    """Random weights and hot draws: what is written is chance, that it is valid is not."""
    assistant = nano if name == "nano" else small_assistant()
    requests = [request(CAT, temperature=heat, seed=seed) for seed in range(4) for heat in (0.0, 1.0, 4.0)]
    answers = assistant.batch(requests, batch_size=12)
    ended = [answer for answer in answers if answer.finish_reason == "stop"]
    assert len(ended) >= 6
    assert all(is_cat(json.loads(answer.text)) for answer in ended)
    assert len({answer.text for answer in ended}) > 3
    assert {answer.finish_reason for answer in answers} <= {"stop", "length"}


@pytest.mark.parametrize("name", ["small", "nano"])
def test_any_object(name, nano):
    assistant = nano if name == "nano" else small_assistant()
    requests = [request({"type": "object"}, temperature=2.0, seed=seed, max_new_tokens=60) for seed in range(12)]
    ended = [answer for answer in assistant.batch(requests, batch_size=12) if answer.finish_reason == "stop"]
    assert ended and all(isinstance(json.loads(answer.text), dict) for answer in ended)


def test_an_answer_cut_by_its_length_says_so():
    answer = small_assistant().batch([request(CAT, max_new_tokens=3)])[0]
    assert (answer.finish_reason, len(answer.token_ids)) == ("length", 3)


def test_neighbours_without_a_schema_are_not_touched():
    free = [Request(q, settings=SamplingSettings(max_new_tokens=20, temperature=t)) for q in "ab" for t in (0.0, 0.9)]
    bound = [request(CAT, max_new_tokens=25), request({"type": "object"}, temperature=1.0, max_new_tokens=25)]
    alone = [small_assistant().batch([one])[0].token_ids for one in (*free, *bound)]
    together = small_assistant().batch([free[0], bound[0], free[1], bound[1], *free[2:]], batch_size=6)
    assert [together[place].token_ids for place in (0, 2, 4, 5, 1, 3)] == alone


def test_streamed_text_and_logprobs_are_those_of_the_answer():
    generation = small_assistant().generation(request(CAT, logprobs=2, repetition_penalty=1.2, max_new_tokens=40))
    engine = small_assistant().engine
    chunks = [chunk for _, chunk in engine.run([generation])]
    answer = generation.answer()
    assert "".join(chunk.text for chunk in chunks) == answer.text
    # From the raw logits: the token that was allowed is seldom the likeliest of all.
    assert any(token.logprob < token.top[0].logprob for token in answer.logprobs)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "picture"}, "picture"),
        ({"$ref": "http://127.0.0.1/schema.json"}, "127.0.0.1"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "oneOf"),
        ({"type": "integer", "minimum": 5, "maximum": 2}, "5"),
        ({"type": "string", "pattern": "(?=a)b"}, "regex"),
        ({"x-guidance": {"lenient": True, "coerce_one_of": True}, "not": {}}, "not"),
        ({"enum": ["x" * MAX_SCHEMA_CHARACTERS]}, "characters"),
        ({"enum": [{1, 2}]}, "set"),
        ({"type": "object", "properties": 3}, "properties"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_that_cannot_be_kept_is_refused(schema, said):
    with pytest.raises(XverseError) as caught:
        small_assistant().generation(request(schema))
    assert caught.value.code == "E140"
    assert said in caught.value.facts["reason"]


def test_a_schema_nested_without_end_is_refused():
    schema: dict = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(XverseError) as caught:
        small_assistant().generation(request(schema))
    assert caught.value.code == "E140"


def test_stop_strings_beside_a_schema_are_refused():
    with pytest.raises(XverseError) as caught:
        small_assistant().generation(request(CAT, stop=("}",)))
    assert (caught.value.code, caught.value.facts["name"]) == ("E101", "stop")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(XverseError) as caught:
        small_assistant().generation(request(CAT))
    assert caught.value.code == "E141"
    assert 'pip install "xverse-v[serve]"' in caught.value.text("en")


def test_a_tokenizer_that_cannot_spell_json_is_refused_by_its_missing_characters():
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "</s>": 1}
    words |= {letter: place for place, letter in enumerate("{}[]:,.-+0123456789abcdefghijklmnopqrstuvwxyz", start=2)}
    native = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    native.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=native, unk_token="<unk>", eos_token="</s>")
    constraints = JsonConstraints(tokenizer, len(words), lambda: {1})
    with pytest.raises(XverseError) as caught:
        constraints.for_schema({"type": "object"})
    assert caught.value.code == "E142"
    assert f"{95 - 45} of the 95" in caught.value.facts["reason"]
    assert '"' in caught.value.facts["reason"] and "A B C" in caught.value.facts["reason"]


def test_a_grammar_is_made_once():
    constraints = small_assistant().engine.constraints
    assert constraints.for_schema(CAT) is constraints.for_schema(json.loads(json.dumps(CAT)))
    kept = constraints.for_schema(CAT)
    for number in range(40):
        constraints.for_schema({"const": number})
    assert len(constraints._kept) == 32
    assert constraints.for_schema(CAT) is not kept


def test_a_token_that_is_not_allowed_is_an_error_not_an_answer():
    assistant = small_assistant()
    matcher = assistant.engine.constraints.for_schema(CAT).start()
    allowed = matcher.mask()
    assert allowed.shape == (513,) and allowed.sum() >= 1
    with pytest.raises(XverseError) as caught:
        matcher.accept(int((~allowed).nonzero()[10]))
    assert caught.value.code == "E143"


def test_only_the_end_is_allowed_behind_the_end():
    assistant = small_assistant()
    matcher = assistant.engine.constraints.for_schema({"const": 1}).start()
    matcher.accept(int(matcher.mask().nonzero()[0]))
    assert set(matcher.mask().nonzero().flatten().tolist()) == assistant.engine.stop_ids


@pytest.mark.parametrize("name", ["small", "nano"])
def test_bytes_of_tokens_are_the_text_we_give(name, nano):
    """The library reads the tokenizer by itself; it must see the same letters as our detokeniser."""
    import random

    from xverse_v.inference.stopping import decode_text, silent_ids

    assistant = nano if name == "nano" else small_assistant()
    constraints, tokenizer = assistant.engine.constraints, assistant.engine.tokenizer
    constraints.for_schema({"type": "object"})
    plain = [i for i in range(len(tokenizer)) if i not in silent_ids(tokenizer)]
    never = tokenizer.convert_tokens_to_ids("<0xFF>")  # a byte that no text has
    assert constraints._spoken.nonzero().flatten().tolist() == sorted({*plain, 3} - {never})
    plain = [i for i in plain if not tokenizer.convert_ids_to_tokens(i).startswith("<0x")]
    opening = tokenizer.convert_tokens_to_ids("a")
    chance = random.Random(0)
    for _ in range(300):
        ids = [opening, *(chance.choice(plain) for _ in range(8))]
        assert constraints._native.decode_bytes(ids).decode() == decode_text(tokenizer, ids)
