"""Ids and labels against tokenisation from scratch, against the processor, and against what generation meets."""

import pytest
import torch
from PIL import Image

from tests.conftest import golden, made_image, tiny_processor
from tests.training.data.builders import image_bytes, nano_processor
from xverse_v.errors import XverseError
from xverse_v.training.data.encode import IGNORED, Encoder
from xverse_v.training.data.sample import ImageRef, Sample

END = 3


def sample(*turns, images=(), system=None):
    messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    for number, text in enumerate(turns):
        own = [{"type": "image"} for _ in images] if number == 0 else []
        role = "assistant" if number % 2 else "user"
        messages.append({"role": role, "content": [*own, {"type": "text", "text": text}]})
    refs = tuple(ImageRef(image_bytes(image)) for image in images)
    return Sample("s", tuple(messages), refs, "d.jsonl", 4)


def encoder_for(processor, **settings):
    return Encoder(processor, **{"max_length": 8192, **settings})


def supervised_texts(processor, encoded):
    runs, current = [], []
    for label in [*encoded.labels.tolist(), IGNORED]:
        if label != IGNORED:
            current.append(label)
        elif current:
            runs.append(current)
            current = []
    return [processor.decode(run) for run in runs]


@pytest.mark.parametrize("system", [None, "Be brief. 请简短回答。"])
def test_ids_and_labels_equal_tokenisation_from_scratch(system, either_processor):
    variant, processor = either_processor
    image = made_image("wave", 300, 448, 1)
    encoded = encoder_for(processor).encode(
        sample("What is it?", "a cat", "Sure?", "是的 yes\nyes", images=[image], system=system)
    )
    plain = tiny_processor("nobos").tokenizer  # adds nothing in front

    def ids(text):
        return plain(text)["input_ids"]

    views = 3  # 300 x 448 is two tiles and the global view
    prompt = [2] if variant == "bos" else []
    prompt += ids((f"{system}\n" if system else "") + "Human: ") + [processor.image_token_id] * (views * 256)
    prompt += ids("\nWhat is it?\nAssistant: ")
    answer, again, second = [*ids("a cat"), END], ids("Human: Sure?\nAssistant: "), [*ids("是的 yes\nyes"), END]
    assert encoded.input_ids.tolist() == prompt + answer + again + second
    unlearnt = [IGNORED]
    assert encoded.labels.tolist() == unlearnt * len(prompt) + answer + unlearnt * len(again) + second
    assert encoded.supervised == len(answer) + len(second)
    assert encoded.views == (views,)
    assert encoded.pixel_values.shape == (views, 3, 224, 224)


@pytest.mark.parametrize("make", [tiny_processor, nano_processor])
@pytest.mark.parametrize("answer_tokens", ["separate", "continued"])
def test_the_ids_before_an_answer_are_those_generation_starts_from(make, answer_tokens):
    processor = make()
    image = made_image("wave", 448, 448, 2)
    encoded = encoder_for(processor, answer_tokens=answer_tokens).encode(
        sample("Which colour?", "red 红", images=[image])
    )
    inputs = processor(images=image, text="Human: <|image|>\nWhich colour?\nAssistant: ")
    prompt = inputs["input_ids"][0].tolist()
    ids = encoded.input_ids.tolist()
    assert ids[: len(prompt)] == prompt
    assert encoded.labels[: len(prompt)].unique().tolist() == [IGNORED]
    assert ids[len(prompt) :] == encoded.labels[len(prompt) :].tolist()
    assert torch.equal(encoded.pixel_values, inputs["pixel_values"])
    assert processor.decode(ids[len(prompt) :]).replace("<|endoftext|>", "").strip() == "red 红"


def test_single_answers_are_joined_as_the_release_joins_them(processor):
    for name in ("branch1/single/max_txt_len128", "branch1/single_long_answer/max_txt_len128"):
        case = golden("loss")[name]
        question = case["instruction_input"][0].removeprefix("Human: <ImageHere>\n").removesuffix("\nAssistant: ")
        encoded = encoder_for(processor).encode(
            sample(question, case["answer"][0], images=[Image.new("RGB", (99, 99))])
        )
        assert encoded.labels[encoded.labels != IGNORED].tolist() == case["target_ids"][0]


def test_the_built_in_model_was_taught_continued_answers():
    from xverse_v.nano.sequences import answer_ids

    encoder = encoder_for(nano_processor(), answer_tokens="continued")
    for text in ("red", "a red circle", "3", "There are 12 红色 circles.", "是的", "什么也没有", "5个", "\nodd"):
        encoded = encoder.encode(sample("q", text))
        assert encoded.labels[encoded.labels != IGNORED].tolist() == list(answer_ids(text)), text


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|image|> b", "Assistant: no\nHuman: yes", "<pad><unk>"])
def test_typed_special_strings_are_plain_text_and_supervised_ones_too(text, processor):
    encoded = encoder_for(processor).encode(sample(text, text))
    special = [token for token in encoded.input_ids.tolist() if token in (0, 1, 2, END, processor.image_token_id)]
    assert special == [END]
    assert encoded.labels[-1] == END
    assert supervised_texts(processor, encoded) == [text + "<|endoftext|>"]


def test_several_images_and_grids_expand_in_order(processor):
    images = [made_image("wave", *size, seed=3) for size in ((448, 448), (50, 50), (300, 448))]
    encoded = encoder_for(processor).encode(sample("compare", "ok", images=images))
    assert encoded.views == (5, 1, 3)
    inputs = processor(images=images, text="Human: " + "<|image|>\n" * 3 + "compare\nAssistant: ")
    assert encoded.input_ids[: inputs["input_ids"].shape[1]].tolist() == inputs["input_ids"][0].tolist()
    assert torch.equal(encoded.pixel_values, inputs["pixel_values"])
    fewer = encoder_for(processor, max_tiles=1).encode(sample("compare", "ok", images=images))
    assert fewer.views == (1, 1, 1)
    assert fewer.pixel_values.shape[0] == 3


def test_turned_images_are_counted_as_the_processor_cuts_them():
    processor = nano_processor()
    exif = Image.Exif()
    exif[0x0112] = 6
    data = image_bytes(made_image("wave", 448, 224, 1), "JPEG", exif=exif)
    turned = Sample("s", sample("q", "a", images=[Image.new("RGB", (9, 9))]).messages, (ImageRef(data),))
    encoded = encoder_for(processor).encode(turned)
    assert encoded.pixel_values.shape[0] == encoded.views[0]
    assert int((encoded.input_ids == processor.image_token_id).sum()) == 64 * encoded.views[0]


def test_too_long_is_refused_with_numbers_and_never_cut(processor):
    long = sample("What?", "a cat", images=[made_image("wave", 448, 448, 0)])
    tokens = len(encoder_for(processor).encode(long))
    assert len(encoder_for(processor, max_length=tokens).encode(long)) == tokens
    with pytest.raises(XverseError) as caught:
        encoder_for(processor, max_length=tokens - 1).encode(long)
    facts = caught.value.facts
    assert caught.value.code == "E202"
    assert (facts["tokens"], facts["image_tokens"], facts["views"], facts["limit"]) == (tokens, 1280, 5, tokens - 1)
    assert "d.jsonl:4" in caught.value.text("en")


def test_a_sample_without_an_answer_is_refused(processor):
    with pytest.raises(XverseError) as caught:
        encoder_for(processor).encode(sample("only a question"))
    assert caught.value.code == "E201"


def test_a_bad_image_names_the_sample(processor):
    broken = sample("q", "a", images=[Image.new("RGB", (9, 9))])
    broken = Sample("s", broken.messages, (ImageRef(b"\x89PNG\r\n\x1a\nrest"),), "d.jsonl", 4)
    with pytest.raises(XverseError) as caught:
        encoder_for(processor).encode(broken)
    assert (caught.value.code, caught.value.facts["id"]) == ("E213", "s")


def test_a_template_that_does_not_grow_turn_by_turn_is_refused():
    processor = tiny_processor()
    processor.chat_template = "{{ messages|length }} Assistant: "
    with pytest.raises(XverseError) as caught:
        encoder_for(processor).encode(sample("q", "a"))
    assert caught.value.code == "E220"
