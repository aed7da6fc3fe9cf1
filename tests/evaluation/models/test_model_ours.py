"""Our own models: the prompt they get, the facts beside an answer, and no answer that depends on its neighbours."""

import io

import pytest
from PIL import Image

from tests.conftest import made_image
from xverse_v.evaluation.contract import ImageRef, Prompt
from xverse_v.evaluation.models.images import ImageRule
from xverse_v.evaluation.models.opening import ModelOptions, open_model
from xverse_v.evaluation.models.ours import XverseModel, folded_text
from xverse_v.evaluation.models.packing import pack, unpack
from xverse_v.inference.loading import load


def png(width, height, seed):
    packed = io.BytesIO()
    made_image("wave", width, height, seed).save(packed, "PNG")
    return packed.getvalue()


@pytest.fixture(scope="module")
def assistant():
    return load("nano", device="cpu")


@pytest.fixture(scope="module")
def prompts():
    images = [ImageRef(data=png(448, 224, 1)), ImageRef(data=png(224, 224, 2))]
    questions = ["What colour is it?", "How many?", "Is it red?"]
    return [
        (f"{place}-{number}", Prompt((image, question), max_new_tokens=6))
        for place, image in enumerate(images)
        for number, question in enumerate(questions)
    ]


def by_key(predictions):
    return {prediction.key: prediction for prediction in predictions}


def test_answers_and_facts_do_not_depend_on_batch_order_or_caches(assistant, prompts):
    together = by_key(XverseModel(assistant, "nano", ImageRule(), batch_size=4).answers(prompts))
    alone = by_key(
        XverseModel(load("nano", device="cpu", cache_bytes=0), "n", ImageRule(), batch_size=1).answers(prompts)
    )
    backwards = by_key(XverseModel(assistant, "nano", ImageRule(), batch_size=3).answers(prompts[::-1]))
    assert together == alone == backwards and len(together) == len(prompts)


def test_one_prefill_serves_all_questions_about_an_image(assistant, prompts):
    assistant.engine.prefix_cache.clear()
    model = XverseModel(assistant, "nano", ImageRule(), batch_size=2)
    for _ in model.answers(prompts[:3]):
        pass
    views = 3 * assistant.prompts.processor.patches_per_view
    assert model.usage["cached_tokens"] >= 2 * views  # two of three questions
    assert model.usage["prompt_tokens"] > model.usage["cached_tokens"]


def test_facts_say_what_the_model_saw(assistant, prompts):
    prediction = next(XverseModel(assistant, "nano", ImageRule()).answers(prompts[:1]))
    facts = prediction.facts
    ids = unpack(facts["prompt_token_ids"])
    assert len(ids) == facts["prompt_tokens"] and len(facts["prompt_token_ids"]) < 100
    assert [image["views"] for image in facts["images"]] == [3] and facts["images"][0][
        "tokens"
    ] == 3 * assistant.prompts.processor.patches_per_view
    assert facts["max_new_tokens"] == 6 and len(facts["token_ids"]) == facts["completion_tokens"]
    assert prediction.finish_reason in ("stop", "length")


def test_a_row_that_cannot_be_asked_says_why_and_the_others_are_answered(assistant, prompts):
    broken = [("cut", Prompt((ImageRef(data=png(50, 50, 3)[:80]), "What?"), max_new_tokens=4))]
    long = [("long", Prompt(("word " * 9000,), max_new_tokens=4))]
    found = by_key(XverseModel(assistant, "nano", ImageRule()).answers([*broken, prompts[0], *long]))
    assert found["cut"].finish_reason == found["long"].finish_reason == "error"
    assert found["cut"].facts["error"]["code"] == "E517" and found["long"].facts["error"]["code"] == "E120"
    assert found["cut"].text == "" and found["0-0"].finish_reason != "error"


def test_the_model_sees_the_first_image_that_is_named_and_says_so(assistant, caplog):
    one, two = ImageRef(data=png(224, 224, 4)), ImageRef(data=png(448, 224, 5))
    several = Prompt(("Compare ", two, " with ", one, "?"), max_new_tokens=3)
    model = XverseModel(assistant, "nano", ImageRule())
    (first,) = model.answers([("k", several)])
    assert first.facts["images_unused"] == 1 and [image["views"] for image in first.facts["images"]] == [3]
    assert "first" in caplog.text
    (both,) = XverseModel(assistant, "nano", ImageRule(), images="all").answers([("k", several)])
    assert "images_unused" not in both.facts and [image["views"] for image in both.facts["images"]] == [3, 1]


def test_texts_are_folded_as_the_harness_folds_them_for_this_model():
    one = ImageRef(data=b"1")
    several = Prompt(("x ", one, " y ", one, " z"))
    assert folded_text(several, marks=False) == "x \n y \n z"
    assert folded_text(several, marks=True) == "x \n<image>\n y \n<image>\n z"
    assert folded_text(Prompt((one, "q. \n")), marks=True) == "q. \n"


def test_the_profile_of_2024_recompresses_images_of_data_files_only(tmp_path):
    data = png(64, 64, 6)
    (tmp_path / "a.png").write_bytes(data)
    exact = Image.open(io.BytesIO(data)).convert("RGB").tobytes()
    rule = ImageRule(root=tmp_path, reencode="jpeg75")
    assert rule.open(ImageRef(data=data)).format == "JPEG" and rule.open(ImageRef(data=data)).tobytes() != exact
    assert rule.open(ImageRef(path=tmp_path / "a.png")).tobytes() == exact
    assert rule.open(ImageRef(data=data), alone=False).tobytes() == exact
    for profile, expected in (("vlmevalkit", "none"), ("vlmevalkit-2024-04", "jpeg75"), ("official", "none")):
        model = open_model("nano", ModelOptions(device="cpu"), profile=profile)
        assert model.facts["reencode"] == expected and model.facts["image_marks"] == (expected == "jpeg75")


def test_files_are_read_below_the_image_root_only(tmp_path, assistant):
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(png(64, 64, 7))
    model = XverseModel(assistant, "nano", ImageRule(root=root))
    names = [tmp_path / "secret.png", root / ".." / "secret.png", root / "none.png"]
    found = list(model.answers((str(n), Prompt((ImageRef(path=n), "?"), max_new_tokens=2)) for n in names))
    assert [prediction.facts["error"]["code"] for prediction in found] == ["E505", "E505", "E500"]


def test_packed_ids_come_back_exactly():
    for ids in ([], [1, 2, 3], [9] * 4, [1, 9, 9, 9, 2], [0] * 700 + [1] * 3 + [0] * 5):
        assert unpack(pack(ids)) == ids
    assert pack([1, *[9] * 512, 2]) == [1, [9, 512], 2]
