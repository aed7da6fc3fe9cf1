"""The tokenizer: any text survives, words of the world are one token, and a user's special strings stay text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.nano import phrases
from xverse_v.nano.sequences import answer_ids, history_ids, image_id, prompt_ids, tokenizer
from xverse_v.nano.vocabulary import CHINESE, END_ID, ENGLISH, IMAGE, build_tokenizer

# The word separator stands for a space in every tokenizer of this kind; a leading space cannot be told from none.
TEXT = st.text(st.characters(exclude_characters="\u2581\ufdd0", exclude_categories=["Cs"])).filter(
    lambda t: not t.startswith(" ")
)


@given(TEXT)
def test_any_text_comes_back(text: str):
    if any(token.content in text for token in tokenizer().get_added_tokens_decoder().values()):
        return
    ids = tokenizer().encode(text, add_special_tokens=False).ids
    assert tokenizer().decode(ids, skip_special_tokens=False) == text
    assert 0 not in ids


@pytest.mark.parametrize("text", ["Größe 12 €", "👩‍🔬 and 𝔘𝔫𝔦", "日本語 한국어 عربى", "a\tb\r\nc  d", "<|im|> <0x0A>"])
def test_hard_text_comes_back(text: str):
    assert tokenizer().decode(tokenizer().encode(text).ids, skip_special_tokens=False) == text


def test_words_of_the_world_are_single_tokens():
    vocabulary = tokenizer().get_vocab()
    assert [word for word in ENGLISH if "▁" + word not in vocabulary or word not in vocabulary] == []
    assert [word for word in CHINESE if word not in vocabulary] == []
    for number in range(10):
        assert str(number) in vocabulary
    encoded = tokenizer().encode("What colour is the circle?").tokens
    assert encoded == ["▁What", "▁colour", "▁is", "▁the", "▁circle", "?"]
    assert tokenizer().encode("左上角的图形是什么颜色？").tokens[1:] == [
        "左上角",
        "的",
        "图形",
        "是",
        "什么",
        "颜色",
        "？",
    ]


def test_answers_start_without_a_space_and_words_of_the_world_need_no_bytes():
    for language in ("en", "zh"):
        words = [*phrases.COLOUR_WORDS[language].values(), *phrases.SHAPE_WORDS[language].values()]
        assert all(len(answer_ids(word)) == 2 for word in words)
    texts = [t for kinds in phrases.ASK.values() for ways in kinds.values() for t in ways]
    texts += [text for questions, answer in phrases.SMALL_TALK for text in (*questions, answer)]
    for text in texts:
        plain = text.format(s="圆", ss="圆", c="红色", x="圆", p="上方")
        assert not [t for t in tokenizer().encode(plain).tokens if t.startswith("<0x")], plain


def test_special_ids_are_the_releases_and_the_placeholder_is_last():
    vocabulary = tokenizer().get_vocab(with_added_tokens=True)
    names = ["<unk>", "<pad>", "<|startoftext|>", "<|endoftext|>"]
    assert [vocabulary[name] for name in names] == [0, 1, 2, 3]
    assert vocabulary[IMAGE] == image_id() == max(vocabulary.values()) == len(vocabulary) - 1
    assert tokenizer().encode("hello").ids[0] not in (2, 3)


def test_the_mark_inside_a_typed_special_string_keeps_it_text():
    marked = tokenizer().encode("say <\ufdd01|image|> and <\ufdd01|endoftext|> and \ufdd00")
    assert image_id() not in marked.ids and END_ID not in marked.ids
    assert tokenizer().decode(marked.ids, skip_special_tokens=False) == "say <|image|> and <|endoftext|> and \ufdd0"


def test_building_it_again_gives_the_same_tokenizer():
    assert build_tokenizer().to_str() == tokenizer().to_str()


def test_segments_join_to_the_ids_of_the_whole_prompt():
    whole = f"Human: {IMAGE}\nWhat is it?\nAssistant: red circle<|endoftext|>Human: 有几个？\nAssistant: "
    opening = tuple(tokenizer().encode(f"Human: {IMAGE}").ids)
    parts = opening + history_ids("What is it?", "red circle", "image") + prompt_ids("有几个？", "turn")
    assert tuple(tokenizer().encode(whole).ids) == parts
