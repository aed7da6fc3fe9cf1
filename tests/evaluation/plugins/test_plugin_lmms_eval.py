"""Our plug-in for lmms-eval, against modules of the same shape."""

import subprocess
import sys
from importlib import import_module

import pytest

from tests.conftest import made_image
from tests.evaluation.plugins import stand_ins
from xverse_v.errors import XverseError
from xverse_v.evaluation.plugins import lmms_eval as plugin
from xverse_v.inference.loading import load
from xverse_v.inference.sampling import SamplingSettings

MODEL_MODULE = "xverse_v.evaluation.plugins.lmms_eval_model"
GREEDY = {"until": ["\n\n"], "max_new_tokens": 5, "temperature": 0, "do_sample": False, "num_beams": 1, "top_p": None}


@pytest.fixture
def harness(monkeypatch):
    for name, made in stand_ins.lmms_eval().items():
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.delitem(sys.modules, MODEL_MODULE, raising=False)
    yield import_module(MODEL_MODULE)
    sys.modules.pop(MODEL_MODULE, None)


def instances(model, documents, settings=GREEDY):
    model.task_dict = {"task": {"test": documents}}

    def to_messages(document):
        images = [{"type": "image", "url": image} for image in document["images"]]
        return [{"role": "user", "content": [*images, {"type": "text", "text": document["question"]}]}]

    count = len(documents)
    return [stand_ins.Instance(("ctx", to_messages, dict(settings), n, "task", "test")) for n in range(count)]


def test_the_manifest_names_a_chat_class_that_is_there(harness):
    found = plugin.manifest()
    path, _, name = found.chat_class_path.rpartition(".")
    made = getattr(import_module(path), name)
    assert found.model_id == "xverse_v" and found.simple_class_path is None
    assert made.is_simple is False and issubclass(made, stand_ins.lmms)


def test_loading_the_entry_point_needs_no_torch():
    code = (
        "import sys; import xverse_v.evaluation.plugins.lmms_eval; "
        "assert not {'torch', 'transformers', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_answers_come_in_the_order_of_the_requests_and_as_ours(harness):
    images = [made_image("wave", 224, 448, 1), made_image("wave", 224, 224, 2)]
    documents = [{"images": [images[n % 2]], "question": f"Is it {word}?"} for n, word in enumerate("abcde")]
    model = harness.XverseV(pretrained="nano", batch_size="2", device="cpu")
    results = model.generate_until(instances(model, documents))
    alone = load("nano", device="cpu")
    settings = SamplingSettings(max_new_tokens=5)
    expected = [alone.ask(d["images"][0], d["question"], settings=settings) for d in documents]
    assert [result.text for result in results] == [answer.text.strip() for answer in expected]
    assert [r.token_counts.input_tokens for r in results] == [a.receipt.prompt_tokens for a in expected]


def test_all_images_or_the_first_as_asked(harness):
    pair = [made_image("wave", 224, 224, 1), made_image("wave", 448, 224, 2)]
    tokens = {}
    for images in ("first", "all"):
        model = harness.XverseV(images=images, device="cpu")
        (result,) = model.generate_until(instances(model, [{"images": pair, "question": "?"}]))
        tokens[images] = result.token_counts.input_tokens
    assert tokens["all"] > tokens["first"]


def test_an_answer_longer_than_the_context_is_cut_to_what_fits_and_a_prompt_is_not(harness):
    model = harness.XverseV(device="cpu")
    (result,) = model.generate_until(
        instances(model, [{"images": [], "question": "Hello?"}], {**GREEDY, "max_new_tokens": 10**6, "until": None})
    )
    assert result.token_counts.output_tokens > 0
    with pytest.raises(RuntimeError, match=r"task, test document 0: E120"):
        model.generate_until(instances(model, [{"images": [], "question": "word " * 9000}]))


def test_settings_become_ours_or_are_refused(harness):
    read = harness.settings_of
    assert read(GREEDY) == SamplingSettings(max_new_tokens=5)
    sampled = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_gen_toks": 3}
    assert read(sampled) == SamplingSettings(max_new_tokens=3, temperature=0.7, top_p=0.9)
    assert read({"temperature": 0.7, "do_sample": False}).greedy
    for bad in ({"num_beams": 4}, {"speed": 2}):
        with pytest.raises(XverseError, match="E774"):
            read(bad)


def test_what_it_cannot_do_is_said(harness):
    model = harness.XverseV(device="cpu", system_prompt="Be brief.")
    for method in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError):
            method([])
    turns = [{"role": "assistant", "content": "no"}]
    clip = [{"role": "user", "content": [{"type": "video", "url": "v"}]}]
    for messages, said in ((turns, "assistant"), (clip, "video")):
        with pytest.raises(XverseError, match=said):
            model._request(messages, SamplingSettings())
    assert model._request([{"role": "system", "content": "Short."}], SamplingSettings()).system == "Be brief.\nShort."
    with pytest.raises(XverseError, match="speed"):
        harness.XverseV(speed=3)


def test_without_the_harness_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(XverseError, match=r"E779.*lmms-eval"):
        plugin.manifest()
