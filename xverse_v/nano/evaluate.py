"""How good the built-in model is: greedy answers through the product's own processor and network, on unseen seeds.

What crosses: a model folder -> a table of groups with counts, shares and 95 % Wilson intervals. A question
counts as right only if the whole answer equals the truth. This file knows nothing of how the model was trained.

    python -m xverse_v.nano.evaluate FOLDER [--scenes 100] [--start 0] [--out scores.json]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from xverse_v.model import XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.nano import phrases
from xverse_v.nano.questions import make_questions
from xverse_v.nano.world import draw, make_scene, split_seed
from xverse_v.weights.load import load_model

log = logging.getLogger(__name__)
# Views -> canvases and the share of the scenes that is asked about on them.
GROUPS: dict[str, tuple[tuple[tuple[int, int], ...], float]] = {
    "1 view": (((224, 224), (224, 224), (300, 200)), 1.0),
    "5 views": (((448, 448), (500, 500)), 0.4),
    "7 views": (((672, 448), (448, 672), (640, 480)), 0.45),
    "10 views": (((1200, 900),), 0.15),
}


@dataclass(frozen=True)
class Item:
    """One question to the model: the turns before it (question, answer), the question, the truth, and its groups."""

    image: Image.Image | None
    history: tuple[tuple[str, str], ...]
    question: str
    truth: str
    groups: tuple[str, ...]


def messages(item: Item) -> list[dict[str, Any]]:
    """The chat that the product would send; the image stands in front of the first question."""
    turns: list[dict[str, Any]] = []
    for question, answer in (*item.history, (item.question, "")):
        turns.append({"role": "user", "content": [{"type": "text", "text": question}]})
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    if item.image is not None:
        turns[0]["content"].insert(0, {"type": "image"})
    return turns[:-1]


@torch.no_grad()
def answers(
    model: XverseVForConditionalGeneration, processor: XverseVProcessor, items: Sequence[Item], limit: int = 96
) -> list[str]:
    """Greedy answers, batched with padding on the left."""
    tokenizer: PreTrainedTokenizerFast = processor.tokenizer
    tokenizer.padding_side = "left"
    prompts = [processor.apply_chat_template(messages(item), add_generation_prompt=True) for item in items]
    images = [item.image for item in items if item.image is not None]
    inputs = processor(text=prompts, images=images or None, padding=True, return_tensors="pt")
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    if images:
        # Questions about one image are batched together: its views pass the tower once.
        tokens = {id(image): _image_tokens(model, processor, image) for image in images}
        mask = (inputs["input_ids"] == model.config.image_token_id)[..., None]
        embeds = embeds.masked_scatter(mask, torch.cat([tokens[id(image)] for image in images]))
    written = model.generate(
        inputs_embeds=embeds,
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=limit,
    )
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]


def _image_tokens(
    model: XverseVForConditionalGeneration, processor: XverseVProcessor, image: Image.Image
) -> torch.Tensor:
    """float[views * 64, D]."""
    pixels = processor.image_processor.preprocess([image], return_tensors="pt")["pixel_values"]
    seen = model.get_image_features(pixels)
    assert not isinstance(seen, tuple)
    return seen.pooler_output.flatten(0, 1)


def scene_items(scenes: int, questions: int = 6, start: int = 0) -> Iterator[Item]:
    """The test split from scene `start`: first questions in all groups, and one follow-up a scene at one view."""
    index = start
    for group, (canvases, share) in GROUPS.items():
        for _ in range(max(1, round(scenes * share))):
            scene = make_scene(split_seed("test", index), canvases[index % len(canvases)])
            rng = random.Random(split_seed("test", index) + 1)
            image, made = draw(scene), make_questions(rng, scene, questions + 1)
            for qa in made[:questions]:
                language = "English" if qa.language == "en" else "Chinese"
                yield Item(image, (), qa.question, qa.answer, ("all", group, language, qa.kind))
            if group == "1 view" and len(made) > questions:
                yield Item(
                    image, ((made[0].question, made[0].answer),), made[-1].question, made[-1].answer, ("follow-up",)
                )
            index += 1


def talk_items() -> Iterator[Item]:
    """Every small-talk question; these were in the training data."""
    for questions, answer in phrases.SMALL_TALK:
        for question in questions:
            yield Item(None, (), question, answer, ("small talk (seen in training)",))


def wilson(right: int, asked: int) -> tuple[float, float]:
    """95 % Wilson interval of a share."""
    z, share = 1.96, right / asked
    middle = share + z * z / (2 * asked)
    reach = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return (middle - reach) / (1 + z * z / asked), (middle + reach) / (1 + z * z / asked)


def evaluate(folder: Path, scenes: int, batch: int = 24, start: int = 0) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Scores by group, and the wrong answers."""
    model, processor = load_model(folder), XverseVProcessor.from_pretrained(folder)
    items = [*scene_items(scenes, start=start), *talk_items()]
    items.sort(key=lambda item: (item.image.size if item.image else (0, 0), "describe" in item.groups))
    tally: dict[str, list[bool]] = {}
    wrong: list[dict[str, str]] = []
    at = 0
    while at < len(items):
        bare = items[at].image is None
        few = batch // 4 if not bare and (items[at].image or Image.new("RGB", (1, 1))).width > 400 else batch
        part = [item for item in items[at : at + few] if (item.image is None) == bare]
        at += len(part)
        for item, said in zip(part, answers(model, processor, part), strict=True):
            for group in item.groups:
                tally.setdefault(group, []).append(said == item.truth)
            if said != item.truth:
                wrong.append({"question": item.question, "truth": item.truth, "said": said, "group": str(item.groups)})
    order = ["all", *GROUPS, "English", "Chinese"]
    names = [name for name in order if name in tally] + sorted(set(tally) - set(order))
    return {name: _row(tally[name]) for name in names}, wrong


def _row(values: Sequence[bool]) -> dict[str, Any]:
    right, asked = sum(values), len(values)
    return {"right": right, "asked": asked, "share": right / asked, "interval": wilson(right, asked)}


def report(scores: Mapping[str, Any]) -> str:
    """The table for people."""
    rows = [f"{name:32s} {r['right']:5d} / {r['asked']:5d}  {100 * r['share']:5.1f} %" for name, r in scores.items()]
    return "\n".join(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Score a built-in model on unseen seeds.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=100, help="scenes at one view; the other groups follow")
    parser.add_argument("--start", type=int, default=0, help="first scene of the test split")
    parser.add_argument("--out", type=Path, help="write scores and wrong answers as JSON")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    scores, wrong = evaluate(given.folder, given.scenes, start=given.start)
    log.info("%s", report(scores))
    for one in wrong[:40]:
        log.info("wrong: %s", one)
    if given.out:
        given.out.write_text(json.dumps({"scores": scores, "wrong": wrong}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
