"""Parts in other forms than the release's own, and a folder in several shards: the same model."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from tests.conftest import TINY
from tests.weights.tiny_parts import Parts, change_json, change_pickle, golden_parts, logits_of, shard
from xverse_v.weights.load import load_model


def test_without_ln_vision_the_norm_is_at_its_initial_values(parts, tmp_path):
    change_pickle(parts.adapters, lambda state: [state.pop(f"ln_vision.{kind}") for kind in ("weight", "bias")])
    report = parts.convert(tmp_path / "out")
    state = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(state["model.multi_modal_projector.layer_norm.weight"], torch.ones(64))
    assert torch.equal(state["model.multi_modal_projector.layer_norm.bias"], torch.zeros(64))
    assert report.tensors["generated"] == 2 and any("no ln_vision" in note for note in report.notes)


def test_a_config_of_type_xverse_gives_the_same_folder(parts, converted, tmp_path):
    (parts.llm / "config.as_xverse.json").replace(parts.llm / "config.json")
    change_json(parts.llm / "config.json", lambda config: config.update(max_tokenizer_truncation=6144))
    report = parts.convert(tmp_path / "out")
    assert (tmp_path / "out/config.json").read_text() == (converted / "config.json").read_text()
    assert report.ignored_fields == ["max_tokenizer_truncation"]


def test_a_rotary_base_in_the_config_is_kept(parts, tmp_path):
    change_json(parts.llm / "config.json", lambda config: config.update(rope_theta=500000.0))
    parts.convert(tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["text_config"]["rope_parameters"]["rope_theta"] == 500000.0


def test_an_unused_row_serves_the_placeholder(parts, tmp_path):
    def grow(name):
        return lambda state: state.update({name: torch.cat([state[name], torch.ones(8, 96).to(state[name])])})

    change_pickle(shard(parts.llm, 1), grow("model.embed_tokens.weight"))
    change_pickle(shard(parts.llm, 2), grow("lm_head.weight"))
    change_json(parts.llm / "config.json", lambda config: config.update(vocab_size=520))
    report = parts.convert(tmp_path / "out")
    assert report.placeholder == {"id": 512, "appended_rows": 0}
    assert load_file(tmp_path / "out/model.safetensors")["lm_head.weight"].shape == (520, 96)


def test_several_shards_hold_the_same_tensors(converted, tmp_path):
    report = golden_parts().convert(tmp_path / "out", max_shard_bytes=500_000)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert len(report.files) > 3
    assert all(size < 520_000 for size in report.files.values())
    found = {}
    for name in report.files:
        shard_state = load_file(tmp_path / "out" / name)
        assert all(index["weight_map"][key] == name for key in shard_state)
        found |= shard_state
    wanted = load_file(converted / "model.safetensors")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted) and found.keys() == wanted.keys()
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in found.values())
    one, many = load_model(converted), load_model(tmp_path / "out")
    torch.testing.assert_close(logits_of(one, converted), logits_of(many, tmp_path / "out"))


def test_safetensors_parts_give_the_same_bytes(parts, converted, tmp_path):
    for folder, names in ((parts.clip, ["pytorch_model.bin"]), (parts.llm, [shard(parts.llm, n).name for n in (1, 2)])):
        state = {}
        for name in names:
            state |= torch.load(folder / name, weights_only=True)
            (folder / name).unlink()
        save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors")
    (parts.llm / "pytorch_model.bin.index.json").unlink()
    adapters = tmp_path / "adapters"  # no suffix: the format comes from the bytes
    save_file(torch.load(parts.adapters, weights_only=True)["model"], adapters)
    Parts(parts.clip, parts.llm, adapters).convert(tmp_path / "out")
    found, wanted = load_file(tmp_path / "out/model.safetensors"), load_file(converted / "model.safetensors")
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_other_tokenizer_variant_keeps_its_bos(parts, tmp_path):
    source = TINY / "XVERSE-tiny-Chat-bos-tokenizer/tokenizer.json"
    (parts.llm / "tokenizer.json").write_bytes(source.read_bytes())
    parts.convert(tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert processor.tokenizer("Human: ")["input_ids"][0] == 2
