"""A transformers folder that is not ours: a tiny random LLaVA made here, saved, and measured."""

import io
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from xverse_v.errors import XverseError
from xverse_v.evaluation.contract import ImageRef, Prompt
from xverse_v.evaluation.models import ModelOptions, open_model
from xverse_v.evaluation.models.packing import unpack

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "USER", "ASSISTANT", ":", "what", "colour", "is", "it", "?", "red"]
TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{{ 'USER : ' }}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}{{ '<image> ' }}{% else %}{{ p['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT :' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("other")
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=["<image>"], **special)
    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images,
        fast,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    vision = dict(
        model_type="clip_vision_model",
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    text = dict(
        model_type="llama",
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(WORDS),
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-2)
    torch.manual_seed(1)
    network = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.3)
    network.generation_config.repetition_penalty = 1.9
    network.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def image(seed):
    packed = io.BytesIO()
    pixels = torch.randint(0, 256, (30, 40, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(packed, "PNG")
    return ImageRef(data=packed.getvalue())


PROMPTS = [
    ("a", Prompt((image(1), "what colour is it ?"), max_new_tokens=8)),
    ("b", Prompt((image(2), "what is it ?"), max_new_tokens=8)),
    ("c", Prompt(("what is red ?",), max_new_tokens=8)),
    ("d", Prompt((image(3), "red ?"), max_new_tokens=5)),
]


def test_answers_equal_generating_by_hand_whatever_shares_a_batch(folder):
    network = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = LlavaProcessor.from_pretrained(folder)
    found = {}
    for batch_size in (1, 3):
        model = open_model(str(folder), ModelOptions(device="cpu", batch_size=batch_size))
        found[batch_size] = {p.key: p for p in model.answers(PROMPTS)}
        assert set(found[batch_size]) == {"a", "b", "c", "d"}
    for key, prompt in PROMPTS:
        pictures = [Image.open(io.BytesIO(p.data)) for p in prompt.parts if isinstance(p, ImageRef)]
        text = "<s>USER : " + "<image> " * len(pictures) + prompt.parts[-1] + " ASSISTANT :"
        inputs = processor(images=pictures or None, text=text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            made = network.generate(
                **inputs, max_new_tokens=prompt.max_new_tokens, do_sample=False, repetition_penalty=1.0
            )
        expected = made[0, inputs["input_ids"].shape[1] :].tolist()
        for batch_size in (1, 3):
            facts = found[batch_size][key].facts
            assert facts["token_ids"] == expected
            assert unpack(facts["prompt_token_ids"]) == inputs["input_ids"][0].tolist()


def test_facts_name_the_weights_and_follow_them_not_the_folder(folder, tmp_path):
    model = open_model(str(folder), ModelOptions(device="cpu"))
    assert model.facts["model_type"] == "llava" and model.facts["dtype"] == "float32"
    moved = tmp_path / "xverse_v-like-name"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert open_model(str(moved), ModelOptions(device="cpu")).facts["weights_id"] == model.facts["weights_id"]
    weights = load_file(moved / "model.safetensors")
    next(iter(weights.values())).add_(1)
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    assert open_model(str(moved), ModelOptions(device="cpu")).facts["weights_id"] != model.facts["weights_id"]


def test_too_long_a_prompt_is_that_rows_error(folder):
    prompts = [("long", Prompt((image(1), "red " * 70), max_new_tokens=8)), PROMPTS[0]]
    for batch_size in (1, 2):
        model = open_model(str(folder), ModelOptions(device="cpu", batch_size=batch_size))
        found = {p.key: p for p in model.answers(prompts)}
        assert found["long"].facts["error"]["code"] == "E773" and found["a"].finish_reason != "error"


def test_weights_with_a_hole_are_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    gone = sorted(weights)[0]
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(XverseError, match="E771") as caught:
        open_model(str(tmp_path), ModelOptions(device="cpu"))
    assert caught.value.facts["missing"] == 1


def test_a_processor_without_a_template_is_refused(folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(XverseError, match="E772"):
        open_model(str(tmp_path), ModelOptions(device="cpu"))


def test_pickled_weights_are_not_opened(folder, tmp_path):
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(XverseError, match="E770"):
        open_model(str(tmp_path), ModelOptions(device="cpu"))
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llava"
