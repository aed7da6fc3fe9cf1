"""Our model class for VLMEvalKit, against a base class of the same shape."""

import sys

import pytest

from tests.conftest import made_image
from tests.evaluation.plugins import stand_ins
from xverse_v.errors import XverseError
from xverse_v.evaluation.plugins import vlmevalkit
from xverse_v.inference.loading import load


@pytest.fixture
def harness(monkeypatch):
    modules = stand_ins.vlmevalkit()
    for name, made in modules.items():
        monkeypatch.setitem(sys.modules, name, made)
    vlmevalkit.model_class.cache_clear()
    yield modules
    vlmevalkit.model_class.cache_clear()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "7.png"
    made_image("wave", 224, 448, 1).save(path)
    return str(path)


def test_it_answers_a_message_as_our_own_model_does(harness, image):
    model = vlmevalkit.XverseV("nano", device="cpu", max_new_tokens=5)
    question = "How many? \n"
    message = [{"type": "image", "value": image}, {"type": "text", "value": question}]
    expected = load("nano", device="cpu").ask(
        image, question, temperature=0.0, repetition_penalty=1.0, max_new_tokens=5
    )
    assert model.generate(message, dataset="MMStar") == expected.text
    assert not model.use_custom_prompt("MMStar") and not model.INTERLEAVE
    assert isinstance(model, harness["vlmeval.vlm.base"].BaseModel)


def test_texts_are_joined_and_the_first_image_is_taken(harness, image, tmp_path):
    other = tmp_path / "8.png"
    made_image("wave", 224, 224, 2).save(other)
    model = vlmevalkit.XverseV("nano", device="cpu", max_new_tokens=5)
    parts = [("text", "a"), ("image", image), ("text", "b"), ("image", str(other)), ("text", "c")]
    folded = [{"type": "image", "value": image}, {"type": "text", "value": "a\nb\nc"}]
    assert model.generate([{"type": k, "value": v} for k, v in parts]) == model.generate(folded)


def test_a_row_that_cannot_be_asked_raises_what_the_harness_can_record(harness, tmp_path):
    model = vlmevalkit.XverseV("nano", device="cpu")
    with pytest.raises(RuntimeError, match="E500"):
        model.generate([{"type": "image", "value": str(tmp_path / "no.png")}, {"type": "text", "value": "?"}])


def test_the_launcher_registers_and_runs_the_script_with_its_own_arguments(harness, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom vlmeval.config import supported_VLM\n"
        "made = supported_VLM['mine']\n"
        "open(sys.argv[-1], 'w').write(repr((sys.argv[1:-1], made.keywords['model_path'], made.func.__name__)))\n"
    )
    before = list(sys.argv)
    out = tmp_path / "out.txt"
    rest = ["--data", "MMStar", "--model", "mine", "--verbose", str(out)]
    vlmevalkit.main(["--weights", "nano", "--name", "mine", str(script), *rest])
    assert out.read_text() == repr((rest[:-1], "nano", "XverseV")) and sys.argv == before


def test_a_name_that_is_taken_is_not_overwritten(harness):
    with pytest.raises(XverseError, match="E774"):
        vlmevalkit.register("GPT4o")
    vlmevalkit.register("XVERSE-V")
    assert "XVERSE-V" in harness["vlmeval.config"].supported_VLM


def test_without_the_harness_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vlmeval", None)
    vlmevalkit.model_class.cache_clear()
    with pytest.raises(XverseError, match=r"E779.*VLMEvalKit"):
        vlmevalkit.model_class()
