"""The catalogue is complete in both languages and the error class keeps its promises."""

import pickle
import re
import string
from collections import Counter

import pytest

from xverse_v.errors import XverseError, catalogue, error, user_language

PARTS = ("fact", "cause", "next")
ROOMS = {
    "inference": range(100, 150),
    "plan": range(150, 180),
    "data": range(200, 250),
    "training": range(250, 300),
    "weights": range(300, 400),
    "media": range(500, 600),
    "serving": range(600, 660),
    "demo": range(660, 700),
    "evaluation": range(700, 730),
    "benchmarks": range(730, 760),
    "judge": range(760, 790),
    "cli": range(800, 830),
    "speed": range(809, 820),
    "llamacpp": range(830, 850),
    "vllm": range(850, 860),
    "quantise": range(860, 880),
    "nano": range(900, 910),
}
ENTRIES = [pytest.param(code, entry, id=code) for code, entry in catalogue().items()]


def placeholders(text):
    """Names in a text. A Chinese text may use `reason_zh` where the English one uses `reason`."""
    return {name.removesuffix("_zh") for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_an_entry_is_complete_in_both_languages(code, entry):
    assert re.fullmatch(r"E\d{3}", code)
    assert set(entry) - {"exit_code"} == {"name", "en", "zh"}
    assert re.fullmatch(r"[a-z][a-z0-9_]+", entry["name"])
    assert entry.get("exit_code", 1) in (1, 2)
    for language in ("en", "zh"):
        assert set(entry[language]) == set(PARTS)
        for part in PARTS:
            text = entry[language][part]
            assert text == text.strip() != ""
            assert "\n" not in text, "each part is one line"
    assert any("\u4e00" <= letter <= "\u9fff" for letter in entry["zh"]["fact"])
    assert not any("\u4e00" <= letter <= "\u9fff" for part in PARTS for letter in entry["en"][part])


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_both_languages_tell_the_same_facts(code, entry):
    for part in PARTS:
        # A fact that one language gives and the other keeps to itself would make one of the readers the poorer.
        assert placeholders(entry["en"][part]) == placeholders(entry["zh"][part]), part


@pytest.mark.parametrize(("code", "entry"), ENTRIES)
def test_every_text_can_be_filled(code, entry):
    texts = [entry[language][part] for language in ("en", "zh") for part in PARTS]
    names = {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    assert not names & {"code", "self"}, "these are taken: error(code, **facts) could not be called"
    assert all(name.isidentifier() for name in names)
    formats = {name: spec for text in texts for _, name, spec, _ in string.Formatter().parse(text) if name}
    facts = {name: 7 if spec else "x" for name, spec in formats.items()}
    text = error(code, **facts).text("en")
    assert text.startswith(f"{code} ")
    assert text.count("\n") == 2


def test_names_are_unique():
    named = Counter(entry["name"] for entry in catalogue().values())
    assert {name: count for name, count in named.items() if count > 1} == {}


def test_codes_stand_in_the_file_of_their_room():
    import tomllib
    from importlib.resources import files

    for path in files("xverse_v").joinpath("catalogue").iterdir():
        if path.name.endswith(".toml") and (room := path.name.removesuffix(".toml")) in ROOMS:
            codes = tomllib.loads(path.read_text(encoding="utf-8"))
            assert all(int(code[1:]) in ROOMS[room] for code in codes), path.name


def test_an_error_is_three_lines_and_a_document():
    problem = error("E827", path="a.jsonl")
    assert (problem.name, problem.exit_code) == ("batch_same_file", 2)
    assert problem.text("en").split("\n")[0] == "E827 Input and output are the same file: a.jsonl."
    document = problem.as_dict()
    assert set(document) == {"code", "name", *PARTS}


def test_a_missing_fact_is_found_when_the_error_is_built():
    with pytest.raises(KeyError):
        error("E827")


def test_an_unknown_code_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        error("E999")


def test_errors_cross_process_borders():
    copy = pickle.loads(pickle.dumps(error("E827", path="a")))
    assert isinstance(copy, XverseError)
    assert (copy.code, copy.facts, copy.exit_code) == ("E827", {"path": "a"}, 2)


@pytest.mark.parametrize(
    ("variable", "locale", "language"),
    [
        ("zh", "en_US.UTF-8", "zh"),
        ("en", "zh_CN.UTF-8", "en"),
        ("ZH-CN", "C", "zh"),
        ("", "zh_CN.UTF-8", "zh"),
        ("", "de_DE.UTF-8", "en"),
        ("klingon", "zh_TW.UTF-8", "zh"),
    ],
)
def test_the_language_follows_the_variable_then_the_locale(monkeypatch, variable, locale, language):
    monkeypatch.setenv("XVERSE_V_LANG", variable)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LC_ALL", locale)
    assert user_language() == language


def test_str_is_the_text_in_the_readers_language(monkeypatch):
    monkeypatch.setenv("XVERSE_V_LANG", "zh")
    assert "同一个文件" in str(error("E827", path="a"))
