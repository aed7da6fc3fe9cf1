"""Conversion: the numbers are the release's, every key is accounted for, and what is not the parts' is caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.conftest import GOLDEN, TINY, tiny_state
from tests.weights.tiny_parts import (
    ADAPTERS,
    CLIP,
    LLM,
    NEWER_ADAPTERS,
    Parts,
    change_pickle,
    golden_parts,
    logits_of,
    shard,
)
from xverse_v.errors import XverseError
from xverse_v.weights import convert as converting
from xverse_v.weights import intake, lora
from xverse_v.weights.load import load_model, weights_id

ARRAYS = np.load(GOLDEN / "model.npz")


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
