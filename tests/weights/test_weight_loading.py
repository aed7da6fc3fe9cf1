"""Loading: mapped, strict, in the dtype asked for; and what inspect and verify say of a good folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tests.weights.tiny_parts import ADAPTERS, CLIP, LLM, golden_parts
from xverse_v.errors import XverseError
from xverse_v.weights.inspect import inspect_folder
from xverse_v.weights.load import load_model
from xverse_v.weights.parity import record_parity
from xverse_v.weights.verify import verify_folder


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    """The recordings' parts in bfloat16."""
    out = tmp_path_factory.mktemp("low") / "model"
    golden_parts().convert(out, dtype="bfloat16")
    return out


def test_auto_on_the_cpu_is_float32_and_a_named_dtype_is_obeyed(low):
    assert {p.dtype for p in load_model(low).parameters()} == {torch.float32}
    stored = load_model(low, dtype="bfloat16")
    assert {p.dtype for p in stored.parameters()} == {torch.bfloat16} and stored.config.dtype == torch.bfloat16
    with pytest.raises(XverseError) as caught:
        load_model(low, dtype="int4")
    assert caught.value.code == "E314"


def test_the_model_is_ready_to_answer(converted):
    model = load_model(converted, attention="eager")
    assert not model.training and model.config._attn_implementation == "eager"
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert model.generation_config.repetition_penalty == 1.05 and model.generation_config.eos_token_id == 3
    rotary = model.model.language_model.rotary_emb.inv_freq
    assert rotary.dtype == torch.float32 and float(rotary[0]) == 1.0 and len(rotary) == 12


def test_weights_are_mapped_not_copied(converted):
    """Pages of a mapped file belong to the file: /proc says which mapping a parameter's address lies in."""
    weight = load_model(converted).model.language_model.embed_tokens.weight
    address = weight.data_ptr()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            start, _, stop = line.split()[0].partition("-")
            if int(start, 16) <= address < int(stop, 16):
                assert line.rstrip().endswith("model.safetensors")
                return
    pytest.fail("the parameter lies in no mapping")


def test_changing_a_loaded_model_does_not_change_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        load_model(folder).model.language_model.embed_tokens.weight.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


def test_an_adapter_folder_loads_as_unmerged_layers(unmerged):
    model = load_model(unmerged)
    lora = {name: tensor for name, tensor in model.named_parameters() if ".lora_" in name}
    assert len(lora) == 42 and all(float(tensor.abs().max()) > 0 for tensor in lora.values())
    assert not any("vision_tower" in name for name in lora)


@pytest.mark.parametrize("part", [CLIP, LLM, ADAPTERS])
def test_a_part_is_inspected_but_not_loaded(part):
    report = inspect_folder(TINY / part)
    assert not report.problems and report.found > 0
    assert report.kind == {CLIP: "clip", LLM: "decoder", ADAPTERS: "adapters"}[part]
    with pytest.raises(XverseError) as caught:
        load_model(TINY / part)
    assert caught.value.code == "E318"


def test_inspect_counts_what_is_there(converted, unmerged, low):
    report = inspect_folder(converted, hashes=True)
    assert (report.expected, report.found) == (89, 89)
    assert not report.missing and not report.unexpected and not report.wrong_shape and not report.problems
    assert report.dtypes == {"vision tower": {"float32": 53}, "projector": {"float32": 6}, "decoder": {"float32": 30}}
    assert report.total_bytes == (converted / "model.safetensors").stat().st_size
    assert report.parameters == sum(p.numel() for p in load_model(converted).parameters())
    assert report.tokenizer == {"ids": 513, "rows": 513, "image_token_id": 512}
    assert report.orientation == "release" and report.manifest["changed"] == []
    assert inspect_folder(unmerged).adapter == {"rank": [8], "alpha": 16, "tensors": 42, "dtypes": {"float32": 42}}
    assert inspect_folder(low).dtypes["decoder"] == {"bfloat16": 30}


def test_a_folder_of_save_pretrained_is_a_model_folder(tiny_folder):
    report = inspect_folder(tiny_folder)
    assert not report.problems and report.notes == ["no manifest.json: sizes and hashes cannot be checked"]
    load_model(tiny_folder)
    states = {check.name: check.state for check in verify_folder(tiny_folder).checks}
    assert states == {"headers": "passed", "hashes": "skipped", "finite": "passed", "parity": "skipped"}


@pytest.mark.parametrize("name", ["converted", "unmerged", "low"])
def test_a_good_folder_verifies(name, request):
    report = verify_folder(request.getfixturevalue(name))
    assert report.passed and [check.state for check in report.checks] == ["passed"] * 4


def test_parity_can_be_recorded_for_a_folder_that_was_not_converted(tiny_folder, copy_of, converted):
    folder = copy_of(tiny_folder)
    record = record_parity(folder)
    assert verify_folder(folder).passed
    assert record.top_ids == record_parity(copy_and_strip(converted, folder.parent / "other")).top_ids


def copy_and_strip(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    (target / "manifest.json").unlink()
    return target


def test_the_placeholder_is_never_among_the_recorded_logits(converted):
    record = json.loads((converted / "parity.json").read_text())
    assert 512 not in record["top_ids"] and record["prompt_ids"].count(512) == 256
    assert record["top_logits"] == sorted(record["top_logits"], reverse=True)


def test_inspecting_an_unfinished_or_foreign_folder_says_so(parts, tmp_path):
    (parts.llm / "pytorch_model-00002-of-00002.bin").unlink()
    report = inspect_folder(parts.llm)
    assert report.kind == "decoder" and [problem.code for problem in report.problems] == ["E319"]
    (parts.clip / "config.json").write_text("{}")
    with pytest.raises(XverseError) as caught:
        inspect_folder(parts.clip)
    assert caught.value.code == "E311"
