"""The network against the recorded numbers, against a stock architecture, and in the ways it is used."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, CLIPVisionConfig, InternVLConfig
from transformers import InternVLForConditionalGeneration as InternVL

from tests.conftest import GOLDEN, golden, golden_image, tiny_config, tiny_processor, tiny_state
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration

MODEL = golden("model")
ARRAYS = np.load(GOLDEN / "model.npz")
CLOSE = {"rtol": 0, "atol": 1e-5}


def assert_same_logits(ours: torch.Tensor, recorded: np.ndarray) -> None:
    """Equal to 1e-5 of the largest logit (about 10).

    Not to 1e-5 absolutely: in float64 this graph lies 1.9e-5 from the recording, which is float32 rounding of the
    recording itself, and the rounding differs between processors.
    """
    np.testing.assert_allclose(ours.numpy(), recorded, rtol=0, atol=1e-5 * np.abs(recorded).max())


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def inputs_for(processor, question, image):
    return processor(images=golden_image(image), text=f"Human: <|image|>\n{question}\nAssistant: ")


@pytest.mark.parametrize("name", ["A", "B"])
def test_vision_and_projector_equal_the_recordings(name, tiny_model, processor):
    pixel_values = processor.image_processor(golden_image(name), return_tensors="pt")["pixel_values"]
    features = tiny_model.get_image_features(pixel_values)
    np.testing.assert_allclose(features.pooler_output.numpy(), ARRAYS[f"encode_img/{name}"], **CLOSE)
    if name == "A":
        patches = features.last_hidden_state[:, 1:]
        np.testing.assert_allclose(patches.numpy(), ARRAYS["visual_encoder/A"], **CLOSE)
        normed = tiny_model.model.multi_modal_projector.layer_norm(patches)
        np.testing.assert_allclose(normed.numpy(), ARRAYS["ln_vision/A"], **CLOSE)


def test_all_logits_equal_the_recordings(tiny_model, processor):
    case = MODEL["context"][0]
    logits = tiny_model(**inputs_for(processor, case["question"], case["image"])).logits[0]
    assert_same_logits(logits[:, :512], ARRAYS["logits_all/0"])


def test_in_float64_the_logits_equal_the_recording_up_to_its_own_rounding(processor):
    model = XverseVForConditionalGeneration(tiny_config())
    model.load_state_dict(tiny_state())
    inputs = inputs_for(processor, MODEL["context"][0]["question"], "A")
    logits = model.double().eval()(**inputs).logits[0, :, :512]
    np.testing.assert_allclose(logits.numpy(), ARRAYS["logits_all/0"], rtol=0, atol=2.5e-5)


@pytest.mark.parametrize("row", range(3))
def test_first_logits_and_greedy_ids_equal_the_recordings(row, tiny_model, processor):
    case = MODEL["generate_individual"][row]
    inputs = inputs_for(processor, case["question"], case["image"])
    logits = tiny_model(**inputs, logits_to_keep=1).logits[0, -1, :512]
    assert_same_logits(logits, ARRAYS["first_logits"][row])
    ids = tiny_model.generate(**inputs, max_new_tokens=24, do_sample=False, eos_token_id=3, pad_token_id=1)
    assert ids[0, inputs["input_ids"].shape[1] :].tolist() == case["new_ids"]


def test_greedy_ids_in_a_batch_equal_the_recordings(tiny_model, processor):
    cases = MODEL["generate_individual"]
    texts = [f"Human: <|image|>\n{case['question']}\nAssistant: " for case in cases]
    inputs = processor(images=[golden_image(case["image"]) for case in cases], text=texts, padding=True)
    ids = tiny_model.generate(**inputs, max_new_tokens=24, do_sample=False, eos_token_id=3, pad_token_id=1)
    for row, case in zip(ids[:, inputs["input_ids"].shape[1] :].tolist(), cases, strict=True):
        assert row[: len(case["new_ids"])] == case["new_ids"]


@pytest.mark.parametrize("name", [name for name in golden("loss") if name.startswith("branch2") and "pair" not in name])
def test_losses_of_pretokenised_samples_equal_the_recordings(name, tiny_model, processor):
    case = golden("loss")[name]
    views = MODEL["images"][case["image"]]["tiles"]
    ids, labels = [], []
    for token, label in zip(case["input_ids"], case["labels"], strict=True):
        count = 256 * views if token == 5 else 1  # the release marks the image with id 5
        ids += [processor.image_token_id if token == 5 else token] * count
        labels += [label] * count
    pixel_values = processor.image_processor(golden_image(case["image"]), return_tensors="pt")["pixel_values"]
    loss = tiny_model(input_ids=torch.tensor([ids]), pixel_values=pixel_values, labels=torch.tensor([labels])).loss
    assert loss.item() == pytest.approx(case["loss"], abs=1e-5)


@pytest.mark.parametrize("name", [name for name in golden("loss") if name.startswith("branch1")])
def test_losses_of_text_samples_equal_the_recordings(name, tiny_model):
    case = golden("loss")[name]
    prompt, target = case["instruction_input"][0].replace("<ImageHere>", "<|image|>"), case["target_ids"][0]
    ids = tiny_processor("bos")(images=golden_image("A"), text=prompt)
    full = torch.cat([ids["input_ids"], torch.tensor([target])], dim=1)
    labels = torch.full_like(full, -100)
    labels[0, -len(target) :] = torch.tensor(target)
    loss = tiny_model(input_ids=full, pixel_values=ids["pixel_values"], labels=labels).loss
    assert loss.item() == pytest.approx(case["loss"], abs=1e-5)


def test_stock_internvl_with_the_same_weights_gives_the_same_logits(tiny_model, processor):
    config = tiny_config()
    vision = config.vision_config.to_dict() | {"num_hidden_layers": 4}
    stock_config = InternVLConfig(
        text_config=config.text_config.to_dict(),
        image_token_id=config.image_token_id,
        downsample_ratio=1.0,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )
    stock_config.vision_config = CLIPVisionConfig(**vision)
    stock = InternVL(stock_config).eval()
    left = stock.load_state_dict(tiny_state(), strict=False)
    assert not left.unexpected_keys
    assert all("layers.3." in key or "post_layernorm" in key for key in left.missing_keys)
    inputs = inputs_for(processor, "What is in the picture?", "B")
    ours, theirs = tiny_model(**inputs).logits, stock(**inputs).logits
    assert torch.equal(ours[..., : config.image_token_id], theirs[..., : config.image_token_id])


def test_the_placeholder_is_never_generated(tiny_model, processor):
    logits = tiny_model(**inputs_for(processor, "?", "A")).logits
    assert (logits[..., processor.image_token_id] == torch.finfo(logits.dtype).min).all()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_placeholder_count_that_does_not_match_raises(change, tiny_model, processor):
    inputs = inputs_for(processor, "?", "A")
    ids = inputs["input_ids"]
    token = torch.full((1, 1), processor.image_token_id)
    inputs["input_ids"] = torch.cat([ids, token], 1) if change == 1 else torch.cat([ids[:, :2], ids[:, 3:]], 1)
    del inputs["attention_mask"]
    with pytest.raises(ValueError, match=f"{256 + change} placeholder tokens .* 256 image tokens"):
        tiny_model(**inputs)


def test_text_alone_and_embeddings_instead_of_ids(tiny_model, processor):
    ids = processor(text="Human: hello\nAssistant: ")["input_ids"]
    from_ids = tiny_model(input_ids=ids).logits
    embeddings = tiny_model.get_input_embeddings()(ids)
    assert torch.equal(tiny_model(inputs_embeds=embeddings).logits, from_ids)
    with pytest.raises(ValueError, match="exactly one"):
        tiny_model(input_ids=ids, inputs_embeds=embeddings)


def test_embeddings_with_images_find_their_places(tiny_model, processor):
    inputs = inputs_for(processor, "What?", "A")
    expected = tiny_model(**inputs).logits
    embeddings = tiny_model.get_input_embeddings()(inputs["input_ids"])
    # The placeholder's row is zero here, so give it a value no other row has.
    row = tiny_model.get_input_embeddings().weight[processor.image_token_id]
    assert (embeddings[inputs["input_ids"] == processor.image_token_id] == row).all()
    out = tiny_model(inputs_embeds=embeddings, pixel_values=inputs["pixel_values"]).logits
    assert torch.equal(out, expected)


def test_eager_and_sdpa_agree(tiny_model, processor):
    inputs = inputs_for(processor, "What?", "B")
    eager = XverseVForConditionalGeneration._from_config(tiny_config(), attn_implementation="eager")
    eager.load_state_dict(tiny_state())
    assert (eager.config._attn_implementation, tiny_model.config._attn_implementation) == ("eager", "sdpa")
    assert_same_logits(eager.eval()(**inputs).logits[..., :512], tiny_model(**inputs).logits[..., :512].numpy())


def test_gradient_checkpointing_keeps_every_gradient(processor):
    def gradients(checkpointing):
        model = XverseVForConditionalGeneration(tiny_config())
        model.load_state_dict(tiny_state())
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        inputs = inputs_for(processor, "What?", "A")
        with torch.enable_grad():
            model(**inputs, labels=inputs["input_ids"]).loss.backward()
        return {name: p.grad for name, p in model.named_parameters()}

    plain, checkpointed = gradients(False), gradients(True)
    assert all(grad is not None for grad in plain.values())
    for name, grad in plain.items():
        torch.testing.assert_close(checkpointed[name], grad, rtol=0, atol=1e-6, msg=name)


def test_auto_classes_round_trip(tmp_path, tiny_folder, tiny_model, processor):
    config = AutoConfig.from_pretrained(tiny_folder)
    assert isinstance(config, XverseVConfig) and config.patches_per_view == 256
    model = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    inputs = inputs_for(processor, "What?", "A")
    assert torch.equal(again(**inputs).logits, tiny_model(**inputs).logits)
    assert not any("post_layernorm" in key for key in again.state_dict())


def test_a_placeholder_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="513"):
        XverseVConfig(text_config={"vocab_size": 513}, image_token_id=513)
    with pytest.raises(ValueError, match="model_type 'qwen2'"):
        XverseVConfig(text_config={"model_type": "qwen2"})


@pytest.mark.slow
def test_compiles_as_one_graph(tiny_model, processor):
    inputs = inputs_for(processor, "What?", "A")
    compiled = torch.compile(tiny_model.forward, fullgraph=True)
    torch.testing.assert_close(compiled(**inputs).logits, tiny_model(**inputs).logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_flex_attention_agrees(tiny_model, processor):
    flex = XverseVForConditionalGeneration._from_config(tiny_config(), attn_implementation="flex_attention")
    flex.load_state_dict(tiny_state())
    inputs = inputs_for(processor, "What?", "A")
    torch.testing.assert_close(flex.eval()(**inputs).logits, tiny_model(**inputs).logits, rtol=0, atol=1e-4)
