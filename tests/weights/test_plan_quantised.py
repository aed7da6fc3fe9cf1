"""The plan of `--quantise` on a CPU against models that are really quantised: their weights to the byte, their peak."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.weights.plan_runs import AnswerRun, network, peak_bytes, tensors_own_their_views, tracked_bytes
from tests.weights.test_plan_command import run as plan_command
from xverse_v.inference.loading import load_quantised, resolve_model
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.quantisation import kernels, quantised
from xverse_v.quantisation.choice import Choice, Timing
from xverse_v.quantisation.quantised import QuantisedLinear, QuantiseReport, quantise_decoder
from xverse_v.weights.plan import InferenceOptions, plan_inference
from xverse_v.weights.plan_table import Device
from xverse_v.weights.plan_time import Rates, time_inference
from xverse_v.weights.plan_weights import head_bytes, linears_bytes, weight_items
from xverse_v.weights.shapes import PUBLISHED, ModelShape, shape_from_config, shape_from_folder

SHAPE = PUBLISHED["13b"]
KINDS = {"int8-weights": "int8", "int8-dynamic": "int8", "int4": "int4"}
WIDE = {"width": 256, "feed_forward": 768, "vocabulary": 8000}
RUNS = [
    AnswerRun("ten views", ((1920, 1080),), network=WIDE),
    AnswerRun("text alone, long", words=600, network=WIDE),
    AnswerRun("batch of three", ((448, 224),), new_tokens=12, batch=3, network=WIDE),
]


@pytest.fixture(autouse=True)
def always_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the first fitting kernel beats float, so that no test depends on a clock."""

    def first(weight: torch.Tensor, known: list[kernels.Kernel], *, cold: bool) -> Choice:
        kernel = next(kernel for kernel in known if kernel.fits(*weight.shape))
        return Choice((kernel,), (Timing(kernel.name, 0.5, 0.5),), Timing("float32", 1.0, 1.0), (8, 8), 1)

    monkeypatch.setattr(quantised, "choose", first)


def planned(shape: ModelShape, dtype: str) -> int:
    return sum(item.bytes for item in weight_items(shape, shape.decoder, dtype, "cpu"))


def stored(model: XverseVForConditionalGeneration, report: QuantiseReport) -> int:
    """What is left as it was, and what the kernels say of theirs: those are no parameters."""
    return sum(parameter.nbytes for parameter in model.parameters()) + report.bytes_after


@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_model_as_it_is_loaded(kind: str) -> None:
    folder = resolve_model("nano")
    model, report = load_quantised(folder, kind)
    assert planned(shape_from_folder(folder), KINDS[kind]) == stored(model, report)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(buffer.nbytes for buffer in model.buffers()) < 2000  # positions and frequencies, in no plan
    assert report.label == ("int8-weights + int4-weights" if kind == "int4" else kind)  # 192 wide: few in four bits


@pytest.mark.parametrize("kind", ["int8-weights", "int4"])
def test_the_kernels_hold_what_they_say(kind: str) -> None:
    """Their weights are tensors of torch's; int8-dynamic packs its own, out of sight."""
    model = network(**WIDE)
    report = quantise_decoder(model, kind)
    held, rows = 0, 0
    for module in model.modules():
        if isinstance(module, QuantisedLinear):
            cells = [cell.cell_contents for cell in module._product.__closure__ or ()]
            held += sum(value.nbytes for value in cells if isinstance(value, torch.Tensor))
            rows += module.out_features if module.kernel == "int8-weights" else 0
    assert held == report.bytes_after - 2 * rows  # a scale is counted in float32, this kernel narrows it


def test_a_tied_head_is_there_twice() -> None:
    config = network(**WIDE).config
    config.tie_word_embeddings = True
    model = XverseVForConditionalGeneration(config).eval()
    assert model.lm_head.weight is model.get_input_embeddings().weight
    shape = shape_from_config(config, name="tied")
    before = sum(parameter.nbytes for parameter in model.parameters())
    assert planned(shape, "float32") == before
    report = quantise_decoder(model, "int8")
    assert planned(shape, "int8") == stored(model, report)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("shape", PUBLISHED.values(), ids=list(PUBLISHED))
def test_published_sizes_are_counted_as_the_kernels_count(shape: ModelShape, dtype: str) -> None:
    known = [*(kernels.cpu_kernels("int4") if dtype == "int4" else []), *kernels.cpu_kernels("int8")]
    for more in (0, 64, 32):  # four bits want inputs in groups of 128 and rows in blocks of 64
        decoder = replace(shape.decoder, feed_forward=shape.decoder.feed_forward + more)
        layer = 0
        for inside, outside in decoder.linears.values():
            layer += next(kernel for kernel in known if kernel.fits(outside, inside)).stored_bytes(outside, inside)
        assert linears_bytes(decoder, dtype, "cpu") == layer * decoder.layers
        head = kernels.INT8_WEIGHTS.stored_bytes(decoder.vocabulary, decoder.width)
        assert head_bytes(decoder, dtype, "cpu") == head


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.name)
def test_answering_takes_what_is_planned(case: AnswerRun, kind: str) -> None:
    """Activations and cache are float32 beside quantised weights; only int8-dynamic takes more, inside its kernel."""
    model = network(**case.network)
    report = quantise_decoder(model, kind)
    prompt = case.ask(case.assistant(model))
    options = replace(case.options(model, prompt), dtype=KINDS[kind])
    with tensors_own_their_views():
        assistant = case.assistant(model)
        measured = stored(model, report) + peak_bytes(lambda: case.ask(assistant))
    plan = plan_inference(shape_from_config(model.config, name=case.name), options)
    assert tracked_bytes(plan) == pytest.approx(measured, rel=0.03)
    assert plan.facts["cache_bytes_per_token"] == assistant.engine.kv_bytes_per_token


def test_on_a_gpu_the_rest_is_counted_in_16_bits() -> None:
    options = InferenceOptions(images=((1920, 1080),), dtype="int8", device=Device("cuda"))
    plan = plan_inference(SHAPE, options)
    rest = SHAPE.parameters - SHAPE.decoder.linear_parameters
    rows = SHAPE.decoder.layers * sum(outside for _, outside in SHAPE.decoder.linears.values())
    assert plan.resident_bytes == SHAPE.decoder.linear_parameters + 2 * (rows + rest)
    assert plan.facts["cache_bytes_per_token"] == 819_200
    assert plan.total_bytes == pytest.approx(22.1e9, abs=0.05e9)  # README's table


def test_a_step_reads_the_head_in_one_byte() -> None:
    options = InferenceOptions(question_tokens=100, new_tokens=10, dtype="int8", device=Device("cpu"))
    *_, decode = time_inference(SHAPE, options, Rates(1e12, 1e10, "given"))
    weights = SHAPE.decoder.linear_parameters + SHAPE.decoder.head_parameters
    assert decode.bytes / 10 == pytest.approx(weights + 105 * SHAPE.decoder.cache_bytes(1, 4), rel=0.001)


def test_the_table_says_how_it_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    monkeypatch.setenv("COLUMNS", "150")
    given = ("--model", "13b", "--device", "cpu", "--dtype", "int8")
    said = plan_command(*given)
    assert "linears in int8, the rest in float32" in said
    assert "513,428,480 parameters x 4 bytes, the head in int8" in said
    found = {item["name"]: item["bytes"] for item in json.loads(plan_command(*given, "--json"))["items"]}
    assert found["vision tower"] == 4 * SHAPE.vision.parameters
    assert found["projector"] == 4 * SHAPE.projector_parameters
