"""A model with quantised linears: what is replaced, what is refused and listed, and what it answers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import xverse_v.quantisation.quantised as quantised
from xverse_v.errors import XverseError
from xverse_v.inference.assistant import Request
from xverse_v.inference.loading import assemble, load, load_quantised
from xverse_v.inference.prompt import Message
from xverse_v.inference.quantised_report import Asked, _following, compare
from xverse_v.quantisation import cuda_kernels, kernels
from xverse_v.quantisation.choice import Choice, Timing
from xverse_v.quantisation.quantised import QuantisedLinear, decoder_linears, quantise_decoder


def taken(kernel: kernels.Kernel, milliseconds: float = 1.0) -> Choice:
    """A choice as if this kernel had been measured at half the time of float."""
    timings = (Timing(kernel.name, milliseconds / 2, milliseconds / 2),)
    return Choice((kernel,), timings, Timing("float32", milliseconds, milliseconds), (8, 8), 1)


@pytest.fixture
def always_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the first fitting kernel beats float, so that no test depends on a clock."""
    monkeypatch.setattr(
        quantised,
        "choose",
        lambda weight, known, *, cold: taken(next(kernel for kernel in known if kernel.fits(*weight.shape))),
    )


def test_only_the_decoder_and_the_head_change(tiny_model, always_fast):
    model = copy.deepcopy(tiny_model)
    before = {name: value for name, value in model.named_parameters()}
    names = {name for name, _ in decoder_linears(model)}
    layers = model.config.text_config.num_hidden_layers
    assert len(names) == 7 * layers + 1 and "lm_head" in names
    report = quantise_decoder(model, "int8")
    replaced = {name for name, module in model.named_modules() if isinstance(module, QuantisedLinear)}
    assert replaced == names
    kept = dict(model.named_parameters())
    assert set(before) - set(kept) == {f"{name}.weight" for name in names}
    assert all(torch.equal(value, before[name]) for name, value in kept.items())
    assert sum(held.count for held in report.held) == len(names)
    assert report.bytes_before == sum(before[f"{name}.weight"].nbytes for name in names)
    assert report.bytes_after < report.bytes_before / 3.5
    with pytest.raises(XverseError) as problem:
        quantise_decoder(model, "int8")
    assert problem.value.code == "E865"


def test_four_bits_list_what_they_cannot_hold(always_fast):
    assistant = load("nano")
    model = assistant.engine.model
    report = quantise_decoder(model, "int4")
    for name, module in model.named_modules():
        if isinstance(module, QuantisedLinear):
            fits = module.in_features % 128 == 0 and module.out_features % 64 == 0 and name != "lm_head"
            assert module.kernel.startswith("int4" if fits else "int8"), name
    listed = {held.name: held.count for held in report.elsewhere}
    assert listed["lm_head"] == 1
    assert sum(listed.values()) == sum(held.count for held in report.held if not held.kernel.startswith("int4"))
    assert all(f"{count} x {name}" in report.text() for name, count in listed.items())
    assert "int4-weights" in report.label and "int8" in report.label


def test_no_four_bit_group_in_a_narrow_decoder(tiny_model, always_fast):
    with pytest.raises(XverseError) as problem:  # 32 wide: nothing to divide by 128
        quantise_decoder(copy.deepcopy(tiny_model), "int4")
    assert problem.value.code == "E861" and "->" in problem.value.text()


def test_a_slow_kernel_is_refused_with_both_numbers(tiny_model, monkeypatch):
    slow = Choice((), (Timing("int8-weights", 0.75, 1.0),), Timing("float32", 0.5, 0.5), (64, 32), 1)
    monkeypatch.setattr(quantised, "choose", lambda weight, known, *, cold: slow)
    model = copy.deepcopy(tiny_model)
    with pytest.raises(XverseError) as problem:
        quantise_decoder(model, "int8")
    assert problem.value.code == "E860"
    assert "0.75" in problem.value.text() and "0.5 ms" in problem.value.text()
    assert not any(isinstance(module, QuantisedLinear) for module in model.modules())
    report = quantise_decoder(model, "int8", refuse_slow=False)
    assert report.kernel == "int8-weights" and report.speedup == pytest.approx(0.5 / 0.75)


def test_unknown_kinds_and_missing_libraries_are_named(tiny_model, monkeypatch):
    with pytest.raises(XverseError) as problem:
        quantise_decoder(tiny_model, "int3")
    assert problem.value.code == "E862" and "int8-dynamic" in problem.value.text()
    monkeypatch.setattr(cuda_kernels, "find_spec", lambda name: None)
    with pytest.raises(XverseError) as problem:
        cuda_kernels.cuda_kernels("int8")
    assert problem.value.code == "E863" and "torchao" in problem.value.text()
    monkeypatch.setattr(cuda_kernels, "find_spec", lambda name: name == "torchao")
    assert [kernel.name for kernel in cuda_kernels.cuda_kernels("int4")] == ["int4-torchao"]


def questions() -> list[Request]:
    from xverse_v.nano.items import items

    return [Request(item.qa.question, item.images) for item in items("scenes", 10)]


@pytest.mark.parametrize("kind", ["int8-weights", "int8-dynamic", "int4"])
def test_quantised_nano_answers_the_same_alone_and_in_a_batch(kind, always_fast):
    assistant = load("nano", quantise=kind)
    asked = questions()
    together = assistant.batch(asked, batch_size=5)
    alone = [assistant.ask(*one.images, one.question, reuse="off") for one in asked]
    same = sum(one.text == other.text for one, other in zip(together, alone, strict=True))
    # Only int8-dynamic sums whole numbers; bfloat16 results may tip a close call.
    assert same == 10 if kind == "int8-dynamic" else same >= 9, f"{same} of 10 alike"
    assert together[-1].receipt.batch_size == 5
    label = together[0].receipt.quantised
    assert kind in label and label == assistant.engine.conditions.quantised
    plain = load("nano")
    assert plain.engine._salt != assistant.engine._salt
    assert plain.ask("Hello?", max_new_tokens=1).receipt.quantised == "none"


def test_most_answers_of_nano_stay(always_fast):
    plain, rounded = load("nano"), load("nano", quantise="int8")
    asked = questions()
    pairs = zip(plain.batch(asked), rounded.batch(asked), strict=True)
    same = sum(one.text == other.text for one, other in pairs)
    assert same >= 8, f"{same} of 10 answers stayed"


def test_the_load_tells_the_kernel_and_the_numbers(always_fast):
    told: list[quantised.QuantiseReport] = []
    load("nano", quantise="int8", on_quantised=told.append)
    assert [report.kernel for report in told] == ["int8-weights"]
    assert "float32" in told[0].text() and "MB" in told[0].text()
    assert told[0].as_dict()["measured"][0]["timings"]


def test_a_dtype_that_would_not_be_used_is_refused(always_fast):
    with pytest.raises(XverseError) as problem:
        load("nano", quantise="int8", dtype="bfloat16", device="cpu")
    assert problem.value.code == "E864"


def test_the_rest_is_float32_though_the_file_holds_halves(always_fast):
    from xverse_v.inference.loading import resolve_model

    model, report = load_quantised(resolve_model("nano"), "int8")
    assert model.dtype == torch.float32
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    whole = load("nano").engine.model
    assert torch.equal(model.get_input_embeddings().weight, whole.get_input_embeddings().weight)
    stored = sum(linear.weight.numel() for _, linear in decoder_linears(whole))
    assert report.bytes_before in (2 * stored, 4 * stored)  # as it lies in the file: never a float32 copy of all


def test_adapters_keep_their_weights_on_top_of_rounded_ones(tiny_model, always_fast):
    import peft

    model = copy.deepcopy(tiny_model)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, model, adapter_name="default")
    model.eval()
    lora = {name: value.clone() for name, value in model.named_parameters() if "lora_" in name}
    ids = torch.tensor([[5, 6, 7, 8]])
    wanted = model(input_ids=ids).logits[0, -1, :-1]
    report = quantise_decoder(model, "int8-dynamic")
    found = model(input_ids=ids).logits[0, -1, :-1]
    assert sum(held.count for held in report.held) == 7 * model.config.text_config.num_hidden_layers + 1
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in lora.items())
    assert float(((found - wanted).norm() / wanted.norm()).detach()) < 0.1


def test_the_report_compares_the_same_positions(always_fast):
    asked = [Asked(one.question, one.images, truth="red") for one in questions()[:3]]
    asked.append(Asked("Hello?"))
    report = compare("nano", "int8", asked)
    assert report.questions == 4 and report.judged == 3
    assert 0 < report.relative_error < 0.2 and report.worst_error > 0
    assert report.positions >= 3 * 2 + 1 and report.top_changed <= report.positions
    assert report.perplexity_after == pytest.approx(report.perplexity_before, rel=0.5)
    assert report.as_dict()["weights"]["kernel"] == report.weights.kernel
    coarse = compare("nano", "int4", asked)
    assert coarse.relative_error > report.relative_error


def test_the_text_that_follows_has_the_tokens_the_model_makes():
    assistant = load("nano")
    for one in questions()[:3]:
        answer = assistant.ask(*one.images, one.question)
        made = [token for token in answer.token_ids if token not in assistant.engine.stop_ids]
        assert _following(assistant, [Message("user", one.question, one.images)], answer.text) == made


def test_an_unchanged_model_has_no_error(monkeypatch):
    """The comparison itself adds nothing: with float products in place of quantised ones every number is zero."""
    exact = kernels.Kernel(
        name="float",
        kind="int8",
        activations="float32",
        fits=lambda rows, columns: True,
        prepare=lambda weight: kernels.prepare_float(weight.detach().float()),
        stored_bytes=lambda rows, columns: 4 * rows * columns,
    )
    monkeypatch.setattr(quantised, "_candidates", lambda kind, device: [exact])
    monkeypatch.setattr(quantised, "choose", lambda weight, known, *, cold: taken(known[0]))
    report = compare("nano", "int8", [Asked(one.question, one.images) for one in questions()[:2]])
    assert report.changed == () and report.top_changed == 0
    assert report.relative_error < 1e-6 and report.perplexity_after == pytest.approx(report.perplexity_before)


def test_assemble_marks_what_it_is_told(tiny_model, processor):
    assistant = assemble(tiny_model, processor, weights_id="x", quantised="int8-dynamic")
    assert assistant.engine.conditions.quantised == "int8-dynamic"


def test_a_file_without_questions_is_refused(tmp_path: Path):
    from xverse_v.cli.verify import _from_file

    path = tmp_path / "questions.jsonl"
    for text, count in (("", 0), ('{"question": "a", "images": []}\nnot json\n', 1)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(XverseError) as problem:
            _from_file(path, 10)
        assert problem.value.code == "E866" and str(count) in problem.value.text()
    path.write_text('{"question": "a", "image": "i.png", "answer": "b"}\n', encoding="utf-8")
    assert _from_file(path, 10) == [Asked("a", (tmp_path / "i.png",), "b")]
