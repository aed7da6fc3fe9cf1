"""Reading and writing weight files: headers, formats, hashes; and the tables of names against the network itself."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.conftest import GOLDEN, TINY, tiny_config
from tests.weights.tiny_parts import ADAPTERS, CLIP, LLM
from xverse_v.errors import XverseError
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.weights import layout, parts, pickled
from xverse_v.weights.lora import merged_blocks
from xverse_v.weights.manifest import check_manifest, weights_id, write_manifest
from xverse_v.weights.writer import BLOCK_BYTES, FileRecord, ShardWriter, blocks, plan_shards, shard_names


def test_the_expected_names_and_shapes_are_the_networks_own():
    config = tiny_config()
    with torch.device("meta"):
        model = XverseVForConditionalGeneration(config)
    assert layout.expected_tensors(config) == {name: tuple(t.shape) for name, t in model.state_dict().items()}


def test_every_name_of_the_release_is_placed_or_dropped_for_a_reason():
    shapes = layout.expected_tensors(tiny_config())
    placed, dropped, lora = set(), 0, 0
    for line in (GOLDEN / "state_dict_keys.txt").read_text().splitlines()[1:]:
        name = line.split("\t")[0]
        if name.startswith("visual_encoder.visual."):
            target = layout.clip_target(name.removeprefix("visual_encoder.visual."), 3)
        elif name.startswith("llama_model.base_model.model."):
            inner = name.removeprefix("llama_model.base_model.model.").replace(".base_layer.", ".")
            target = layout.decoder_target(inner)
            if ".lora_" in name:
                lora += 1
                continue
        else:
            target = layout.projector_target(name)
        assert target is not None, name
        if isinstance(target, layout.Dropped):
            dropped += 1
        else:
            placed.add(target)
    assert placed == set(shapes)
    assert lora == 42 and dropped > 0


def test_headers_equal_the_tensors():
    for path in (TINY / CLIP / "pytorch_model.bin", TINY / LLM / "pytorch_model-00001-of-00002.bin", TINY / ADAPTERS):
        part = parts.read_header(path)
        state = torch.load(path, weights_only=True)
        state = state.get("model", state)
        found = {name: (info.shape, info.dtype) for name, info in part.tensors.items()}
        assert found == {name: (tuple(t.shape), str(t.dtype)[6:]) for name, t in state.items()}
        assert all(pickled.is_harmless(name) for name in pickled.pickle_globals(path))


def test_the_format_comes_from_the_bytes_not_the_name(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.bin")
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    assert parts.file_format(tmp_path / "weights.bin") == "safetensors"
    assert parts.file_format(tmp_path / "weights.safetensors") == "pickle"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_names_in_a_pickle_are_listed_in_every_protocol(protocol, tmp_path):
    with zipfile.ZipFile(tmp_path / "file.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([hashlib.sha256, zipfile.ZipFile], protocol=protocol))
    names = pickled.pickle_globals(tmp_path / "file.bin")
    assert "zipfile.ZipFile" in names and len(names) == 2
    assert not pickled.is_harmless("zipfile.ZipFile") and not pickled.is_harmless("os.system")
    assert pickled.is_harmless("torch.BFloat16Storage") and pickled.is_harmless("torch.float16")


def test_what_an_adapters_file_holds_besides_tensors_is_named(tmp_path):
    torch.save({"model": {"a": torch.zeros(2), "step": 7}, "epoch": 3}, tmp_path / "file.bin")
    part = parts.read_header(tmp_path / "file.bin")
    assert part.other == ("epoch", "step") and list(part.tensors) == ["a"]


@pytest.mark.parametrize("kept", [0, 5, 9, 40, 200, 500])
def test_a_cut_safetensors_file_is_called_cut(kept, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100), "b": torch.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(XverseError) as caught:
        parts.read_header(path)
    assert caught.value.code == "E306"


def test_an_index_cannot_point_outside_its_folder(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other/model.safetensors"}}')
    with pytest.raises(XverseError) as caught:
        parts.weight_files(tmp_path)
    assert caught.value.code == "E317"


def test_a_name_stored_twice_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "y.safetensors")
    index = '{"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(XverseError) as caught:
        parts.read_part(tmp_path)
    assert caught.value.code == "E312"


@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.int64]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_back_by_the_library(shapes, dtype, tmp_path_factory):
    path = tmp_path_factory.mktemp("writer") / "file.safetensors"
    state = {f"tensor {i} é": torch.randn(shape).to(dtype) for i, shape in enumerate(shapes)}
    with ShardWriter(path, [(name, dtype, tuple(t.shape)) for name, t in state.items()]) as writer:
        for name, tensor in state.items():
            pieces = [tensor[a:b] for a, b in blocks(tensor.shape, 4)] if tensor.dim() else [tensor]
            writer.write(name, pieces)
    read = load_file(path)
    assert read.keys() == state.keys() and all(torch.equal(read[name], state[name]) for name in state)
    assert writer.record == FileRecord.of(path)
    assert {name: info.shape for name, info in parts.safetensors_header(path).items()} == {
        name: tuple(t.shape) for name, t in state.items()
    }


def test_blocks_cover_the_rows_once_and_stay_small():
    shape = (1000, 4096)
    spans = list(blocks(shape, 4))
    assert spans[0][0] == 0 and spans[-1][1] == 1000
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert all((stop - start) * 4096 * 4 <= BLOCK_BYTES for start, stop in spans) and len(spans) > 3


def test_shards_keep_the_order_and_the_limit():
    entries = [(str(i), torch.float32, (size,)) for i, size in enumerate([10, 10, 10, 100, 1])]
    shards = plan_shards(entries, 80)
    assert [[name for name, _, _ in shard] for shard in shards] == [["0", "1"], ["2"], ["3"], ["4"]]
    assert shard_names(1) == ["model.safetensors"]
    assert shard_names(2) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_merging_is_float32_rounded_once():
    """1 + 2^-8 + 2^-18 lies just above the middle of two bfloat16 values; rounding the change first would lose that."""
    weight = torch.full((2000, 700), 1.0).bfloat16()
    a, b = torch.full((1, 700), 2**-4 * (1 + 2**-10)), torch.full((2000, 1), 2**-5)
    pieces = list(merged_blocks(weight, a, b, 2.0, torch.bfloat16))
    merged = torch.cat(pieces)
    assert len(pieces) > 1 and torch.equal(merged, torch.full((2000, 700), 1 + 2**-7).bfloat16())
    assert torch.equal(weight + (2.0 * b @ a).bfloat16(), weight)


def test_a_manifest_tells_size_bytes_absence_and_extras(tmp_path):
    for name, text in (("a.txt", "aaa"), ("b.txt", "bbb"), ("c.txt", "ccc"), ("sub/d.txt", "ddd")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    write_manifest(tmp_path, tiler="release", source={})
    before = weights_id(tmp_path)
    assert check_manifest(tmp_path, hashes=True).changed == ()
    (tmp_path / "a.txt").write_text("axa")
    (tmp_path / "b.txt").write_text("bb")
    (tmp_path / "c.txt").unlink()
    (tmp_path / "new.txt").write_text("")
    report = check_manifest(tmp_path)
    assert [name for name, _, _ in report.changed] == ["b.txt", "c.txt"] and report.unlisted == ("new.txt",)
    assert [name for name, _, _ in check_manifest(tmp_path, hashes=True).changed] == ["a.txt", "b.txt", "c.txt"]
    assert weights_id(tmp_path) == before and len(before) == 12


def test_without_a_manifest_the_id_is_the_one_it_would_have(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "parity.json").write_text("{}")
    bare = weights_id(tmp_path)
    write_manifest(tmp_path, tiler="release", source={})
    assert weights_id(tmp_path) == bare
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "a.txt").write_text("b")
    assert weights_id(tmp_path) != bare
