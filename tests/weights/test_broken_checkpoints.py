"""Twelve ways a checkpoint is broken, each met by every command that can see it, each with its own code and text.

The table says, for parts before a conversion and for a finished folder, how to break it and what convert, inspect,
load and verify must say. A renamed folder is the one that must keep working (test_conversion.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.weights.tiny_parts import Parts, change_json, change_pickle, change_safetensors, remake_manifest, shard
from xverse_v.errors import XverseError, catalogue
from xverse_v.weights.inspect import inspect_folder
from xverse_v.weights.load import load_model
from xverse_v.weights.verify import verify_folder

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
OUR_Q_PROJ = "model.language_model.layers.1.self_attn.q_proj.weight"


class Marker:
    """Unpickling an instance creates a file: what code in a checkpoint could do."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def shrink(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def one_more_id(tokenizer) -> None:
    tokenizer["model"]["vocab"]["elsewhere"] = 600


def rename_lora(state) -> None:
    for name in [name for name in state if "lora_" in name]:
        state[name.replace("llama_model.base_model.model", "base_model")] = state.pop(name)


def drop_lora(state) -> None:
    for name in [name for name in state if "lora_" in name]:
        del state[name]


def put_nan(name: str) -> Callable[[dict], None]:
    def change(state) -> None:
        state[name] = state[name].clone()
        state[name][3, 5] = float("nan")

    return change


@dataclass(frozen=True)
class BrokenParts:
    code: str
    name: str
    break_it: Callable[[Parts], object]
    said: str  # a fact that the English text must hold


BROKEN_PARTS = {
    "missing tensor": BrokenParts(
        "E301",
        "missing_tensors",
        lambda p: change_pickle(shard(p.llm, 1), lambda s: s.pop(Q_PROJ)),
        "layers.1.self_attn.q",
    ),
    "renamed tensor": BrokenParts(
        "E301",
        "missing_tensors",
        lambda p: change_pickle(shard(p.llm, 1), lambda s: s.update({"model.odd": s.pop(Q_PROJ)})),
        "model.odd",
    ),
    "missing projector": BrokenParts(
        "E301",
        "missing_tensors",
        lambda p: change_pickle(p.adapters, lambda s: s.pop("llama_proj.2.bias")),
        "linear_2.bias",
    ),
    "half a norm": BrokenParts(
        "E301",
        "missing_tensors",
        lambda p: change_pickle(p.adapters, lambda s: s.pop("ln_vision.bias")),
        "layer_norm.bias",
    ),
    "half of a LoRA": BrokenParts(
        "E301",
        "missing_tensors",
        lambda p: change_pickle(p.adapters, lambda s: s.pop(next(n for n in s if "lora_B" in n))),
        "LoRA B of",
    ),
    "wrong shape": BrokenParts(
        "E303",
        "wrong_shape",
        lambda p: change_pickle(shard(p.llm, 1), lambda s: s.update({Q_PROJ: torch.zeros(96, 95)})),
        "(96, 95)",
    ),
    "another decoder's size": BrokenParts(
        "E303", "wrong_shape", lambda p: change_json(p.llm / "config.json", lambda c: c.update(hidden_size=128)), "128"
    ),
    "swapped tokenizer": BrokenParts(
        "E302", "tokenizer_mismatch", lambda p: change_json(p.llm / "tokenizer.json", one_more_id), "601"
    ),
    "other special ids": BrokenParts(
        "E302",
        "tokenizer_mismatch",
        lambda p: change_json(p.llm / "config.json", lambda c: c.update(eos_token_id=2)),
        "3",
    ),
    "truncated pickle": BrokenParts(
        "E306", "truncated_file", lambda p: shrink(shard(p.llm, 2), 200_000), "200000 bytes"
    ),
    "extra keys": BrokenParts(
        "E304",
        "unexpected_tensors",
        lambda p: change_pickle(p.adapters, lambda s: s.update({"vision_proj.weight": torch.zeros(2)})),
        "vision_proj.weight",
    ),
    "a layer too many": BrokenParts(
        "E304",
        "unexpected_tensors",
        lambda p: change_pickle(shard(p.llm, 1), lambda s: s.update({Q_PROJ.replace("1", "3", 1): s[Q_PROJ]})),
        "layers.3",
    ),
    "NaN": BrokenParts("E307", "not_finite", lambda p: change_pickle(shard(p.llm, 1), put_nan(Q_PROJ)), "1 values"),
    "NaN in LoRA": BrokenParts(
        "E307",
        "not_finite",
        lambda p: change_pickle(p.adapters, lambda s: next(s[n] for n in s if "lora_A" in n).fill_(float("nan"))),
        "NaN",
    ),
    "no LoRA": BrokenParts(
        "E308", "lora_matches_nothing", lambda p: change_pickle(p.adapters, drop_lora), "0 LoRA tensors"
    ),
    "renamed LoRA": BrokenParts(
        "E308", "lora_matches_nothing", lambda p: change_pickle(p.adapters, rename_lora), "42 LoRA tensors, of which 0"
    ),
    "LoRA of a deeper decoder": BrokenParts(
        "E308",
        "lora_matches_nothing",
        lambda p: change_pickle(
            p.adapters,
            lambda s: s.update({n.replace("layers.2", "layers.7"): s[n] for n in list(s) if "layers.2" in n}),
        ),
        "56 LoRA tensors, of which 42",
    ),
    "both styles at once": BrokenParts(
        "E312",
        "duplicate_tensor",
        lambda p: change_pickle(
            p.adapters,
            lambda s: s.update({n.replace(".weight", ".default.weight"): s[n] for n in list(s) if "lora_" in n}),
        ),
        "default",
    ),
    "8-bit weights": BrokenParts(
        "E314",
        "unsupported_dtype",
        lambda p: change_pickle(shard(p.llm, 1), lambda s: s.update({Q_PROJ: s[Q_PROJ].to(torch.int8)})),
        "int8",
    ),
    "another model": BrokenParts(
        "E311",
        "config_unsupported",
        lambda p: change_json(p.llm / "config.json", lambda c: c.update(model_type="qwen2")),
        "qwen2",
    ),
    "a tied head": BrokenParts(
        "E311",
        "config_unsupported",
        lambda p: change_json(p.llm / "config.json", lambda c: c.update(tie_word_embeddings=True)),
        "tie_word_embeddings",
    ),
    "a shard not downloaded": BrokenParts(
        "E319", "missing_file", lambda p: shard(p.llm, 2).unlink(), "pytorch_model-00002-of-00002.bin"
    ),
    "no folder": BrokenParts("E300", "no_such_path", lambda p: p.clip.rename(p.clip.parent / "elsewhere"), "clip-vit"),
    "a page instead of a file": BrokenParts(
        "E343", "not_a_weight_file", lambda p: p.adapters.write_bytes(b"<!doctype html><title>404</title>"), "3c 21"
    ),
    "a large-file pointer": BrokenParts(
        "E306",
        "truncated_file",
        lambda p: p.adapters.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS",
    ),
    "torch's format before 1.6": BrokenParts(
        "E342",
        "old_pickle_format",
        lambda p: torch.save({"a": torch.zeros(1)}, p.adapters, _use_new_zipfile_serialization=False),
        "1.6",
    ),
}


@pytest.mark.parametrize("case", BROKEN_PARTS)
def test_convert_refuses(case, parts, tmp_path):
    broken = BROKEN_PARTS[case]
    broken.break_it(parts)
    with pytest.raises(XverseError) as caught:
        parts.convert(tmp_path / "out")
    assert (caught.value.code, caught.value.name) == (broken.code, broken.name)
    assert broken.said in caught.value.text("en")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out.partial*"))


def test_convert_refuses_nan_in_a_lora_that_is_kept(parts, tmp_path):
    change_pickle(parts.adapters, lambda s: next(s[n] for n in s if "lora_A" in n).fill_(float("nan")))
    with pytest.raises(XverseError) as caught:
        parts.convert(tmp_path / "out", keep_lora=True)
    assert caught.value.code == "E307" and "lora_A" in caught.value.text("en")


def test_convert_refuses_a_pickle_with_code_and_runs_none_of_it(parts, tmp_path):
    torch.save({"model": {"w": torch.zeros(2)}, "config": Marker(tmp_path / "ran")}, parts.adapters)
    with pytest.raises(XverseError) as caught:
        parts.convert(tmp_path / "out")
    assert caught.value.code == "E341" and "posix.mkdir" in caught.value.text("en")
    report = inspect_folder(parts.adapters)
    assert [problem.code for problem in report.problems] == ["E341"]
    assert not (tmp_path / "ran").exists()


def cast_one(state) -> None:
    state[OUR_Q_PROJ] = state[OUR_Q_PROJ].bfloat16()


def swap_two_words(tokenizer) -> None:
    """A tokenizer of the same size that reads other words: only a computed prompt can tell."""
    vocab = tokenizer["model"]["vocab"]
    first, second = "▁", ":"
    vocab[first], vocab[second] = vocab[second], vocab[first]


def pickled_weights(folder: Path, value: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1), "b": value}, folder / "pytorch_model.bin")
    remake_manifest(folder)


def change_tokenizer(folder: Path, change: Callable[[dict], object]) -> None:
    change_json(folder / "tokenizer.json", change)
    remake_manifest(folder)


def change_adapter(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "adapter/adapter_model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    remake_manifest(folder)


def same_size_other_bytes(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(path.read_text().replace("0.8", "0.9"))


@dataclass(frozen=True)
class BrokenFolder:
    """`load` is None where the fault cannot be seen without reading or hashing every byte."""

    code: str
    break_it: Callable[[Path], object]
    load: bool = True
    inspect: bool = True
    adapter: bool = False


BROKEN_FOLDERS = {
    "missing tensor": BrokenFolder("E301", lambda f: change_safetensors(f, lambda s: s.pop(OUR_Q_PROJ))),
    "wrong shape": BrokenFolder(
        "E303", lambda f: change_safetensors(f, lambda s: s.update({OUR_Q_PROJ: torch.zeros(96, 95)}))
    ),
    "mixed dtypes": BrokenFolder("E305", lambda f: change_safetensors(f, cast_one)),
    "swapped tokenizer": BrokenFolder("E302", lambda f: change_tokenizer(f, one_more_id)),
    "swapped tokenizer of the same size": BrokenFolder(
        "E302", lambda f: change_tokenizer(f, swap_two_words), load=False, inspect=False
    ),
    "truncated file": BrokenFolder("E306", lambda f: shrink(f / "model.safetensors", 500_000)),
    "extra keys": BrokenFolder(
        "E304", lambda f: change_safetensors(f, lambda s: s.update({"model.extra": torch.zeros(2)}))
    ),
    "pickle with code": BrokenFolder("E341", lambda f: pickled_weights(f, Marker(f.parent / "ran"))),
    "pickle without code": BrokenFolder("E319", lambda f: pickled_weights(f, torch.zeros(1))),
    "NaN": BrokenFolder("E307", lambda f: change_safetensors(f, put_nan(OUR_Q_PROJ)), load=False, inspect=False),
    "changed weights": BrokenFolder(
        "E310",
        lambda f: change_safetensors(f, lambda s: s.update({OUR_Q_PROJ: s[OUR_Q_PROJ].flip(0).contiguous()})),
        load=False,
        inspect=False,
    ),
    "manifest mismatch, size": BrokenFolder("E309", lambda f: (f / "chat_template.jinja").write_text("{{ '' }}")),
    "manifest mismatch, bytes": BrokenFolder("E309", same_size_other_bytes, load=False, inspect=False),
    "a file removed": BrokenFolder("E309", lambda f: (f / "generation_profiles.json").unlink()),
    "LoRA that matches nothing": BrokenFolder(
        "E308",
        lambda f: change_adapter(
            f, lambda s: s.update({n.replace("language_model", "decoder"): s.pop(n) for n in list(s)})
        ),
        adapter=True,
    ),
    "LoRA not complete": BrokenFolder(
        "E301", lambda f: change_adapter(f, lambda s: s.pop(next(iter(s)))), adapter=True
    ),
}


@pytest.mark.parametrize("case", BROKEN_FOLDERS)
def test_a_broken_folder_is_met(case, converted, unmerged, copy_of):
    broken = BROKEN_FOLDERS[case]
    folder = copy_of(unmerged if broken.adapter else converted)
    broken.break_it(folder)

    assert broken.code in [problem.code for problem in verify_folder(folder).problems]

    found = [problem.code for problem in inspect_folder(folder).problems]
    assert (broken.code in found) == broken.inspect

    if broken.load:
        with pytest.raises(XverseError) as caught:
            load_model(folder)
        assert caught.value.code == broken.code
    else:
        load_model(folder)
    assert not (folder.parent / "ran").exists()


def test_inspect_with_hashes_sees_a_change_of_the_same_size(folder):
    same_size_other_bytes(folder)
    assert [problem.code for problem in inspect_folder(folder, hashes=True).problems] == ["E309"]


def test_parts_of_different_dtypes_convert_to_one(converted, parts, tmp_path):
    """Mixed parts are normal, float32 adapters on a bfloat16 decoder; a mixed folder is not."""
    parts.convert(tmp_path / "out", dtype="float16")
    assert {str(tensor.dtype) for tensor in load_file(tmp_path / "out/model.safetensors").values()} == {"torch.float16"}


def test_a_value_beyond_float16_is_refused_and_explained(parts, tmp_path):
    change_pickle(shard(parts.llm, 1), lambda state: state[Q_PROJ].__setitem__((0, 0), 1e6))
    with pytest.raises(XverseError) as caught:
        parts.convert(tmp_path / "out", dtype="float16")
    assert caught.value.code == "E307" and "65504" in caught.value.text("en")
    parts.convert(tmp_path / "fine", dtype="bfloat16")


def test_every_text_of_this_room_is_complete_in_both_languages():
    entries = {code: entry for code, entry in catalogue().items() if "E300" <= code < "E350"}
    assert len(entries) >= 12
    for code, entry in entries.items():
        for language in ("en", "zh"):
            texts = entry[language]
            assert set(texts) == {"fact", "cause", "next"} and all(texts.values()), code
        placeholders = [
            {part.split("}")[0] for part in " ".join(entry[language].values()).split("{")[1:]}
            for language in ("en", "zh")
        ]
        assert placeholders[0] == placeholders[1], code
    assert len({entry["name"] for entry in entries.values()}) == len(entries)
