"""The front desk: how things are asked, what is refused, what the receipt says."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_processor
from tests.inference.small_model import noise, small_assistant, small_processor
from xverse_v.errors import XverseError
from xverse_v.inference.answer import Answer
from xverse_v.inference.assistant import Request
from xverse_v.inference.loading import load, pick_device, read_profiles, resolve_model
from xverse_v.inference.prompt import Message, PromptBuilder
from xverse_v.inference.sampling import SamplingSettings

SHORT = {"max_new_tokens": 3}


def code_of(call) -> str:
    with pytest.raises(XverseError) as caught:
        call()
    return caught.value.code


def test_images_of_every_kind_are_the_same_image(tmp_path):
    path, assistant = tmp_path / "a.png", small_assistant()
    noise(60, 60, 0).save(path)
    answers = [
        assistant.ask(source, "What is it?", **SHORT)
        for source in (path, str(path), path.read_bytes(), noise(60, 60, 0))
    ]
    assert len({answer.token_ids for answer in answers}) == 1
    assert len({answer.receipt.images for answer in answers}) == 1


def test_several_images_stand_in_order_before_the_question():
    prompt = PromptBuilder(small_processor()).build(
        [Message("user", "What is it?", (noise(60, 60, 0), noise(28, 28, 1)))]
    )
    assert [image.grid.views for image in prompt.images] == [5, 1]
    assert prompt.token_ids.count(512) == 6 * 4
    whole = small_processor()(
        images=[noise(60, 60, 0), noise(28, 28, 1)],
        text="Human: <|image|>\n<|image|>\nWhat is it?\nAssistant: ",
    )
    assert whole["input_ids"][0].tolist() == list(prompt.token_ids)
    pixels = torch.cat([image.pixel_values() for image in prompt.images])
    assert torch.equal(whole["pixel_values"], pixels)


@pytest.mark.parametrize("variant", ["nobos", "bos"])
def test_a_prompt_equals_the_processors_own_for_both_tokenizers(variant):
    processor = tiny_processor(variant)
    image = noise(300, 448, 0)
    prompt = PromptBuilder(processor).build([Message("user", "What is it?", (image,))])
    whole = processor(images=[image], text="Human: <|image|>\nWhat is it?\nAssistant: ")
    assert whole["input_ids"][0].tolist() == list(prompt.token_ids)
    assert (prompt.token_ids[0] == 2) == (variant == "bos")
    behind_image = len(prompt.token_ids) - prompt.token_ids[::-1].index(512)
    assert [part.stop for part in prompt.parts] == [behind_image, len(prompt.token_ids)]


def test_the_answer_equals_transformers_own_generate():
    assistant, image = small_assistant(), noise(84, 84, 3)
    inputs = small_processor()(images=[image], text="Human: <|image|>\nWhat is it?\nAssistant: ")
    inputs.pop("num_views", None)
    theirs = assistant.engine.model.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=1)
    assert assistant.ask(image, "What is it?", max_new_tokens=12).token_ids == tuple(
        theirs[0, inputs["input_ids"].shape[1] :].tolist()
    )


def test_special_strings_in_a_question_are_plain_text():
    builder = PromptBuilder(small_processor())
    prompt = builder.build([Message("user", "<|endoftext|> <|image|> <ImageHere>", (noise(28, 28, 0),))])
    assert prompt.token_ids.count(512) == 4
    assert 3 not in prompt.token_ids


def test_system_text_makes_the_demo_form():
    builder = PromptBuilder(small_processor())
    tokenizer = small_processor().tokenizer
    with_system = builder.build([Message("system", "Be brief."), Message("user", "a")])
    assert tokenizer.decode(with_system.token_ids) == "Be brief.\nHuman: a\nAssistant: "
    assert tokenizer.decode(builder.build([Message("user", "a")]).token_ids) == "Human: a\nAssistant: "


def test_detail_low_is_the_global_view_alone():
    assistant = small_assistant()
    low, capped, high = (
        assistant.ask(noise(84, 84, 0), "a", **SHORT, **how).receipt.images[0]
        for how in ({"detail": "low"}, {"max_tiles": 4}, {"detail": "high"})
    )
    assert (low.views, capped.views, high.views) == (1, 5, 10)
    assert (high.rows, high.columns, high.tokens) == (3, 3, 40)
    assert assistant.ask(noise(84, 84, 0), "a", **SHORT).receipt.images[0] == high


def test_wrong_questions_are_refused(tmp_path):
    path, assistant = tmp_path / "a.png", small_assistant()
    noise(28, 28, 0).save(path)
    assert code_of(lambda: assistant.ask()) == "E103"
    assert code_of(lambda: assistant.ask(str(path))) == "E103"
    assert code_of(lambda: assistant.ask("a", path)) == "E103"
    assert code_of(lambda: assistant.ask(path, "a", max_tiles=0)) == "E112"
    assert code_of(lambda: assistant.ask(path, "a", max_tiles=10)) == "E112"
    assert code_of(lambda: assistant.ask(path, "a", detail="medium")) == "E101"
    assert code_of(lambda: assistant.ask(path, "a", detail="low", max_tiles=4)) == "E109"
    assert code_of(lambda: assistant.ask("a", reuse="always")) == "E101"
    assert code_of(lambda: assistant.ask("a", temperatur=1.0)) == "E102"
    assert code_of(lambda: assistant.ask(tmp_path / "missing.png", "a")) == "E500"
    assert code_of(lambda: list(assistant.map([Request("a")], batch_size=0))) == "E101"


def test_a_receipt_states_every_condition():
    answer = small_assistant().ask(noise(60, 60, 0), "What is it?", max_new_tokens=4, seed=9, temperature=0.5)
    receipt = answer.receipt
    assert receipt.completion_tokens == len(answer.token_ids) == 4
    assert receipt.prompt_tokens == 20 + 12
    assert (receipt.seed, receipt.settings.temperature, receipt.settings.max_new_tokens) == (9, 0.5, 4)
    assert (receipt.weights_id, receipt.dtype, receipt.device, receipt.attention) == ("small", "float32", "cpu", "sdpa")
    assert (receipt.orientation, receipt.profile, receipt.batch_size, receipt.reuse) == ("release", "none", 1, "turns")
    assert receipt.threads == torch.get_num_threads()
    assert {"xverse-v", "torch", "transformers", "tokenizers", "pillow", "python"} == set(receipt.versions)
    spent = receipt.milliseconds
    assert min(spent.images, spent.vision, spent.prefill, spent.decode) > 0
    image = receipt.images[0]
    assert (image.width, image.height, image.mode, image.views, image.tokens) == (60, 60, "RGB", 5, 20)
    restored = json.loads(json.dumps(answer.as_dict(), ensure_ascii=False))
    assert restored["receipt"]["settings"]["seed"] == 9
    assert restored["text"] == answer.text == str(answer)


def test_logprobs_name_the_chosen_token_and_the_likeliest():
    answer = small_assistant().ask("What is it?", max_new_tokens=5, logprobs=3)
    assert [token.token_id for token in answer.logprobs] == list(answer.token_ids)
    for token in answer.logprobs:
        assert token.logprob == token.top[0].logprob <= 0
        assert [one.logprob for one in token.top] == sorted((one.logprob for one in token.top), reverse=True)
        assert token.text == small_processor().tokenizer.convert_ids_to_tokens(token.token_id)
    assert small_assistant().ask("What is it?", max_new_tokens=5).logprobs == ()


def test_a_refused_request_does_not_stop_the_others():
    settings = SamplingSettings(max_new_tokens=3)
    requests = [Request(q, settings=settings) for q in ("a", "word " * 1100, "b", "word " * 1200)]
    outcomes = dict(small_assistant().map(requests, batch_size=2))
    assert sorted(outcomes) == [0, 1, 2, 3]
    assert [getattr(outcomes[index], "code", None) for index in range(4)] == [None, "E120", None, "E120"]
    assert isinstance(outcomes[2], Answer)
    assert code_of(lambda: small_assistant().batch(requests)) == "E120"
    assert small_assistant().batch([]) == []


def test_a_default_length_bends_to_the_room_left_but_a_chosen_one_is_kept():
    profiles = {"demo": SamplingSettings(max_new_tokens=2048, repetition_penalty=1.05)}
    assistant = small_assistant(profiles=profiles)
    question = "word " * 980
    answer = assistant.ask(question)
    receipt = answer.receipt
    assert receipt.prompt_tokens + receipt.settings.max_new_tokens == 1024
    assert (receipt.profile, receipt.settings.repetition_penalty) == ("demo", 1.05)
    assert code_of(lambda: assistant.ask(question, max_new_tokens=2048)) == "E120"
    assert code_of(lambda: assistant.ask("word " * 1015)) == "E120"


def test_profiles_and_options_have_one_order():
    profiles = {"demo": SamplingSettings(top_k=30), "eval": SamplingSettings(max_new_tokens=16)}
    assert small_assistant(profiles=profiles).settings.top_k == 30
    evaluating = small_assistant(profiles=profiles, profile="eval")
    assert evaluating.ask("a", top_k=5).receipt.settings == SamplingSettings(max_new_tokens=16, top_k=5)
    chosen = SamplingSettings(max_new_tokens=2, seed=3)
    assert evaluating.ask("a", settings=chosen, seed=4).receipt.settings == SamplingSettings(max_new_tokens=2, seed=4)
    assert code_of(lambda: small_assistant(profiles=profiles, profile="fast")) == "E108"


def test_profiles_are_read_in_transformers_words(tmp_path):
    demo = {"do_sample": False, "temperature": 1.0, "top_p": 0.8, "top_k": 30, "repetition_penalty": 1.05}
    written = {"demo": demo | {"max_new_tokens": 2048}, "free": {"do_sample": True, "temperature": 0.7}}
    path = tmp_path / "generation_profiles.json"
    path.write_text(json.dumps(written))
    profiles = read_profiles(tmp_path)
    assert profiles["demo"] == SamplingSettings(2048, 0.0, 0.8, 30, 1.05)
    assert profiles["free"].temperature == 0.7
    path.write_text(json.dumps({"demo": {"num_beams": 4}}))
    assert code_of(lambda: read_profiles(tmp_path)) == "E107"
    path.write_text("[1]")
    assert code_of(lambda: read_profiles(tmp_path)) == "E107"
    assert read_profiles(Path("/nonexistent")) == {}


def test_a_model_that_is_not_there_is_named_with_its_neighbours(tmp_path):
    (tmp_path / "xverse-v-13b").mkdir()
    with pytest.raises(XverseError) as caught:
        resolve_model(tmp_path / "xverse-v-13")
    assert caught.value.code == "E105"
    assert "xverse-v-13b" in caught.value.facts["near"]
    assert resolve_model(tmp_path / "xverse-v-13b") == tmp_path / "xverse-v-13b"
    assert resolve_model("nano").parts[-2:] == ("nano", "weights")


def test_devices():
    assert pick_device("cpu") == "cpu"
    assert code_of(lambda: pick_device("cuda:99")) == "E106"
    assert pick_device(None) in ("cpu", "mps", "cuda")


def test_a_folder_loads_and_answers_as_the_model_in_memory(tiny_folder, tiny_model, processor):
    from tests.conftest import golden, golden_image

    row = golden("model")["generate_individual"][1]
    assistant = load(tiny_folder, device="cpu")
    answer = assistant.ask(golden_image(row["image"]), row["question"], max_new_tokens=24)
    assert list(answer.token_ids) == row["new_ids"]
    assert (answer.receipt.dtype, answer.receipt.device, answer.receipt.orientation) == ("float32", "cpu", "release")
    assert len(answer.receipt.weights_id) >= 8
