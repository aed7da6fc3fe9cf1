"""The feature store: the same loss, found by pixels, refused for another tower, continued after a kill."""

import json

import pytest
import torch
from PIL import Image

from tests.training.data.builders import llava_rows, write_images, write_json
from xverse_v.errors import XverseError
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.training.data.batches import StepData
from xverse_v.training.data.config import DataConfig, SourceConfig
from xverse_v.training.data.encode import Encoder
from xverse_v.training.data.packing import MicroBatch
from xverse_v.training.data.sources import open_source
from xverse_v.training.data.store import FeatureStore, tower_hash
from xverse_v.training.data.store_build import build_store, plan_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    names = write_images(folder)
    write_json(folder / "talk.json", llava_rows(10, names))
    return folder


def built(folder, out, processor, model, dtype="float32", **settings):
    source = open_source(SourceConfig(path=folder / "talk.json"), out.parent / "cache")
    encoder = Encoder(processor, max_length=1400, max_tiles=2)
    return build_store([source], encoder, model, out, dtype=dtype, **settings)


def hidden_inputs(model: XverseVForConditionalGeneration, batch: MicroBatch) -> torch.Tensor:
    """The decoder's input, from pixels or from stored features."""
    core = model.model
    embeds = core.get_input_embeddings()(batch.input_ids)
    patches = batch.image_features
    if batch.pixel_values is not None:
        patches = core.vision_tower(batch.pixel_values).last_hidden_state[:, 1:]
    if patches is None:
        return embeds
    tokens = core.multi_modal_projector(patches.float())
    return embeds.masked_scatter((batch.input_ids == model.config.image_token_id).unsqueeze(-1), tokens)


def loss(model, batch):
    hidden = model.model.language_model(
        inputs_embeds=hidden_inputs(model, batch), position_ids=batch.position_ids, use_cache=False
    ).last_hidden_state
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden)[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
    )


def both_losses(folder, out, processor, model):
    sources = [{"path": folder / "talk.json"}]
    plain = DataConfig(sources=sources, global_batch=5, max_tiles=2, max_length=1400)
    live = StepData(plain, processor)
    stored = StepData(plain.model_copy(update={"features": out}), processor, tower=tower_hash(model))
    pairs = []
    with torch.no_grad():
        for step in range(2):
            for one, other in zip(live.micro_batches(step), stored.micro_batches(step), strict=True):
                assert other.pixel_values is None
                assert torch.equal(one.input_ids, other.input_ids)
                pairs.append((float(loss(model, one)), float(loss(model, other))))
    return pairs


def test_float32_gives_the_same_loss_to_the_bit(folder, tmp_path, processor, tiny_model):
    header = built(folder, tmp_path / "store", processor, tiny_model)
    assert (header["images"], header["complete"]) == (5, True)  # six samples have an image, two the same
    pairs = both_losses(folder, tmp_path / "store", processor, tiny_model)
    assert pairs
    assert all(one == other for one, other in pairs)


@pytest.mark.parametrize(("dtype", "size", "least"), [("float16", 2, 0), ("bfloat16", 2, 1e-7)])
def test_half_the_space_costs_a_rounding_and_no_more(dtype, size, least, folder, tmp_path, processor, tiny_model):
    header = built(folder, tmp_path / "store", processor, tiny_model, dtype)
    pairs = both_losses(folder, tmp_path / "store", processor, tiny_model)
    worst = max(abs(one - other) / one for one, other in pairs)
    assert least < worst < 2e-3
    stored = sum(path.stat().st_size for path in (tmp_path / "store").glob("features-*.bin"))
    assert stored == header["views"] * 256 * 64 * size


def test_the_space_is_said_first(folder, tmp_path, processor, tiny_model):
    source = open_source(SourceConfig(path=folder / "talk.json"), tmp_path / "cache")
    encoder = Encoder(processor, max_length=1400, max_tiles=2)
    plan = plan_store([source], encoder, 64, "float32", tmp_path / "not" / "there")
    assert plan.exact
    assert plan.images == sum("image" in row for row in json.loads((folder / "talk.json").read_text()))
    header = built(folder, tmp_path / "store", processor, tiny_model)
    assert header["views"] * 256 * 64 * 4 <= plan.bytes <= plan.most_bytes == plan.images * 3 * 256 * 64 * 4
    assert plan.free_bytes > 0


def test_another_tower_or_other_tiles_are_refused(folder, tmp_path, processor, tiny_model):
    out = tmp_path / "store"
    built(folder, out, processor, tiny_model)
    other = XverseVForConditionalGeneration(tiny_model.config)
    assert tower_hash(other) != tower_hash(tiny_model)
    for settings, name in (
        ({"tower": tower_hash(other), "max_tiles": 2}, "tower"),
        ({"tower": tower_hash(tiny_model), "max_tiles": 3}, "max_tiles"),
    ):
        with pytest.raises(XverseError) as caught:
            FeatureStore.open(out, processor, **settings)
        assert (caught.value.code, caught.value.facts["setting"]) == ("E214", name)
    for model, dtype in ((other, "float32"), (tiny_model, "float16")):
        with pytest.raises(XverseError) as caught:
            built(folder, out, processor, model, dtype)
        assert caught.value.code == "E214"


def test_an_image_that_is_not_there_is_an_error(folder, tmp_path, processor, tiny_model):
    built(folder, tmp_path / "store", processor, tiny_model)
    store = FeatureStore.open(tmp_path / "store", processor, tower=tower_hash(tiny_model), max_tiles=2)
    with pytest.raises(XverseError) as caught:
        store.features(Image.new("RGB", (31, 31)), "d:1")
    assert caught.value.code == "E215"
    # Found by pixels: neither the name nor the file format matters.
    again = Image.open(folder / "1.png").convert("RGBA")
    assert store.features(again).shape == (3, 256, 64)


def test_an_incomplete_or_damaged_store_is_refused(folder, tmp_path, processor, tiny_model):
    out = tmp_path / "store"
    for breakage in ("nothing", "incomplete", "shard"):
        if breakage != "nothing":
            built(folder, out, processor, tiny_model)
        if breakage == "incomplete":
            header = json.loads((out / "store.json").read_text())
            (out / "store.json").write_text(json.dumps(header | {"complete": False}))
        if breakage == "shard":
            (out / "features-00000.bin").unlink()
        with pytest.raises(XverseError) as caught:
            store = FeatureStore.open(out, processor, tower=tower_hash(tiny_model), max_tiles=2)
            store.features(Image.open(folder / "1.png"))
        assert caught.value.code == "E216"


def test_a_stopped_build_goes_on_and_ends_the_same(folder, tmp_path, processor, tiny_model, monkeypatch):
    monkeypatch.setattr("xverse_v.training.data.store_build.VIEWS_A_SHARD", 6)  # several shards
    monkeypatch.setattr("xverse_v.training.data.store_build._FLUSH_EVERY", 1)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    built(folder, whole, processor, tiny_model)

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        built(folder, stopped, processor, tiny_model, progress=stop)
    with (stopped / "images.log").open("ab") as log:
        log.write(b"half a line")
    header = built(folder, stopped, processor, tiny_model)
    names = sorted(path.name for path in whole.iterdir())
    assert len([name for name in names if name.startswith("features-")]) > 1
    assert names == sorted(path.name for path in stopped.iterdir())
    assert [(stopped / name).read_bytes() == (whole / name).read_bytes() for name in names] == [True] * len(names)
    assert built(folder, stopped, processor, tiny_model) == header  # complete: nothing to do


def test_the_hash_of_a_tower_survives_saving_and_loading(tiny_folder, tiny_model):
    assert tower_hash(XverseVForConditionalGeneration.from_pretrained(tiny_folder)) == tower_hash(tiny_model)
