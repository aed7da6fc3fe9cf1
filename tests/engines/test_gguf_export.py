"""A GGUF file holds the folder's weights, under llama.cpp's names, in its order, or it does not exist."""

import shutil
import sys
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import tiny_config
from tests.weights.tiny_parts import golden_parts
from xverse_v.engines.gguf import files, names
from xverse_v.engines.gguf.export import export_decoder, export_vision, folder_identity
from xverse_v.errors import XverseError
from xverse_v.inference.loading import resolve_model
from xverse_v.weights.load import weights_id
from xverse_v.weights.verify import verify_folder


def stored(path):
    """GGUF name -> float32 array, dequantised."""
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(list(reversed(tensor.shape)))
        for tensor in gguf.GGUFReader(path).tensors
    }


def weights(folder):
    return {name: tensor.float().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.fixture
def copy(tiny_folder, tmp_path):
    """A model folder that may be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def test_the_order_of_rows_turns_the_same_angles():
    """A head turned in halves and its reordered copy turned in neighbours give the same scores."""
    heads, width, tokens = 3, 8, 5
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, tokens, heads * width, generator=generator)
    order = names.rotary_order(heads * width, heads)
    assert sorted(order) == list(range(heads * width))
    angles = torch.arange(tokens)[:, None] / 100.0 ** (torch.arange(width // 2) / (width // 2))  # [tokens, width / 2]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]

    def in_halves(states):
        one, two = states.view(tokens, heads, width).chunk(2, -1)
        return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)

    def in_neighbours(states):
        one, two = states.view(tokens, heads, width // 2, 2).unbind(-1)
        return torch.stack([one * cos - two * sin, one * sin + two * cos], -1).flatten(-2)

    ours = torch.einsum("qhd,khd->hqk", in_halves(query), in_halves(key))
    theirs = torch.einsum("qhd,khd->hqk", in_neighbours(query[:, order]), in_neighbours(key[:, order]))
    torch.testing.assert_close(theirs, ours)
    unordered = torch.einsum("qhd,khd->hqk", in_neighbours(query), in_neighbours(key))
    assert not torch.allclose(unordered, ours)


@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 0.0), ("f16", 2**-11), ("bf16", 2**-8), ("q8_0", 1 / 127)])
def test_every_weight_of_the_decoder_is_there(tiny_folder, tmp_path, kind, tolerance):
    report = export_decoder(tiny_folder, tmp_path / "a.gguf", kind)
    found, expected = stored(tmp_path / "a.gguf"), weights(tiny_folder)
    config = tiny_config()
    table = names.decoder_tensors(config)
    assert list(found) == [item.name for item in table]
    assert {item.source for item in table} == {
        name for name in expected if "vision" not in name and "multi" not in name
    }
    for item in table:
        ours = expected[item.source]
        if item.heads:
            ours = ours[names.rotary_order(len(ours), item.heads)]
        assert found[item.name].shape == ours.shape == item.shape
        if item.wide:
            np.testing.assert_array_equal(found[item.name], ours)
        else:
            largest = np.abs(ours).max(axis=-1, keepdims=True)
            assert (np.abs(found[item.name] - ours) <= tolerance * largest + 1e-7).all(), item.name
    layers, big = config.text_config.num_hidden_layers, kind.upper()
    vectors, matrices = 2 * layers + 1, 7 * layers + 2
    assert report.types == ({"F32": vectors + matrices} if kind == "f32" else {"F32": vectors, big: matrices})
    assert (report.tensors, report.bytes) == (len(table), (tmp_path / "a.gguf").stat().st_size)
    assert report.differing == []


def test_rows_that_no_block_fills_stay_float16(tmp_path, copy):
    table = [names.Stored("a", "a", (4, 40)), names.Stored("b", "b", (4, 64)), names.Stored("c", "c", (40,), wide=True)]
    tensors = {"a": torch.randn(4, 40), "b": torch.randn(4, 64), "c": torch.randn(40)}
    report = files.write_file(tmp_path / "x.gguf", "llama", [], table, tensors.__getitem__, "Q8_0")
    assert report.types == {"F16": 1, "Q8_0": 1, "F32": 1}


def test_a_file_says_whose_it_is_and_what_llama_cpp_needs(tiny_folder, tmp_path):
    export_decoder(tiny_folder, tmp_path / "a.gguf")
    file, text = files.open_file(tmp_path / "a.gguf"), tiny_config().text_config

    def key(name):
        return files.value(file, name)

    assert key("general.architecture") == "llama"
    assert key("xverse_v.weights_id") == folder_identity(tiny_folder)
    assert key("llama.block_count") == text.num_hidden_layers
    assert key("llama.embedding_length") == text.hidden_size
    assert key("llama.attention.head_count_kv") == text.num_key_value_heads
    assert key("llama.rope.dimension_count") == text.head_dim
    assert key("llama.rope.freq_base") == text.rope_parameters["rope_theta"]
    assert key("llama.attention.layer_norm_rms_epsilon") == pytest.approx(text.rms_norm_eps)
    assert len(key("tokenizer.ggml.tokens")) == text.vocab_size
    assert key("tokenizer.ggml.eos_token_id") == 3
    assert key("tokenizer.ggml.add_bos_token") is False
    assert key("no.such.key") is None


def test_the_prompt_form_is_ours(tiny_folder, tmp_path, processor):
    from jinja2 import Environment

    export_decoder(tiny_folder, tmp_path / "a.gguf")
    template = Environment().from_string(files.value(files.open_file(tmp_path / "a.gguf"), "tokenizer.chat_template"))
    turns = [
        {"role": "system", "content": "你好"},
        {"role": "user", "content": "<__media_1__><__media_1__>What is it?"},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Why?"},
    ]
    ours = [dict(turn) for turn in turns]
    ours[1]["content"] = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "What is it?"}]
    expected = processor.apply_chat_template(ours, tokenize=False, add_generation_prompt=True)
    found = template.render(messages=turns, add_generation_prompt=True)
    assert found.replace("<__media_1__>", "<|image|>") == expected


def test_vision_tower_and_projector_have_the_layer_that_is_left_out(tiny_folder, tmp_path):
    report = export_vision(tiny_folder, tmp_path / "v.gguf")
    found, expected = stored(tmp_path / "v.gguf"), weights(tiny_folder)
    table = names.vision_tensors(tiny_config())
    assert list(found) == [item.name for item in table]
    for item in table:
        if item.source is None:
            assert item.name.startswith("v.blk.3.")
            assert not found[item.name].any()
        else:
            np.testing.assert_allclose(found[item.name], expected[item.source], rtol=2**-10, atol=1e-6)
    used = {item.source for item in table if item.source}
    assert used == {name for name in expected if "vision" in name or "multi" in name}
    file = files.open_file(tmp_path / "v.gguf")
    assert files.value(file, "clip.vision.block_count") == 4
    assert files.value(file, "clip.projector_type") == "mlp"
    assert files.value(file, "clip.vision.image_mean") == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert report.part == "vision"


def test_a_folder_keeps_its_identity_when_an_export_is_put_into_it(copy):
    before = folder_identity(copy)
    (copy / "gguf").mkdir()
    export_decoder(copy, copy / "gguf" / "a.gguf")
    assert folder_identity(copy) == before
    nano = resolve_model("nano")
    assert folder_identity(nano) == weights_id(nano)


def refused(code, work):
    with pytest.raises(XverseError) as caught:
        work()
    assert caught.value.code == code
    return caught.value


def test_a_failed_export_leaves_nothing(tiny_folder, tmp_path, monkeypatch):
    out = tmp_path / "out" / "a.gguf"
    real = gguf.GGUFWriter.write_tensor_data

    def stop(self, tensor):
        if tensor.nbytes > 20_000:
            raise KeyboardInterrupt
        real(self, tensor)

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", stop)
    with pytest.raises(KeyboardInterrupt):
        export_decoder(tiny_folder, out)
    assert list(out.parent.iterdir()) == []


def test_what_is_read_back_differently_is_not_kept(tiny_folder, tmp_path, monkeypatch):
    real = gguf.GGUFWriter.write_tensor_data
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", lambda self, tensor: real(self, np.zeros_like(tensor)))
    refused("E835", lambda: export_decoder(tiny_folder, tmp_path / "out" / "a.gguf"))
    assert list((tmp_path / "out").iterdir()) == []


def test_refusals(copy, tmp_path, monkeypatch):
    out = tmp_path / "a.gguf"
    assert refused("E847", lambda: export_decoder(copy, out, "q3")).exit_code == 2
    refused("E847", lambda: export_vision(copy, out, "q8_0"))
    out.touch()
    refused("E836", lambda: export_decoder(copy, out))
    out.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        refused("E833", lambda: export_decoder(copy, out))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gguf", None)
        refused("E831", lambda: export_decoder(copy, out))


def test_lora_that_is_kept_apart_is_refused(tmp_path):
    folder = tmp_path / "kept"
    golden_parts().convert(folder, keep_lora=True)
    refused("E845", lambda: export_decoder(folder, tmp_path / "a.gguf"))


@pytest.mark.parametrize("value", [1e5, float("nan")])
def test_a_value_beyond_float16_is_refused_where_it_would_be_lost(copy, tmp_path, value):
    state = load_file(copy / "model.safetensors")
    state["model.language_model.layers.0.mlp.up_proj.weight"][3, 5] = value
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    problem = refused("E834", lambda: export_decoder(copy, tmp_path / "a.gguf", "f16"))
    assert problem.facts["name"] == "model.language_model.layers.0.mlp.up_proj.weight"
    assert list(tmp_path.glob("*.gguf")) == []
    if value == value:
        export_decoder(copy, tmp_path / "b.gguf", "bf16")


def test_a_graph_that_llama_cpp_has_not_is_refused():
    config = tiny_config()
    config.text_config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    assert refused("E832", lambda: names.decoder_tensors(config)).facts["name"] == "rope_type"
    config = tiny_config()
    config.projector_layer_norm_eps = 1e-3
    assert refused("E832", lambda: names.vision_tensors(config)).facts["name"] == "projector_layer_norm_eps"


def test_a_file_that_is_no_gguf_file_is_named(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"nothing of the kind" * 10)
    assert refused("E839", lambda: files.open_file(path)).facts["path"] == path
    refused("E839", lambda: files.open_file(tmp_path / "none.gguf"))


def test_the_folder_itself_is_not_touched(copy, tmp_path):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    export_decoder(copy, tmp_path / "a.gguf")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert verify_folder(copy).passed
