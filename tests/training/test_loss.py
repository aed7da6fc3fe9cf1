"""The objective against the model's own loss, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.conftest import LORA, config_of, small_config, small_processor
from xverse_v.errors import XverseError
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.training.config import LoraSettings
from xverse_v.training.data.batches import MicroBatch, StepData
from xverse_v.training.lora import add_lora
from xverse_v.training.loss import Objective, empty_batch, sample_spans
from xverse_v.weights.load import load_model


@pytest.fixture
def model(small_folder: Path) -> XverseVForConditionalGeneration:
    return load_model(small_folder)


@pytest.fixture(params=["padded", "packed"])
def batches(
    request: pytest.FixtureRequest, small_folder: Path, samples: Path, tmp_path: Path
) -> Iterator[list[MicroBatch]]:
    packing = {"data__packing": request.param == "packed", "data__micro_batch": 3}
    data = StepData(config_of(small_folder, samples, tmp_path, **packing).data, small_processor(), cache=tmp_path)
    yield data.micro_batches(0)
    data.close()


def test_it_is_the_models_own_loss_times_its_tokens(
    model: XverseVForConditionalGeneration, batches: list[MicroBatch]
) -> None:
    objective = Objective(model)
    for batch in batches:
        with torch.no_grad():
            mean = model(**batch.model_inputs(), labels=batch.labels).loss
            total = objective(batch)
        assert total.item() == pytest.approx(mean.item() * batch.supervised, rel=1e-5)


def test_logits_in_pieces_give_the_same_loss_and_gradients(
    model: XverseVForConditionalGeneration, batches: list[MicroBatch]
) -> None:
    found = []
    for chunk in (1000, 2):
        model.zero_grad()
        loss = Objective(model, loss_chunk=chunk)(batches[0])
        loss.backward()
        found.append(
            (
                loss.item(),
                model.lm_head.weight.grad.clone(),
                model.model.multi_modal_projector.linear_1.weight.grad.clone(),
            )
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for one, two in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.allclose(one, two, atol=1e-5) and one.abs().max() > 0


def test_the_head_runs_on_supervised_positions_only(
    model: XverseVForConditionalGeneration, batches: list[MicroBatch]
) -> None:
    rows = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    Objective(model)(batches[0])
    assert rows == [batches[0].supervised] and rows[0] < batches[0].input_ids.numel()


def test_stored_features_give_the_loss_of_pixels(
    model: XverseVForConditionalGeneration, batches: list[MicroBatch]
) -> None:
    batch = next(batch for batch in batches if batch.pixel_values is not None)
    with torch.no_grad():
        features = model.model.vision_tower(batch.pixel_values).last_hidden_state[:, 1:]
        stored = replace(batch, pixel_values=None, image_features=features)
        assert torch.equal(Objective(model, features=True)(stored), Objective(model)(batch))


@pytest.mark.parametrize("features", [False, True])
def test_an_empty_batch_runs_the_projector_and_gives_no_gradient(
    model: XverseVForConditionalGeneration, features: bool
) -> None:
    loss = Objective(model, features=features)(empty_batch(small_config()))
    loss.backward()
    assert loss.item() == 0.0
    for name, parameter in model.named_parameters():
        if not name.startswith("model.vision_tower"):
            assert parameter.grad is not None, f"{name} would miss a collective"
            assert not parameter.grad.any(), name


def test_frozen_vision_keeps_no_graph(model: XverseVForConditionalGeneration, batches: list[MicroBatch]) -> None:
    model.model.vision_tower.requires_grad_(False)
    seen = []
    model.model.vision_tower.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    Objective(model)(batches[0]).backward()
    assert seen == [False]


def test_placeholders_that_do_not_fit_are_refused(
    model: XverseVForConditionalGeneration, batches: list[MicroBatch]
) -> None:
    batch = next(batch for batch in batches if batch.pixel_values is not None)
    fewer = replace(batch, pixel_values=torch.cat([batch.pixel_values, batch.pixel_values[:1]]))
    with pytest.raises(XverseError) as caught:
        Objective(model)(fewer)
    assert caught.value.code == "E266" and batch.sample_ids[0] in caught.value.facts["samples"]


def test_spans_cover_each_sample_once_and_no_padding(batches: list[MicroBatch]) -> None:
    for batch in batches:
        spans = sample_spans(batch, seed=1, step=2)
        assert len(spans) == len(batch.sample_ids) == len({span.key for span in spans})
        assert sum(span.stop - span.start for span in spans) == int((batch.segment_ids >= 0).sum())
        assert [s.key for s in spans] != [s.key for s in sample_spans(batch, seed=1, step=3)]
        for span in spans:
            assert batch.position_ids[span.row, span.start] == 0


def test_dropout_reaches_the_loss_and_repeats(
    model: XverseVForConditionalGeneration, batches: list[MicroBatch]
) -> None:
    add_lora(model, LoraSettings.model_validate(LORA | {"dropout": 0.5}), seed=0)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    objective = Objective(model).train()
    losses = []
    for step in (1, 1, 2):
        objective.set_dropout(batches[0], 0, step)
        with torch.no_grad():
            losses.append(objective(batches[0]).item())
    assert losses[0] == losses[1] != losses[2]
