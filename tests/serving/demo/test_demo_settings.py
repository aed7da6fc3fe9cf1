"""Settings from a browser, options, passwords."""

from __future__ import annotations

from pathlib import Path

import pytest

from xverse_v.errors import XverseError
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model.prompt import RELEASE_SYSTEM
from xverse_v.serving.demo.choices import NAMES, defaults, read
from xverse_v.serving.demo.options import read_passwords
from xverse_v.serving.demo.wiring import browser_language, read_box

RELEASE = SamplingSettings(max_new_tokens=2048, temperature=0.0, top_p=0.8, top_k=30, repetition_penalty=1.05)


def values(**changes):
    return [(defaults(RELEASE, 9) | changes)[name] for name in NAMES]


def test_first_settings_are_the_releases():
    first = defaults(RELEASE, 9)
    assert first["system"] == RELEASE_SYSTEM and first["do_sample"] is False
    assert (first["temperature"], first["top_p"], first["top_k"]) == (1.0, 0.8, 30)
    assert (first["repetition_penalty"], first["max_new_tokens"]) == (1.05, 2048)
    chosen = read(values(), RELEASE)
    assert chosen.options["temperature"] == 0.0 and "max_new_tokens" not in chosen.options
    assert chosen.system == RELEASE_SYSTEM and chosen.max_tiles == 9


def test_ticking_the_box_samples():
    chosen = read(values(do_sample=True, temperature=0.7, top_k=5.0, max_new_tokens=64.0, system="  "), RELEASE)
    assert chosen.options["temperature"] == 0.7 and chosen.options["top_k"] == 5
    assert chosen.options["max_new_tokens"] == 64 and chosen.system is None


@pytest.mark.parametrize(
    "bad",
    [
        {"top_p": 7},
        {"top_k": -1},
        {"seed": None},
        {"max_new_tokens": "many"},
        {"repetition_penalty": [1]},
        {"top_k": 1.5},
    ],
)
def test_what_a_browser_made_up_is_refused(bad):
    with pytest.raises(XverseError, match="E101"):
        read(values(**bad), RELEASE)


def test_the_box_may_hold_anything():
    assert read_box({"text": "a", "files": [{"path": "/x"}, {"path": 3}, "no", None]}) == ("a", ["/x"])
    for strange in (None, [], "text", {"text": 4}, {"files": None}):
        assert read_box(strange) == ("", [])


def test_the_browsers_language():
    assert browser_language("zh-CN,zh;q=0.9,en;q=0.8") == "zh"
    assert (
        browser_language("en-GB,zh;q=0.5") == "en"
        and browser_language("fr,zh") == "zh"
        and browser_language("") == "en"
    )


def auth_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "names"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_names_and_passwords(tmp_path):
    path = auth_file(tmp_path, "# people\n\nann:long enough\n王:密码密码密码密码:1\n")
    assert read_passwords(path) == {"ann": "long enough", "王": "密码密码密码密码:1"}


@pytest.mark.parametrize("text", ["", "# none\n", "ann\n", "ann:short\n", ":nameless one\n"])
def test_a_bad_auth_file(tmp_path, text):
    with pytest.raises(XverseError, match="E665"):
        read_passwords(auth_file(tmp_path, text))


def test_an_auth_file_that_others_can_read_or_that_is_missing(tmp_path):
    with pytest.raises(XverseError, match="chmod 600"):
        read_passwords(auth_file(tmp_path, "ann:long enough\n", 0o644))
    with pytest.raises(XverseError, match="E665"):
        read_passwords(tmp_path / "missing")
