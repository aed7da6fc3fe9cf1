"""Ways a finished folder is broken, each met by every command that can see it, with its own code.

The table says how to break it and what inspect, load and verify must say. A renamed folder is the one that must keep
working (test_conversion_folder.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.weights.breaking import OUR_Q_PROJ, Marker, one_more_id, put_nan, shrink
from tests.weights.tiny_parts import change_json, change_safetensors, remake_manifest
from xverse_v.errors import XverseError
from xverse_v.weights.inspect import inspect_folder
from xverse_v.weights.load import load_model
from xverse_v.weights.verify import verify_folder


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
