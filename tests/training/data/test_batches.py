"""Steps: the same samples for any world and any workers; packed and padded rows that do not see each other."""

import itertools
import json
import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from tests.training.data.builders import llava_rows, pair_members, write_images, write_json, write_jsonl, write_tar
from xverse_v.errors import XverseError
from xverse_v.training.data.batches import StepData
from xverse_v.training.data.config import DataConfig
from xverse_v.training.data.encode import IGNORED
from xverse_v.training.data.packing import first_fit_decreasing


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    names = write_images(folder)
    write_json(folder / "talk.json", llava_rows(23, names))
    write_tar(folder / "pairs.tar", pair_members(9))
    return folder


def config(folder, **changes):
    sources = [{"path": folder / "talk.json"}, {"path": folder / "pairs.tar", "weight": 0.5}]
    return DataConfig(
        **{"sources": sources, "seed": 5, "global_batch": 6, "max_tiles": 1, "max_length": 900, **changes}
    )


def flat(batches):
    """Samples of some micro-batches: (id, ids, labels), in any order."""
    found = []
    for batch in batches:
        names = iter(batch.sample_ids)
        for row in range(batch.input_ids.shape[0]):
            segments = batch.segment_ids[row]
            for segment in range(int(segments.max()) + 1):
                here = segments == segment
                assert batch.position_ids[row][here].tolist() == list(range(int(here.sum())))
                found.append((next(names), batch.input_ids[row][here].tolist(), batch.labels[row][here].tolist()))
    return sorted(found)


def losses(model, batch):
    """Sum of token losses of a batch, as the training objective takes it."""
    logits = model(**batch.model_inputs()).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("packing", [True, False])
def test_the_union_over_ranks_is_the_global_batch_for_any_world(packing, folder, processor, tmp_path):
    data = StepData(config(folder, packing=packing, micro_batch=2), processor, cache=tmp_path)
    for step in (0, 3, 40):
        whole = flat(data.micro_batches(step))
        assert len(whole) == 6
        for world in (2, 4, 7):
            shares = [flat(data.micro_batches(step, rank, world)) for rank in range(world)]
            assert sorted(itertools.chain.from_iterable(shares)) == whole
    assert [len(batch) for batch in (data.micro_batches(0, 6, 7),)] == [0]  # more ranks than samples


def test_a_step_depends_on_nothing_that_was_asked_before(folder, processor, tmp_path):
    one, other = (StepData(config(folder), processor, cache=tmp_path) for _ in range(2))
    in_a_row = [flat(one.micro_batches(step)) for step in range(6)]
    steps = list(range(6))
    random.Random(0).shuffle(steps)
    assert {step: flat(other.micro_batches(step)) for step in steps} == dict(enumerate(in_a_row))
    assert flat(StepData(config(folder, seed=6), processor, cache=tmp_path).micro_batches(0)) != in_a_row[0]


def test_workers_change_nothing_not_even_the_random_state(folder, processor, tmp_path):
    def run(workers):
        torch.manual_seed(1)
        data = StepData(config(folder, workers=workers), processor, cache=tmp_path)
        batches = [batch for step in range(2, 6) for batch in data.micro_batches(step, 0, 2)]
        data.close()
        return batches, torch.rand(1)

    (alone, state), (helped, other_state) = run(0), run(2)
    assert torch.equal(state, other_state)
    assert len(alone) == len(helped)
    for one, other in zip(alone, helped, strict=True):
        assert one.sample_ids == other.sample_ids
        assert torch.equal(one.input_ids, other.input_ids)
        assert (one.pixel_values is None) == (other.pixel_values is None)
        assert one.pixel_values is None or torch.equal(one.pixel_values, other.pixel_values)


def test_every_sample_comes_once_in_a_pass(folder, processor, tmp_path):
    data = StepData(config(folder, sources=[{"path": folder / "talk.json"}], global_batch=1), processor, cache=tmp_path)
    picks = [data.samples_of_step(step)[0] for step in range(23)]
    assert sorted(picks) == [(0, index) for index in range(23)]
    assert data.steps_per_pass == 23


@given(st.lists(st.integers(1, 50), max_size=60))
def test_rows_hold_everything_once_within_the_capacity(lengths):
    rows = first_fit_decreasing(lengths, 50)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in row) for row in rows]
    assert all(total <= 50 for total in sums)
    assert all(one + other > 50 for one, other in pairwise(sorted(sums)[:2]))  # no two rows could be one
    assert rows == first_fit_decreasing(lengths, 50)


def test_a_sample_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="51 tokens"):
        first_fit_decreasing([51], 50)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_and_padded_rows_equal_separate_forwards(attention, folder, processor, tiny_folder, tmp_path):
    from xverse_v.model import XverseVForConditionalGeneration

    model = XverseVForConditionalGeneration.from_pretrained(tiny_folder, attn_implementation=attention).eval()
    packed = StepData(config(folder), processor, cache=tmp_path).micro_batches(1)
    padded = StepData(config(folder, packing=False, micro_batch=3), processor, cache=tmp_path).micro_batches(1)
    alone = StepData(config(folder, packing=False, micro_batch=1), processor, cache=tmp_path).micro_batches(1)
    assert len(alone) == 6
    assert any(int(batch.segment_ids.max()) for batch in packed)  # something is packed at all
    assert any((batch.segment_ids < 0).any() for batch in padded)
    with torch.no_grad():
        expected = {}
        for batch in alone:
            expected[batch.sample_ids[0]] = model(**batch.model_inputs()).logits[0]
        for batch in (*packed, *padded):
            logits = model(**batch.model_inputs()).logits
            names = iter(batch.sample_ids)
            for row in range(len(logits)):
                for segment in range(int(batch.segment_ids[row].max()) + 1):
                    got = logits[row][batch.segment_ids[row] == segment]
                    wanted = expected[next(names)]
                    largest = float(wanted[:, : model.config.image_token_id].abs().max())  # about 16
                    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * largest)
        total = sum(losses(model, batch) for batch in alone)
        count = sum(batch.supervised for batch in alone)
        for batches in (packed, padded):
            assert sum(batch.supervised for batch in batches) == count
            mean = sum(losses(model, batch) for batch in batches) / count
            assert float(mean) == pytest.approx(float(total / count), abs=1e-5)


def test_an_all_ones_mask_would_leak(folder, processor, tiny_model, tmp_path):
    """What the packed form must avoid, so that the equality above is known to be able to fail."""
    (batch, *_) = StepData(config(folder), processor, cache=tmp_path).micro_batches(1)
    with torch.no_grad():
        right = tiny_model(**batch.model_inputs()).logits
        leaking = tiny_model(**batch.model_inputs(), attention_mask=torch.ones_like(batch.input_ids)).logits
        cached = tiny_model(**batch.model_inputs() | {"use_cache": True}).logits
    kept = torch.arange(right.shape[-1]) != tiny_model.config.image_token_id
    assert (right - leaking)[..., kept].abs().max() > 0.1
    assert (right - cached)[..., kept].abs().max() > 0.1


def test_supervised_counts_what_the_loss_counts(folder, processor, tmp_path):
    for packing in (True, False):
        for batch in StepData(config(folder, packing=packing, micro_batch=4), processor, cache=tmp_path).micro_batches(
            2
        ):
            assert batch.supervised == int((batch.labels[:, 1:] != IGNORED).sum()) > 0


def test_text_alone_makes_batches_without_pixels(processor, tmp_path):
    path = write_jsonl(tmp_path / "t.jsonl", llava_rows(4))
    for packing in (True, False):
        data = StepData(DataConfig(sources=[{"path": path}], packing=packing, global_batch=4), processor)
        for batch in data.micro_batches(0):
            assert batch.pixel_values is None
            assert batch.to("cpu").sample_ids == batch.sample_ids


# Bad images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path):
    names = write_images(tmp_path, 3)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    rows = [{"id": f"p{n}", "image": names[n % 3], "caption": f"c {n}"} for n in range(6)]
    return write_jsonl(tmp_path / "p.jsonl", rows)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_stops_training_with_its_code(workers, broken, processor):
    data = StepData(DataConfig(sources=[{"path": broken}], global_batch=6, workers=workers), processor)
    with pytest.raises(XverseError) as caught:
        data.micro_batches(0)
    assert (caught.value.code, caught.value.facts["media"]) == ("E213", "E517")
    data.close()


def test_skipped_samples_are_counted_and_logged_and_the_step_is_smaller(broken, processor, tmp_path):
    settings = DataConfig(sources=[{"path": broken}], global_batch=6, on_bad_image="skip")
    log = tmp_path / "run" / "skipped.jsonl"
    data = StepData(settings, processor, skip_log=log)
    names = sorted(name for batch in data.micro_batches(0) for name in batch.sample_ids)
    assert names == ["p0", "p2", "p3", "p5"]
    assert data.skipped == 2
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == ["p1", "p4"]
    assert {(line["step"], line["code"], line["image"]) for line in lines} == {(0, "E517", "1.png")}
    assert lines[0]["place"].startswith("p.jsonl:")


def test_other_faults_are_never_skipped(tmp_path, processor):
    rows = llava_rows(2)
    rows[1]["conversations"] = rows[1]["conversations"][:1]
    settings = DataConfig(sources=[{"path": write_jsonl(tmp_path / "a", rows)}], global_batch=2, on_bad_image="skip")
    with pytest.raises(XverseError) as caught:
        StepData(settings, processor).micro_batches(0)
    assert (caught.value.code, caught.value.facts["finding"]) == ("E203", "D212")


# Settings -------------------------------------------------------------------------------------------------------------


def test_settings_refuse_what_is_not_read(tmp_path):
    for changes, code, hint in (
        ({"sede": 1}, "E210", "seed"),
        ({"sources": [{"path": "x", "wieght": 2}]}, "E210", "weight"),
        ({"pack_length": 10, "max_length": 20}, "E211", "10"),
        ({"sources": [{"path": "x", "weight": 0}]}, "E212", "weight"),
    ):
        with pytest.raises(XverseError) as caught:
            DataConfig(**{"sources": [{"path": "x"}], **changes})
        assert caught.value.code == code
        assert hint in caught.value.text("en")
    with pytest.raises(ValueError, match="frozen"):
        DataConfig(sources=[{"path": "x"}]).seed = 3
