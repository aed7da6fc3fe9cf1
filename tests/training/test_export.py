"""From a run back to a model folder: merged equals unmerged, and every folder verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import ranks
from tests.training.conftest import LORA, make_model, settings
from xverse_v.errors import XverseError
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.training.checkpoint import read_weights
from xverse_v.training.config import LoraSettings
from xverse_v.training.export import export
from xverse_v.training.lora import add_lora
from xverse_v.weights.load import load_model
from xverse_v.weights.manifest import check_manifest


@pytest.fixture(scope="module")
def run(small_folder: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finetune"
    document = settings(
        small_folder, samples, folder, optimisation__steps=4, checkpoints__every=2, distribution__shard="full"
    )
    assert ranks.train(document, 2) == [0, 0]
    return folder


def logits(model: XverseVForConditionalGeneration) -> torch.Tensor:
    pixels = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[2, *[model.config.image_token_id] * 4, 7, 8, 9, 10]])
    with torch.no_grad():
        found = model(input_ids=ids, pixel_values=pixels).logits
    return found[..., : model.config.image_token_id]


def trained_network(base: Path, run: Path, step: int) -> XverseVForConditionalGeneration:
    model = load_model(base)
    add_lora(model, LoraSettings.model_validate(LORA | {"dropout": 0.0}), seed=0)
    report = model.load_state_dict(read_weights(run, step), strict=False)
    assert not report.unexpected_keys
    return model.eval()


@pytest.mark.parametrize("merge", [True, False])
def test_the_folder_computes_what_was_trained(small_folder: Path, run: Path, tmp_path: Path, merge: bool) -> None:
    report = export(run, tmp_path / "out", merge=merge)
    assert (report.step, report.replaced, report.adapted) == (4, 6, 14)
    assert [check.state for check in report.verified.checks] == ["passed"] * 4
    wanted = logits(trained_network(small_folder, run, 4))
    found = logits(load_model(tmp_path / "out"))
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-5)
    assert (found - logits(load_model(small_folder))).abs().max() > 1e-3, "nothing was trained"
    assert (tmp_path / "out" / "adapter").is_dir() != merge
    manifest = check_manifest(tmp_path / "out", hashes=True)
    assert manifest.tiler == "upright" and manifest.source["trained"]["step"] == 4 and not manifest.unlisted


@pytest.mark.parametrize("merge", [True, False])
def test_a_bfloat16_folder_stays_one_and_is_rounded_once(samples: Path, tmp_path: Path, merge: bool) -> None:
    base = make_model(tmp_path / "base", torch.bfloat16)
    document = settings(base, samples, tmp_path / "run", optimisation__steps=2, distribution__dtype="bfloat16")
    assert ranks.train(document) == [0]
    report = export(tmp_path / "run", tmp_path / "out", merge=merge)
    assert [check.state for check in report.verified.checks] == ["passed"] * 4
    model = load_model(tmp_path / "out", dtype="bfloat16")
    trained = read_weights(tmp_path / "run", 2)
    name = "model.language_model.layers.0.mlp.up_proj"
    projector = "model.multi_modal_projector.linear_1.weight"
    assert torch.equal(model.get_parameter(projector), trained[projector].bfloat16())
    if merge:
        change = 2.0 * trained[f"{name}.lora_B.default.weight"] @ trained[f"{name}.lora_A.default.weight"]
        wanted = (load_model(base).get_parameter(f"{name}.weight") + change).bfloat16()
        assert torch.allclose(model.get_parameter(f"{name}.weight").float(), wanted.float(), rtol=2**-8, atol=0)
    else:
        stored = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
        for side in "AB":
            adapter = stored[f"base_model.model.{name}.lora_{side}.weight"]
            assert torch.equal(adapter, trained[f"{name}.lora_{side}.default.weight"]), "adapters are kept as trained"


def test_an_earlier_step_can_be_named(small_folder: Path, run: Path, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out", merge=True, step=2).step == 2
    assert torch.allclose(
        logits(load_model(tmp_path / "out")), logits(trained_network(small_folder, run, 2)), atol=1e-5
    )


def test_the_export_of_a_run_can_be_trained_on(run: Path, samples: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "merged", merge=True)
    again = settings(tmp_path / "merged", samples, tmp_path / "run", optimisation__steps=2)
    assert ranks.train(again) == [0]
    export(run, tmp_path / "beside", merge=False)
    assert ranks.train(settings(tmp_path / "beside", samples, tmp_path / "refused")) == [2]


def test_what_cannot_be_exported_is_refused(run: Path, samples: Path, tmp_path: Path) -> None:
    with pytest.raises(XverseError, match="E261"):
        export(run, tmp_path / "out", merge=True, step=3)
    with pytest.raises(XverseError, match="E261"):
        export(tmp_path, tmp_path / "out", merge=True)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(XverseError, match="E271"):
        export(run, tmp_path / "used", merge=True)
    other = make_model(tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(XverseError, match="E270"):
        export(run, tmp_path / "out", merge=True, base=other)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
