"""Which model a spec names, and what is said where it names none."""

import json

import pytest

from xverse_v.errors import XverseError
from xverse_v.evaluation.contract import Prompt
from xverse_v.evaluation.models import ModelOptions, open_model


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("no/such/folder", "E765"),
        ("nanoo", "E765"),
        ("https://api.example.com/v1", "E765"),
        ("https://api.example.com/v1#", "E765"),
        ("https://user:pw@api.example.com/v1#m", "E766"),
    ],
)
def test_nothing_is_guessed(spec, code, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(XverseError) as caught:
        open_model(spec)
    assert caught.value.code == code and "pw@" not in str(caught.value)


def test_a_folder_must_say_what_it_is(tmp_path):
    for config in (None, "{", "[]", "{}"):
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(XverseError, match="E765") as caught:
            open_model(str(tmp_path))
        assert str(tmp_path) in str(caught.value)


def test_code_that_comes_with_a_model_is_never_run(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "modeling_own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = {"model_type": "own_vl", "auto_map": {"AutoConfig": "modeling_own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(XverseError, match="E770"):
        open_model(str(tmp_path))
    assert not ran.exists()


def test_a_text_model_is_refused_by_its_type(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(XverseError, match=r"E770.*llama"):
        open_model(str(tmp_path))


def test_a_folder_is_ours_by_its_config_whatever_it_is_called(tiny_folder):
    model = open_model(str(tiny_folder), ModelOptions(name="mine", device="cpu"))
    (prediction,) = model.answers([("1", Prompt(("Hello?",), max_new_tokens=3))])
    assert model.name == "mine" and model.facts["kind"] == "xverse_v"
    assert prediction.key == "1" and prediction.facts["completion_tokens"] <= 3


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"concurrency": 0}, {"attempts": 0}, {"timeout": 0.0}, {"timeout": float("nan")}]
)
def test_bad_numbers_name_their_flag(bad):
    with pytest.raises(XverseError, match="E774 --"):
        ModelOptions(**bad)
