"""The tokenizer: any text survives, words of the world are one token, and a user's special strings stay text."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xverse_v.nano import ask_board, ask_chart, ask_outside, ask_pair, phrases
from xverse_v.nano.ask import CAPTION, LANGUAGES, ask, ask_two, caption
from xverse_v.nano.concepts import CHARACTERS
from xverse_v.nano.detail import WORDS
from xverse_v.nano.rows import make_picture
from xverse_v.nano.sequences import answer_ids, history_ids, image_id, prompt_ids, tokenizer
from xverse_v.nano.vocabulary import CHINESE, END_ID, ENGLISH, IMAGE, build_tokenizer
from xverse_v.nano.world import make_scene, split_seed

# The word separator stands for a space in every tokenizer of this kind; a leading space cannot be told from none.
TEXT = st.text(st.characters(exclude_characters="\u2581\ufdd0", exclude_categories=["Cs"])).filter(
    lambda t: not t.startswith(" ")
)


@settings(deadline=None)  # the first call builds the tokenizer
@given(TEXT)
def test_any_text_comes_back(text: str) -> None:
    if any(token.content in text for token in tokenizer().get_added_tokens_decoder().values()):
        return
    ids = tokenizer().encode(text, add_special_tokens=False).ids
    assert tokenizer().decode(ids, skip_special_tokens=False) == text
    assert 0 not in ids


@pytest.mark.parametrize("text", ["Größe 12 €", "👩‍🔬 and 𝔘𝔫𝔦", "日本語 한국어 عربى", "a\tb\r\nc  d", "<|im|> <0x0A>"])
def test_hard_text_comes_back(text: str) -> None:
    assert tokenizer().decode(tokenizer().encode(text).ids, skip_special_tokens=False) == text


def test_words_of_the_world_are_single_tokens() -> None:
    vocabulary = tokenizer().get_vocab()
    assert [word for word in ENGLISH if "▁" + word not in vocabulary or word not in vocabulary] == []
    assert [word for word in CHINESE if word not in vocabulary] == []
    encoded = tokenizer().encode("What colour is the circle?").tokens
    assert encoded == ["▁What", "▁colour", "▁is", "▁the", "▁circle", "?"]
    wanted = ["左上角", "的", "图形", "是", "什么", "颜色", "？"]
    assert tokenizer().encode("左上角的图形是什么颜色？").tokens[1:] == wanted


def spelled(ids: tuple[int, ...]) -> list[str]:
    return [tokenizer().id_to_token(index) for index in ids]


def test_digits_and_letters_are_always_single_tokens() -> None:
    rng = random.Random(0)
    texts = [*WORDS, *("".join(rng.choices(CHARACTERS, k=3)) for _ in range(500)), *map(str, range(100))]
    for text in texts:
        assert spelled(answer_ids(text)[:-1]) == list(text)
        told = tokenizer().encode(f"red tag: {text}; blue tag: {text}").tokens
        told = [token for token in told if token != "▁"]
        assert [token.strip("▁") for token in told if token.strip("▁") in CHARACTERS] == list(text) * 2
    assert spelled(answer_ids("70%")[:-1]) == ["7", "0", "%"]


def templates() -> list[str]:
    """Every way of asking about the world, filled in, and every fixed answer."""
    tables = [*phrases.ASK.values(), *ask_board.ASK.values(), *ask_pair.ASK.values(), *ask_pair.ASK_ONE.values()]
    ways = [way for kinds in tables for some in kinds.values() for way in some]
    charts = [by_chart for kinds in ask_chart.ASK.values() for by_chart in kinds.values()]
    ways += [way for by_chart in charts for some in by_chart.values() for way in some]
    values = {"s": "圆", "t": "star", "ss": "circles", "c": "红色", "x": "圆", "y": "圆", "p": "上方", "d": "blue"}
    texts = [way.format(**values, w="number", i="first") for way in ways]
    for language in LANGUAGES:
        texts += [way.format(n=noun) for way in ask_outside.ASK[language] for noun in ask_outside.NOUNS[language][:1]]
        texts += [*phrases.WORDS[language].values(), *ask_chart.NAMES[language].values(), *ask_pair.WHICH[language]]
        texts += [CAPTION[language], phrases.REFUSAL[language], phrases.NO_IMAGE[language], *ask_board.NOUN[language]]
    return texts + [text for questions, answer in phrases.SMALL_TALK for text in (*questions, answer)]


def test_no_template_and_no_fixed_answer_needs_bytes() -> None:
    texts = templates()
    assert len(texts) > 300
    assert {text for text in texts for token in tokenizer().encode(text).tokens if token.startswith("<0x")} == set()


def test_no_question_and_no_answer_of_the_world_needs_bytes_and_words_stay_short() -> None:
    answers: dict[str, int] = {}
    for index in range(40):
        for kind in ("scene", "written", "board", "chart"):
            picture = make_picture(kind, split_seed("check", index))
            asked = [*ask(random.Random(index), picture, 4), *(caption(picture, language) for language in LANGUAGES)]
            for qa in asked:
                tokens = tokenizer().encode(f"{qa.question}\n{qa.answer}").tokens
                assert not [token for token in tokens if token.startswith("<0x")], qa
                answers[qa.kind] = max(answers.get(qa.kind, 0), len(answer_ids(qa.answer)))
        pair = (make_scene(split_seed("check", index)), make_scene(split_seed("check", index + 999)))
        for qa in ask_two(random.Random(index), pair, 4):
            assert not re.search("<0x", " ".join(tokenizer().encode(qa.question + qa.answer).tokens)), qa
    # A model of this size cannot write long answers to short questions; 128 is the longest that is asked for.
    assert max(answers.values()) <= 128
    assert max(length for kind, length in answers.items() if kind not in ("describe", "caption")) <= 8


def test_answers_start_without_a_space() -> None:
    for language in LANGUAGES:
        words = [*phrases.COLOUR_WORDS[language].values(), *phrases.SHAPE_WORDS[language].values()]
        assert all(len(answer_ids(word)) == 2 for word in words)


def test_special_ids_are_the_releases_and_the_placeholder_is_last() -> None:
    vocabulary = tokenizer().get_vocab(with_added_tokens=True)
    names = ["<unk>", "<pad>", "<|startoftext|>", "<|endoftext|>"]
    assert [vocabulary[name] for name in names] == [0, 1, 2, 3]
    assert vocabulary[IMAGE] == image_id() == max(vocabulary.values()) == len(vocabulary) - 1
    assert tokenizer().encode("hello").ids[0] not in (2, 3)


def test_the_mark_inside_a_typed_special_string_keeps_it_text() -> None:
    marked = tokenizer().encode("say <\ufdd01|image|> and <\ufdd01|endoftext|> and \ufdd00")
    assert image_id() not in marked.ids and END_ID not in marked.ids
    assert tokenizer().decode(marked.ids, skip_special_tokens=False) == "say <|image|> and <|endoftext|> and \ufdd0"


def test_building_it_again_gives_the_same_tokenizer() -> None:
    assert build_tokenizer().to_str() == tokenizer().to_str()


def test_segments_join_to_the_ids_of_the_whole_prompt() -> None:
    whole = f"Human: {IMAGE}\nWhat is it?\nAssistant: red circle<|endoftext|>Human: 有几个？\nAssistant: "
    opening = tuple(tokenizer().encode(f"Human: {IMAGE}").ids)
    parts = opening + history_ids("What is it?", "red circle", "image") + prompt_ids("有几个？", "turn")
    assert tuple(tokenizer().encode(whole).ids) == parts
