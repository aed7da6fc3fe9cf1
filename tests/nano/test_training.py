"""The recipe in small: every stage lowers its loss, resumes exactly, and the parts join into a loadable folder."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from xverse_v.nano import checkpoint
from xverse_v.nano.assemble import assemble
from xverse_v.nano.build import Recipe
from xverse_v.nano.evaluate import wilson
from xverse_v.nano.joint import empty_model, joint_batch, joint_loss, train_joint, train_projector
from xverse_v.nano.optimiser import Orthogonal, orthogonal, split_parameters
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.tower import SeeingTower, tower_batch, tower_loss, train_tower
from xverse_v.nano.words import WordDecoder, train_words, word_rows
from xverse_v.weights.load import load_model


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Checkpoints of the two halves after a few steps."""
    folder = tmp_path_factory.mktemp("nano")
    train_tower(folder / "tower", 8, every=8, scored=4, warmup=1, decay=1)
    train_words(folder / "words", 6, every=6, scored=25, warmup=1, decay=1)
    return folder


def test_the_tower_learns_and_resumes_exactly(tmp_path, work):
    fresh = SeeingTower()
    pixels, labels, whole = tower_batch("check", 0, 12)
    torch.manual_seed(1)
    before = tower_loss(SeeingTower()(pixels), labels, whole)
    fresh.load_state_dict(checkpoint.load_module(work / "tower"))
    assert tower_loss(fresh(pixels), labels, whole).item() < 0.8 * before.item()
    train_tower(tmp_path, 8, every=4, stop=4, scored=4, warmup=1, decay=1)
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 4
    train_tower(tmp_path, 8, every=4, scored=4, warmup=1, decay=1)
    for name, value in checkpoint.load_module(work / "tower").items():
        torch.testing.assert_close(checkpoint.load_module(tmp_path)[name], value, atol=1e-6, rtol=0)


def test_the_decoder_learns_from_words(work):
    from xverse_v.nano.decoder import answer_loss
    from xverse_v.nano.sequences import collate
    from xverse_v.nano.words import word_embeddings

    rows, images, _ = word_rows("check", 0, 8, 0.05, 4)
    batch = collate(rows)
    losses = []
    for model in (WordDecoder(2), WordDecoder(2)):
        if losses:
            model.load_state_dict(checkpoint.load_module(work / "words"))
        noise = torch.zeros(sum(len(image.patches) for image in images), model.concepts.shape[1])
        embeds = word_embeddings(model, batch.ids, images, noise)
        losses.append(answer_loss(model.decoder.model, model.decoder.lm_head, batch, embeds)[0].item())
    assert losses[1] < 0.9 * losses[0]


def test_the_halves_join_train_together_and_load_as_a_model_folder(tmp_path, work):
    train_projector(tmp_path / "projector", work / "tower", work / "words", 4)
    before, after = empty_model(), empty_model()
    before.load_state_dict(checkpoint.load_module(tmp_path / "projector"))
    train_joint(tmp_path / "joint", tmp_path / "projector", 3, decay=1, every=99, scored=10, warmup=1)
    after.load_state_dict(checkpoint.load_module(tmp_path / "joint"))
    given = joint_batch("check", 0, 4, tiled=False, keep=1.0)
    with torch.no_grad():
        assert joint_loss(after, given)[0] < joint_loss(before, given)[0]
    assemble(after, tmp_path / "model", source={"seed": 0})
    loaded = load_model(tmp_path / "model").state_dict()
    assert loaded.keys() == after.state_dict().keys()
    for name, value in after.state_dict().items():
        torch.testing.assert_close(loaded[name], value.half().float(), atol=0, rtol=0)
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) < 20_000_000


def test_orthogonal_updates_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((32, 32), (64, 16), (16, 64)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.4 and values.max() < 1.4


def test_every_parameter_is_in_exactly_one_group():
    model = empty_model()
    matrices, others = split_parameters(model)
    assert len(matrices) + len(others) == len(list(model.parameters()))
    assert all(p.ndim == 2 for p in matrices) and len(matrices) == 4 * 6 + 4 * 7
    assert isinstance(Orthogonal(matrices, others, lr=1e-3), torch.optim.Optimizer)


def test_the_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 100, warmup=10, decay=20, peak=1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:80] == pytest.approx([1.0] * 71)
    assert all(later < earlier for earlier, later in pairwise(rates[80:])) and rates[-1] >= 0.02


def test_wilson_intervals_match_known_values():
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=2e-4)
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-9) and wilson(10, 10)[1] == pytest.approx(1.0, abs=1e-9)


def test_a_scaled_recipe_keeps_its_seeds_and_at_least_one_step():
    small = Recipe().scaled(1e-9)
    assert (small.tower_steps, small.words_steps, small.projector_steps, small.joint_steps) == (1, 1, 1, 1)
    assert (small.tower_seed, small.words_seed) == (Recipe().tower_seed, Recipe().words_seed)
