"""Conversion: the numbers are the release's, every key is accounted for, and a half-finished folder cannot look
finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.conftest import GOLDEN, TINY, golden, golden_image, tiny_state
from tests.weights.tiny_parts import (
    ADAPTERS,
    CLIP,
    LLM,
    NEWER_ADAPTERS,
    Parts,
    change_json,
    change_pickle,
    golden_parts,
    shard,
)
from xverse_v.errors import XverseError
from xverse_v.weights import convert as converting
from xverse_v.weights import intake, lora
from xverse_v.weights.load import load_model, weights_id

CASES = golden("model")["generate_individual"]
ARRAYS = np.load(GOLDEN / "model.npz")


@torch.no_grad()
def logits_of(model, folder: Path, row: int = 0) -> torch.Tensor:
    case = CASES[row]
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(
        images=golden_image(case["image"]),
        text=f"Human: <|image|>\n{case['question']}\nAssistant: ",
        return_tensors="pt",
    )
    return model(**inputs, logits_to_keep=1).logits[0, -1, :512]


@pytest.mark.parametrize("row", range(3))
def test_a_converted_folder_gives_the_recorded_logits(row, converted):
    found = logits_of(load_model(converted), converted, row).numpy()
    recorded = ARRAYS["first_logits"][row]
    np.testing.assert_allclose(found, recorded, rtol=0, atol=1e-5 * np.abs(recorded).max())


def test_the_tensors_are_those_put_together_by_hand(converted):
    found, wanted = load_file(converted / "model.safetensors"), tiny_state()
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-7, msg=name)


def test_merged_equals_unmerged(converted, unmerged):
    merged = logits_of(load_model(converted), converted)
    kept = logits_of(load_model(unmerged), unmerged)
    torch.testing.assert_close(merged, kept, rtol=0, atol=1e-5 * float(kept.abs().max()))


def test_without_its_adapter_the_unmerged_folder_answers_differently(unmerged):
    plain = AutoModelForImageTextToText.from_pretrained(unmerged, dtype="float32")
    assert (logits_of(plain, unmerged) - logits_of(load_model(unmerged), unmerged)).abs().max() > 0.1


def test_plain_transformers_and_peft_load_both_folders(converted, unmerged):
    model = AutoModelForImageTextToText.from_pretrained(converted, dtype="float32")
    torch.testing.assert_close(logits_of(model, converted), logits_of(load_model(converted), converted))
    base = AutoModelForImageTextToText.from_pretrained(unmerged, dtype="float32")
    adapted = PeftModel.from_pretrained(base, str(unmerged / "adapter")).eval()
    torch.testing.assert_close(logits_of(adapted, unmerged), logits_of(load_model(unmerged), unmerged))


def test_both_peft_key_styles_give_the_same_bytes(converted, tmp_path):
    newer = Parts(TINY / CLIP, TINY / LLM, TINY / NEWER_ADAPTERS)
    report = newer.convert(tmp_path / "newer")
    assert (tmp_path / "newer/model.safetensors").read_bytes() == (converted / "model.safetensors").read_bytes()
    assert report.lora["names"] == "peft 0.3 or newer"


def to_release(state: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our names back to the release's, as `part/name`, the placeholder's row taken off again."""
    back = {}
    projector = {"layer_norm": "ln_vision", "linear_1": "llama_proj.0", "linear_2": "llama_proj.2"}
    for name, tensor in state.items():
        room, _, rest = name.removeprefix("model.").partition(".")
        if room == "vision_tower":
            back[f"{CLIP}/vision_model.{rest}"] = tensor
        elif room == "multi_modal_projector":
            module, kind = rest.split(".")
            back[f"{ADAPTERS}/{projector[module]}.{kind}"] = tensor
        else:
            tensor = tensor[:512] if tensor.shape[0] == 513 else tensor
            back[f"{LLM}/{name if room == 'lm_head' else 'model.' + rest}"] = tensor
    for name, tensor in adapter.items():
        rest = name.removeprefix("base_model.model.model.language_model.")
        back[f"{ADAPTERS}/llama_model.base_model.model.model.{rest}"] = tensor
    return back


def released() -> dict[str, torch.Tensor]:
    parts = {ADAPTERS: torch.load(TINY / ADAPTERS, weights_only=True)["model"]}
    parts[CLIP] = torch.load(TINY / CLIP / "pytorch_model.bin", weights_only=True)
    parts[LLM] = {}
    for number in (1, 2):
        parts[LLM] |= torch.load(shard(TINY / LLM, number), weights_only=True)
    return {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def test_there_and_back_is_bit_for_bit_with_lora_kept(unmerged):
    back = to_release(
        load_file(unmerged / "model.safetensors"), load_file(unmerged / "adapter/adapter_model.safetensors")
    )
    original = released()
    for name, tensor in back.items():
        assert torch.equal(tensor, original[name].float()), name
    gone = {name for name in original if name not in back}
    assert len(gone) == 46
    assert all(
        any(part in name for part in ("text_", "inv_freq", "position_ids", "layers.3.", "post_layernorm", "projection"))
        or name.endswith("logit_scale")
        for name in gone
    )


def test_there_and_back_is_bit_for_bit_in_bfloat16_with_zero_lora(parts, tmp_path):
    def zero(state):
        for name in state:
            if "lora_B" in name:
                state[name] = torch.zeros_like(state[name])

    change_pickle(parts.adapters, zero)
    report = parts.convert(tmp_path / "out", dtype="bfloat16")
    back = to_release(load_file(tmp_path / "out/model.safetensors"), {})
    original = released()
    for name, tensor in back.items():
        assert torch.equal(tensor, original[name].bfloat16()), name
    assert any("every lora_B is zero" in note for note in report.notes)


def test_every_key_is_accounted_for(tmp_path):
    report = golden_parts().convert(tmp_path / "out")
    counts = report.tensors
    assert counts == {"read": 177, "written": 89, "dropped": 46, "lora": 42, "generated": 0}
    assert counts["read"] == counts["written"] + counts["dropped"] + counts["lora"]
    assert sorted(report.dropped.values()) == [2, 5, 16, 23]
    assert report.parity["passed"] and report.parity["tensors"] == 89


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


def test_settings_of_the_folder(converted):
    demo = json.loads((converted / "generation_config.json").read_text())
    profiles = json.loads((converted / "generation_profiles.json").read_text())
    assert demo == {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, **profiles["demo"]}
    assert profiles["demo"] == {
        "do_sample": False,
        "temperature": 1.0,
        "top_p": 0.8,
        "top_k": 30,
        "repetition_penalty": 1.05,
        "max_new_tokens": 2048,
    }
    assert profiles["eval"] == {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 16}
    config = json.loads((converted / "config.json").read_text())
    assert config["dtype"] == "float32" and config["architectures"] == ["XverseVForConditionalGeneration"]
    processor = AutoProcessor.from_pretrained(converted)
    assert (processor.image_processor.orientation, processor.image_processor.apply_exif) == ("release", False)


def test_the_grid_is_stored_with_the_processor(tmp_path):
    report = golden_parts().convert(tmp_path / "out", grid="upright")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.image_processor.orientation, processor.image_processor.apply_exif) == ("upright", True)
    assert report.orientation == json.loads((tmp_path / "out/manifest.json").read_text())["tiler"] == "upright"


def test_alpha_is_twice_the_rank_unless_given(tmp_path):
    assert golden_parts().convert(tmp_path / "default").lora["alpha"] == 16
    golden_parts().convert(tmp_path / "given", lora_alpha=16)
    golden_parts().convert(tmp_path / "other", lora_alpha=4)
    default, given, other = (weights_id(tmp_path / name) for name in ("default", "given", "other"))
    assert default == given != other


def test_user_text_that_looks_special_stays_text(converted):
    processor = AutoProcessor.from_pretrained(converted)
    messages = [{"role": "user", "content": [{"type": "text", "text": "<|endoftext|><|image|>\ufdd01"}]}]
    ids = processor.tokenizer(processor.apply_chat_template(messages))["input_ids"]
    assert 3 not in ids and 512 not in ids
    assert "<|endoftext|><|image|>\ufdd01" in processor.tokenizer.decode(ids)


# What the parity check after a conversion must catch


def refused(parts: Parts, out: Path) -> XverseError:
    with pytest.raises(XverseError) as caught:
        parts.convert(out, dtype="bfloat16")
    assert not out.exists() and not list(out.parent.glob(f".{out.name}.partial-*"))
    return caught.value


def test_a_wrong_scale_is_caught(monkeypatch, tmp_path):
    monkeypatch.setattr(
        converting, "merged_blocks", lambda w, a, b, s, dtype: lora.merged_blocks(w, a, b, 0.9 * s, dtype)
    )
    assert refused(golden_parts(), tmp_path / "out").code == "E310"


@pytest.mark.parametrize(
    "pair", [("gate_proj", "up_proj"), ("q_proj", "k_proj"), ("input_layernorm", "post_attention_layernorm")]
)
def test_swapped_keys_are_caught(pair, monkeypatch, tmp_path):
    """Same shapes, so nothing but the numbers can tell."""
    real = intake.decoder_target

    def swapped(name):
        target = real(name)
        if isinstance(target, str) and "layers.1." in target and any(f".{part}." in target for part in pair):
            first, second = pair if pair[0] in target else pair[::-1]
            return target.replace(first, second)
        return target

    monkeypatch.setattr(intake, "decoder_target", swapped)
    assert refused(golden_parts(), tmp_path / "out").code == "E310"


def test_a_kept_layer_too_many_is_caught_by_the_logits_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(converting, "compare_tensors", lambda *_: 0)
    real = intake.clip_target

    def shifted(name, layers):
        return real(
            name.replace("layers.2.", "layers.9.").replace("layers.3.", "layers.2.").replace("layers.9.", "layers.3."),
            layers,
        )

    monkeypatch.setattr(intake, "clip_target", shifted)
    assert refused(golden_parts(), tmp_path / "out").code == "E310"


# A folder that exists is finished


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(XverseError) as caught:
        golden_parts().convert(tmp_path / "out")
    assert caught.value.code == "E313" and caught.value.exit_code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    golden_parts().convert(tmp_path / "out")
    assert load_model(tmp_path / "out").dtype == torch.float32


_SLOW = """
import sys, time
from pathlib import Path
from xverse_v.weights import convert as c
real = c.check_parity
def slow(*a, **k):
    print("ready", flush=True)
    time.sleep(60)
    return real(*a, **k)
c.check_parity = slow
c.convert(*(Path(p) for p in sys.argv[1:5]))
"""


def test_a_killed_conversion_leaves_no_folder_of_that_name(tmp_path):
    golden_one = golden_parts()
    out = tmp_path / "out"
    arguments = [str(path) for path in (golden_one.clip, golden_one.llm, golden_one.adapters, out)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *arguments], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not out.exists()
    left = list(tmp_path.glob(".out.partial-*"))
    assert len(left) == 1 and not (left[0] / "manifest.json").exists()
    report = golden_one.convert(out)
    assert any(str(left[0]) in note for note in report.notes)


def test_a_renamed_folder_loads_and_keeps_its_id(folder, tmp_path):
    before = weights_id(folder)
    renamed = folder.rename(tmp_path / "neither llama nor the other name")
    assert load_model(renamed).dtype == torch.float32
    assert weights_id(renamed) == before
