"""Ways the parts of a checkpoint are broken, each refused by a conversion with its own code and text.

The finished folder's are test_broken_folders.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file

from tests.weights.breaking import Q_PROJ, Marker, one_more_id, put_nan, shrink
from tests.weights.tiny_parts import Parts, change_json, change_pickle, shard
from xverse_v.errors import XverseError, catalogue
from xverse_v.weights.inspect import inspect_folder


def rename_lora(state) -> None:
    for name in [name for name in state if "lora_" in name]:
        state[name.replace("llama_model.base_model.model", "base_model")] = state.pop(name)


def drop_lora(state) -> None:
    for name in [name for name in state if "lora_" in name]:
        del state[name]


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
