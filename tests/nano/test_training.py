"""The recipe in small: both halves lower their loss and resume exactly, and join into a folder like any other."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.nano.conftest import TOWER, WORDS
from xverse_v.model import XverseVProcessor
from xverse_v.nano import checkpoint
from xverse_v.nano.decoder import answer_loss
from xverse_v.nano.folder import empty_model, join_parts, ship
from xverse_v.nano.optimiser import Orthogonal, orthogonal, split_parameters
from xverse_v.nano.rows import word_row
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.sequences import image_id, tokenizer
from xverse_v.nano.tower import SeeingTower, pixels_of, tower_batch, tower_loss, train_tower
from xverse_v.nano.words import WordDecoder, train_words, word_batch, word_embeddings
from xverse_v.weights.load import load_model
from xverse_v.weights.verify import verify_folder


def assert_same_module(one: Path, other: Path) -> None:
    first, second = checkpoint.load_module(one), checkpoint.load_module(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


def test_the_tower_learns_and_resumes_exactly(tmp_path: Path, parts: Path) -> None:
    given, again = tower_batch("check", 0), tower_batch("check", 0)
    assert (given.views == again.views).all() and (given.labels == again.labels).all()
    pixels = pixels_of(given)
    losses = []
    for weights in (None, checkpoint.load_module(parts / "tower")):
        torch.manual_seed(1)
        model = SeeingTower()
        if weights is not None:
            model.load_state_dict(weights)
        with torch.no_grad():
            losses.append(tower_loss(model(pixels), given).item())
    assert losses[1] < 0.9 * losses[0]
    train_tower(tmp_path, every=3, stop=3, **TOWER)
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 3
    train_tower(tmp_path, every=3, **TOWER)
    assert_same_module(parts / "tower", tmp_path)


def test_the_decoder_learns_from_words_and_resumes_exactly(tmp_path: Path, parts: Path) -> None:
    # What was practised, asked again: four steps teach nothing that reaches further.
    batch, meanings = word_batch([word_row("words", number, 0.03) for number in range(12)])
    losses = []
    for weights in (None, checkpoint.load_module(parts / "words")):
        model = WordDecoder(2)
        if weights is not None:
            model.load_state_dict(weights)
        noise = torch.zeros(len(meanings), model.concepts.shape[1])
        with torch.no_grad():
            embeds = word_embeddings(model, batch.ids, meanings, noise)
            losses.append(answer_loss(model.decoder.model, model.decoder.lm_head, batch, embeds)[0].item())
    assert losses[1] < 0.9 * losses[0]
    train_words(tmp_path, every=2, stop=2, **WORDS)
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 2
    train_words(tmp_path, every=2, **WORDS)
    assert_same_module(parts / "words", tmp_path)


def test_scores_of_both_halves_stand_in_their_checkpoints(parts: Path) -> None:
    tower = json.loads((parts / "tower" / "state.json").read_text())
    words = json.loads((parts / "words" / "state.json").read_text())
    assert tower["step"] == sum(TOWER["cycles"]) and words["step"] == sum(WORDS["cycles"])
    assert {"scene all", "tag char1", "chart rank", "digit char1"} <= set(tower["scores"])
    assert {"all", "scene", "board", "chart", "pair", "en", "zh"} <= set(words["scores"])
    assert all(0 <= value <= 1 for held in (tower, words) for value in held["scores"].values())


def test_the_start_folder_is_an_ordinary_one_that_holds_both_halves(start: Path, parts: Path) -> None:
    joined = join_parts(parts / "tower", parts / "words", seed=3).state_dict()
    loaded = load_model(start).state_dict()
    assert loaded.keys() == joined.keys()
    for name, value in joined.items():
        torch.testing.assert_close(loaded[name], value.half().float(), atol=0, rtol=0)
    words = checkpoint.load_module(parts / "words")["decoder.lm_head.weight"]
    assert torch.equal(joined["lm_head.weight"], words)
    other = join_parts(parts / "tower", parts / "words", seed=4).state_dict()
    changed = {name for name, value in joined.items() if not torch.equal(other[name], value)}
    assert changed and all("multi_modal_projector" in name for name in changed)
    assert not verify_folder(start).problems
    processor = XverseVProcessor.from_pretrained(start)
    assert processor.image_processor.orientation == "upright" and processor.patches_per_view == 64
    prompt = "Human: <|image|>\nWhat is it?\nAssistant: "
    assert processor.tokenizer(prompt)["input_ids"] == tokenizer().encode(prompt).ids
    assert processor.image_token_id == image_id()


def test_shipping_adds_the_card_and_changes_no_weight(start: Path, tmp_path: Path) -> None:
    row = {"right": 9, "asked": 10, "share": 0.9, "interval": (0.59, 0.98)}
    measured = {"settings": {"questions": 10, "start": 0}, "scores": {"scenes": row, "wrong refusals": row}}
    ship(start, tmp_path / "shipped", {"seed of the tower": 17}, measured)
    card = (tmp_path / "shipped" / "README.md").read_text(encoding="utf-8")
    assert "not made by XVERSE" in card and "| scenes | 9 | 10 | 90.0 % | 59.0 % to 98.0 % |" in card
    assert "seed of the tower | 17" in card
    millions = sum(value.numel() for value in load_model(start).state_dict().values()) / 1e6
    assert f"{millions:.1f} million parameters" in card
    same = "model.safetensors"
    assert (tmp_path / "shipped" / same).read_bytes() == (start / same).read_bytes()
    assert not verify_folder(tmp_path / "shipped").problems
    assert sum(file.stat().st_size for file in (tmp_path / "shipped").iterdir()) < 20_000_000


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((32, 32), (64, 16), (16, 64)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.4 and values.max() < 1.4


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = empty_model()
    matrices, others = split_parameters(model)
    assert len(matrices) + len(others) == len(list(model.parameters()))
    assert all(p.ndim == 2 for p in matrices) and len(matrices) == 4 * 6 + 4 * 7
    optimiser = Orthogonal(matrices, others, lr=1e-3)
    shares = [group["share"] for group in optimiser.param_groups]
    optimiser.settle()
    assert shares == [10.0, 1.0] and [group["share"] for group in optimiser.param_groups] == [3.0, 1.0]


def test_the_rate_rises_stays_and_falls_and_another_cycle_changes_nothing_before_it() -> None:
    settings = {"warmup": 10, "fall": 0.2, "peak": 1.0}
    rates = [learning_rate(step, (100,), **settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:80] == pytest.approx([1.0] * 71)
    assert all(later < earlier for earlier, later in pairwise(rates[80:])) and rates[-1] >= 0.02
    longer = [learning_rate(step, (100, 50), **settings) for step in range(150)]
    assert longer[:100] == rates and longer[100] == pytest.approx(0.1) and longer[110:140] == pytest.approx([1.0] * 30)
    assert longer[-1] < 0.2
    with pytest.raises(ValueError, match="behind the last cycle"):
        learning_rate(100, (100,), **settings)
