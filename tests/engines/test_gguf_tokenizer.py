"""Our tokenizer in llama.cpp's form: kinds, scores, and the same ids on texts in both languages."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.conftest import TINY, TOKENIZERS
from xverse_v.engines.gguf import tokenizer as gguf_tokenizer
from xverse_v.engines.gguf.tokenizer import BYTE, CONTROL, NORMAL, SAMPLES, UNKNOWN, UNUSED, read_vocabulary, spm_ids
from xverse_v.errors import XverseError
from xverse_v.inference.loading import resolve_model

SPECIALS = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "unk": "<unk>", "pad": "<pad>"}
ROOT = Path(__file__).parents[2]


def sources() -> dict[str, Path]:
    golden = {name: TINY / folder / "tokenizer.json" for name, folder in TOKENIZERS.items()}
    return {"nano": resolve_model("nano") / "tokenizer.json", **golden}


def corpus() -> list[str]:
    """Some thousand lines: our own pages, and all our error texts in English and Chinese."""
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "ask.md", ROOT / "docs" / "numerics.md")]
    catalogue = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "xverse_v/catalogue").glob("*.toml"))]
    lines = [line for text in (*pages, *catalogue) for line in text.splitlines()]
    # Known, by construction: what begins with a space gets one word mark from ours and two from llama.cpp, and special
    # tokens are not text.
    plain = [line for line in lines if line and not any(special in line for special in SPECIALS.values())]
    return [*SAMPLES, *(line for line in plain if not line.startswith(" "))]


@pytest.fixture(scope="module", params=sorted(sources()))
def pair(request):
    """(tokenizer.json parsed, its Tokenizer, our reading of it)"""
    path = sources()[request.param]
    document = json.loads(path.read_text(encoding="utf-8"))
    native = Tokenizer.from_file(str(path))
    return document, native, read_vocabulary(document, native.get_vocab_size() + 2, SPECIALS)


def test_ids_are_the_same_on_a_corpus_in_both_languages(pair):
    _, native, vocabulary = pair
    texts = corpus()
    assert sum(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts) > 300
    for text in texts:
        ours = native.encode(text, add_special_tokens=False).ids
        assert spm_ids(vocabulary, text) == ours, text


def test_every_token_has_its_place_and_kind(pair):
    document, native, vocabulary = pair
    assert len(vocabulary.tokens) == native.get_vocab_size() + 2
    assert vocabulary.tokens[-2:] == (f"[unused{len(vocabulary.tokens) - 2}]", f"[unused{len(vocabulary.tokens) - 1}]")
    assert vocabulary.kinds[-2:] == (UNUSED, UNUSED)
    for text, place in document["model"]["vocab"].items():
        assert vocabulary.tokens[place] == text
    kinds = dict(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
    assert kinds["<unk>"] == UNKNOWN
    assert {kinds["<|endoftext|>"], kinds["<pad>"]} == {CONTROL}
    assert {kinds[f"<0x{byte:02X}>"] for byte in range(256)} == {BYTE}
    assert kinds["a"] == NORMAL
    assert vocabulary.ids == {"bos": 2, "eos": 3, "unk": 0, "pad": 1}


def test_earlier_merges_score_higher(pair):
    document, _, vocabulary = pair
    merges = [
        merge.replace(" ", "") if isinstance(merge, str) else "".join(merge) for merge in document["model"]["merges"]
    ]
    places = document["model"]["vocab"]
    first = {token: rank for rank, token in reversed(list(enumerate(merges)))}
    assert all(vocabulary.scores[places[token]] == -rank for token, rank in first.items())


def test_a_start_token_is_announced_where_the_tokenizer_adds_one():
    found = {}
    for name, path in sources().items():
        document = json.loads(path.read_text(encoding="utf-8"))
        found[name] = read_vocabulary(document, 2000, SPECIALS).adds_start
    assert found == {"nano": False, "nobos": False, "bos": True}


def test_a_tokenizer_whose_merges_scores_cannot_say_is_found_out():
    """'abc' is learned as ab + c, and never as a + bc; llama.cpp, which knows no pairs, joins those as well."""
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}}
    for text in ("a", "b", "c", "bc", "ab", "abc", gguf_tokenizer.SPACE):
        vocabulary[text] = len(vocabulary)
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    document = {
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True, **plain}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": gguf_tokenizer.SPACE, "prepend_scheme": "never"},
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": vocabulary,
            "merges": [["b", "c"], ["a", "b"], ["ab", "c"]],
        },
    }
    native = Tokenizer.from_str(json.dumps(document))
    found = read_vocabulary(document, len(vocabulary), {"bos": None, "eos": None, "unk": "<unk>", "pad": None})

    def ours(text):
        return native.encode(text, add_special_tokens=False).ids

    differing = gguf_tokenizer.differing(ours, lambda text: spm_ids(found, text), ["abc", "ab", "bc", "cba"])
    assert differing == ["abc"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"type": "Unigram"}, "tokenizer type"),
        ({"byte_fallback": False}, "tokenizer byte_fallback"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(change, name):
    document = json.loads(sources()["nano"].read_text(encoding="utf-8"))
    document["model"] |= change
    with pytest.raises(XverseError) as caught:
        read_vocabulary(document, 2000, SPECIALS)
    assert (caught.value.code, caught.value.facts["name"]) == ("E832", name)
