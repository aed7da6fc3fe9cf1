"""Stages: who trains, by name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.conftest import ADAPTERS, LORA, PROJECTOR, small_config
from xverse_v.errors import XverseError
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.training.config import DECODER_LINEARS, LoraSettings, Optimisation, Rule, Stage
from xverse_v.training.lora import SampleDropout, Span, add_lora
from xverse_v.training.schedule import learning_rate
from xverse_v.training.stage import apply_stage, claim, in_words, set_modes, start_anew


@pytest.fixture
def model() -> XverseVForConditionalGeneration:
    torch.manual_seed(0)
    return XverseVForConditionalGeneration(small_config()).to(torch.bfloat16).eval()


def finetune(model: XverseVForConditionalGeneration) -> tuple[Stage, object]:
    stage = Stage.model_validate({"name": "finetune", "lora": LORA, "rules": [PROJECTOR, ADAPTERS]})
    assert stage.lora is not None
    add_lora(model, stage.lora, seed=0)
    return stage, apply_stage(model, stage)


def test_pretrain_trains_the_projector_and_nothing_else(model: XverseVForConditionalGeneration) -> None:
    stage = Stage.model_validate({"name": "pretrain", "rules": [PROJECTOR]})
    claims = apply_stage(model, stage)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert (
        trained
        == set(claims.trained)
        == {
            f"model.multi_modal_projector.{part}.{kind}"
            for part in ("layer_norm", "linear_1", "linear_2")
            for kind in ("weight", "bias")
        }
    )
    assert set(claims.frozen) | trained == {name for name, _ in model.named_parameters()}


def test_finetune_trains_projector_and_adapters_of_all_decoder_linears(model: XverseVForConditionalGeneration) -> None:
    _, claims = finetune(model)
    adapters = claims.rules["adapters"]
    assert len(adapters) == 2 * 7 * small_config().text_config.num_hidden_layers
    assert all(name.startswith("model.language_model.layers.") for name in adapters)
    assert len(claims.rules["projector"]) == 6


def test_what_trains_is_float32_and_what_is_frozen_keeps_its_format(model: XverseVForConditionalGeneration) -> None:
    finetune(model)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name


def test_frozen_modules_are_in_eval_mode_and_dropout_of_adapters_in_train_mode(
    model: XverseVForConditionalGeneration,
) -> None:
    finetune(model)
    assert not model.model.vision_tower.encoder.layers[0].self_attn.training
    assert not model.model.language_model.layers[0].self_attn.q_proj.base_layer.training
    found = [module for module in model.modules() if isinstance(module, SampleDropout)]
    assert len(found) == 14 and all(module.training for module in found)
    set_modes(model, training=False)
    assert not any(module.training for module in model.modules())


def test_every_rule_and_every_frozen_part_is_said_in_words(model: XverseVForConditionalGeneration) -> None:
    stage, claims = finetune(model)
    words = "\n".join(in_words(stage, claims))  # type: ignore[arg-type]
    for part in ("projector: 2,176 in 6 tensors", "adapters: ", "frozen: model.vision_tower", "frozen: lm_head.weight"):
        assert part in words
    assert "learning rate 0.01 to 0.001, weight decay 0.01" in words


def test_parameters_start_anew_from_the_seed(model: XverseVForConditionalGeneration) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    names = start_anew(model, PROJECTOR["match"], seed=1)
    assert len(names) == 6
    for name, parameter in model.named_parameters():
        assert (name in names and parameter.ndim > 1) == (not torch.equal(parameter, before[name])), name
        assert parameter.dtype == torch.bfloat16
    projector = model.model.multi_modal_projector
    assert (projector.layer_norm.weight == 1).all() and not projector.linear_2.bias.any()
    first = projector.linear_1.weight.clone()
    start_anew(model, PROJECTOR["match"], seed=1)
    assert torch.equal(projector.linear_1.weight, first)
    start_anew(model, PROJECTOR["match"], seed=2)
    assert not torch.equal(projector.linear_1.weight, first)
    with pytest.raises(XverseError, match="E254"):
        start_anew(model, "projector", seed=1)


def rule(name: str, match: str) -> Rule:
    return Rule(name=name, match=match, lr=1e-3)


def test_a_rule_that_matches_nothing_names_the_nearest_parameter(model: XverseVForConditionalGeneration) -> None:
    parameters = dict(model.named_parameters())
    with pytest.raises(XverseError) as caught:
        claim(parameters, [rule("p", r"model\.multimodal_projector\.linear_1\.weight")])
    assert caught.value.code == "E254"
    assert caught.value.facts["nearest"] == "model.multi_modal_projector.linear_1.weight"


def test_a_pattern_must_match_the_whole_name(model: XverseVForConditionalGeneration) -> None:
    with pytest.raises(XverseError, match="E254"):
        claim(dict(model.named_parameters()), [rule("p", "multi_modal_projector")])


def test_a_parameter_claimed_twice_is_refused(model: XverseVForConditionalGeneration) -> None:
    both = [rule("all", r"model\.multi_modal_projector\..*"), rule("biases", r"model\.multi_modal_projector\..*\.bias")]
    with pytest.raises(XverseError) as caught:
        claim(dict(model.named_parameters()), both)
    assert caught.value.code == "E255"
    assert (caught.value.facts["first"], caught.value.facts["second"]) == ("all", "biases")


@pytest.mark.parametrize("rules", [[rule("p", "(")], [rule("p", r"lm_head\.weight"), rule("p", r".*norm\.weight")]])
def test_broken_rules_are_refused(model: XverseVForConditionalGeneration, rules: list[Rule]) -> None:
    with pytest.raises(XverseError, match="E252"):
        claim(dict(model.named_parameters()), rules)


@pytest.mark.parametrize("pattern", [r".*q_proj", r"lm_head", r"nothing", r"model\.language_model\.layers\.0"])
def test_adapters_go_on_decoder_linears_only(model: XverseVForConditionalGeneration, pattern: str) -> None:
    with pytest.raises(XverseError, match="E264"):
        add_lora(model, LoraSettings(rank=2, linears=pattern), seed=0)


def test_adapters_start_from_the_seed_and_change_nothing_at_first(model: XverseVForConditionalGeneration) -> None:
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    names = add_lora(model, LoraSettings(rank=4, dropout=0.0), seed=7)
    again = XverseVForConditionalGeneration(small_config())
    add_lora(again, LoraSettings(rank=4, dropout=0.0, linears=DECODER_LINEARS), seed=7)
    assert len(names) == 14
    for name in names:
        one, two = (m.get_submodule(name).lora_A["default"].weight for m in (model, again))
        assert torch.equal(one, two) and one.dtype == torch.float32 and one.std() > 0
    model.to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before)


def test_dropout_of_a_sample_does_not_depend_on_its_place(model: XverseVForConditionalGeneration) -> None:
    dropout = SampleDropout(0.5, "layer")
    x = torch.ones(2, 9, 64)
    dropout.spans = [Span(0, 0, 4, key=1), Span(0, 4, 9, key=2), Span(1, 2, 6, key=1)]
    out = dropout(x)
    assert torch.equal(out[0, :4], out[1, 2:6])
    assert not torch.equal(out[0, :4], out[0, 4:8])
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((out[0] == 0).float().mean()) < 0.6
    other = SampleDropout(0.5, "another layer")
    other.spans = dropout.spans
    assert not torch.equal(other(x), out)
    dropout.eval()
    assert torch.equal(dropout(x), x)


def test_the_rate_warms_up_to_its_own_peak_and_falls_to_its_own_end() -> None:
    settings = Optimisation(steps=10, warmup_steps=4)
    one, two = Rule(name="a", match="a", lr=1.0, min_lr=0.1), Rule(name="b", match="b", lr=0.5)
    assert [learning_rate(one, step, settings) for step in (1, 2, 4)] == [0.25, 0.5, 1.0]
    assert learning_rate(one, 7, settings) == pytest.approx(0.55)
    assert learning_rate(one, 10, settings) == pytest.approx(0.1)
    assert learning_rate(two, 4, settings) == 0.5
    assert learning_rate(two, 10, settings) == pytest.approx(0.0)
    assert learning_rate(one, 1, Optimisation(steps=1)) == pytest.approx(0.1)


def test_names_in_the_stage_are_those_of_the_folder(small_folder: Path, model: XverseVForConditionalGeneration) -> None:
    from xverse_v.weights.load import weight_map

    assert set(weight_map(small_folder)) == {name for name, _ in model.named_parameters()}
