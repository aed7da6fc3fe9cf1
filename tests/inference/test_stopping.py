"""Streamed text equals decoded text, whatever the bytes; stop strings never show, whatever the pieces."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.conftest import tiny_processor
from xverse_v.inference.stopping import Detokeniser, StopMatcher, TextStream, decode_text

BYTE_FALLBACK = tiny_processor().tokenizer


def byte_level() -> PreTrainedTokenizerFast:
    """Every byte a token, and a few merges that cut through characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate(alphabet)}
    merges = [(alphabet[200], alphabet[100]), (alphabet[100], alphabet[150]), (alphabet[30], alphabet[201])]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    raw = Tokenizer(models.BPE(vocabulary, merges))
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw)


def piece_id(piece: str) -> int:
    return BYTE_FALLBACK.convert_tokens_to_ids(piece)


def byte_ids(text: str) -> list[int]:
    return [piece_id(f"<0x{byte:02X}>") for byte in text.encode()]


def streamed(tokenizer, ids) -> list[str]:
    detokeniser = Detokeniser(tokenizer)
    return [*(detokeniser.push(token) for token in ids), detokeniser.flush()]


@pytest.mark.parametrize("tokenizer", [BYTE_FALLBACK, byte_level()], ids=["byte fallback", "byte level"])
@pytest.mark.parametrize("seed", range(40))
def test_pieces_join_to_the_full_decode(tokenizer, seed):
    chance = random.Random(seed)
    heavy = [token for token in range(len(tokenizer)) if "<0x" in str(tokenizer.convert_ids_to_tokens(token))]
    pool = (heavy or [0]) if seed % 2 else range(len(tokenizer))
    ids = [chance.choice(pool) if chance.random() < 0.7 else chance.randrange(len(tokenizer)) for _ in range(80)]
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == decode_text(tokenizer, ids)


@pytest.mark.parametrize("text", ["图片里有什么？", "a🙂b🏳️‍🌈c", "é" * 5, "x 图 y"])
def test_a_character_in_bytes_comes_whole(text):
    word = BYTE_FALLBACK("big", add_special_tokens=False)["input_ids"]
    pieces = streamed(BYTE_FALLBACK, [*word, *byte_ids(text), *word])
    assert "".join(pieces) == decode_text(BYTE_FALLBACK, [*word, *byte_ids(text), *word])
    assert text in "".join(pieces)
    assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_are_no_character_are_shown_once_they_are_certain():
    ids = [*byte_ids("图")[:2], piece_id("a"), piece_id("<0xFF>")]
    assert streamed(BYTE_FALLBACK, ids) == ["", "", "\ufffd\ufffda", "", "\ufffd"]


def test_a_leading_space_is_dropped_once_and_only_at_the_start():
    ids = [piece_id("▁"), piece_id("▁"), piece_id("a"), piece_id("▁"), piece_id("▁")]
    assert "".join(streamed(BYTE_FALLBACK, ids)) == " a  " == decode_text(BYTE_FALLBACK, ids)


def test_special_tokens_give_no_text_and_do_not_disturb_their_neighbours():
    placeholder = BYTE_FALLBACK.convert_tokens_to_ids("<|image|>")
    ids = [piece_id("a"), placeholder, piece_id("▁is"), 3, piece_id("▁is")]
    assert streamed(BYTE_FALLBACK, ids) == ["a", "", " is", "", " is", ""]


def reference(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """Character by character: the first stop string to be complete cuts."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@pytest.mark.parametrize("seed", range(150))
def test_stop_strings_across_any_borders(seed):
    chance = random.Random(seed)
    text = "".join(chance.choice("abc") for _ in range(30))
    stops = tuple(
        "".join(chance.choice("abc") for _ in range(chance.randint(1, 6))) for _ in range(chance.randint(1, 3))
    )
    expected, stopped = reference(text, stops)
    matcher, given, rest = StopMatcher(stops), "", text
    while rest:
        size = chance.randint(1, 5)
        piece = matcher.push(rest[:size])
        given, rest = given + piece, rest[size:]
        assert expected.startswith(given), "text was given that a stop string takes back"
    assert matcher.stopped == stopped
    assert given + matcher.flush() == expected


def test_what_may_become_a_stop_string_is_held_and_then_given():
    matcher = StopMatcher(("###", "\n\n"))
    assert [matcher.push(piece) for piece in ("a#", "#b", "\n", "c", "#")] == ["a", "##b", "", "\nc", ""]
    assert matcher.flush() == "#"


def test_after_a_stop_string_nothing_comes():
    matcher = StopMatcher(("END",))
    assert matcher.push("xENDy") == "x"
    assert matcher.push("z") == matcher.flush() == ""


def test_the_role_name_does_not_cut_an_answer():
    """The release cuts every answer at `Assistant:`."""
    ids = BYTE_FALLBACK("Say Assistant: hello", add_special_tokens=False)["input_ids"]
    stream = TextStream(BYTE_FALLBACK, ())
    assert "".join(stream.push(token) for token in ids) + stream.flush() == "Say Assistant: hello"


def test_a_stop_string_completed_by_the_last_held_bytes_still_cuts():
    stream = TextStream(BYTE_FALLBACK, ("图",))
    given = "".join(stream.push(token) for token in [piece_id("a"), *byte_ids("图")])
    assert given == "a"
    assert not stream.stopped
    assert stream.flush() == ""
    assert stream.stopped
