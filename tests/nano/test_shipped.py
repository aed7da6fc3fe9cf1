"""The shipped weights: an ordinary folder that answers unseen questions, and the example images are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xverse_v.model import XverseVProcessor
from xverse_v.nano.evaluate import Item, answers, scene_items
from xverse_v.nano.examples import EXAMPLES, questions_of
from xverse_v.nano.sequences import image_id, tokenizer
from xverse_v.nano.world import draw
from xverse_v.weights.load import load_model

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "xverse_v" / "nano" / "weights"
EXAMPLE_FOLDER = ROOT / "examples"
# Of 48 unseen questions at one view, and of the shipped examples; set below what was measured, see the model card.
WANTED_SHARE = 0.9


@pytest.fixture(scope="module")
def shipped():
    return load_model(WEIGHTS), XverseVProcessor.from_pretrained(WEIGHTS)


def example_rows() -> list[dict[str, str]]:
    lines = (EXAMPLE_FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_folder_is_small_complete_and_has_the_recipes_tokenizer(shipped):
    model, processor = shipped
    names = {file.name for file in WEIGHTS.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "manifest.json",
        "README.md",
    } <= names
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 20_000_000
    assert json.loads((WEIGHTS / "tokenizer.json").read_text(encoding="utf-8")) == json.loads(tokenizer().to_str())
    prompt = "Human: <|image|>\nWhat is it?\nAssistant: 红色<|endoftext|>Human: 有几个？\nAssistant: "
    assert processor.tokenizer(prompt)["input_ids"] == tokenizer().encode(prompt).ids
    assert model.config.image_token_id == processor.image_token_id == image_id()
    assert processor.image_processor.orientation == "upright" and processor.patches_per_view == 64


def test_it_answers_a_frozen_sample_of_unseen_questions(shipped):
    items = [item for item in scene_items(8) if "1 view" in item.groups][:48]
    said = answers(*shipped, items, limit=64)
    right = [one == item.truth for one, item in zip(said, items, strict=True)]
    assert len(right) == 48
    assert sum(right) / len(right) >= WANTED_SHARE, [
        (item.question, item.truth, one) for item, one in zip(items, said, strict=True) if one != item.truth
    ]


def test_the_example_images_are_drawn_from_their_seeds():
    rows = example_rows()
    assert {row["image"] for row in rows} == {f"images/{example.name}.png" for example in EXAMPLES}
    for example in EXAMPLES:
        scene = example.scene()
        drawn = np.asarray(draw(scene)).astype(int)
        stored = np.asarray(Image.open(EXAMPLE_FOLDER / "images" / f"{example.name}.png").convert("RGB")).astype(int)
        assert stored.shape == drawn.shape and np.abs(stored - drawn).max() <= 2
        written = [(r["question"], r["answer"]) for r in rows if r["image"] == f"images/{example.name}.png"]
        truth = [(qa.question, qa.answer) for qa in questions_of(scene, example.index)]
        assert written and set(written) <= set(truth)


def test_it_answers_the_questions_about_the_example_images(shipped):
    items = []
    for row in example_rows():
        image = Image.open(EXAMPLE_FOLDER / row["image"]).convert("RGB")
        items.append(Item(image, (), row["question"], row["answer"], ()))
    said = [one for item in items for one in answers(*shipped, [item], limit=64)]
    wrong = [(item.question, item.truth, one) for item, one in zip(items, said, strict=True) if one != item.truth]
    assert len(wrong) <= len(items) * (1 - WANTED_SHARE), wrong


def test_it_speaks_without_an_image(shipped):
    (said,) = answers(*shipped, [Item(None, (), "Who are you?", "", ())])
    assert "nano" in said
