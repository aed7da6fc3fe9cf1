"""Step two of the recipe: the decoder learns to answer before it has seen a pixel.

What crosses: `train_words(folder, steps)` -> a checkpoint in `folder`. An image is written out as 64 vectors:
at the nine anchor patches the sum of the concepts that hold there (shape, colour, row, column, cell), elsewhere
one vector for "no cell here". Most of those are left out at first (their positions stay), and come back during
the run. The table of concepts is later what the projector must write. This file refuses to know about pixels.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from xverse_v.nano import checkpoint, phrases
from xverse_v.nano.crew import Crew
from xverse_v.nano.decoder import WordDecoder, answer_loss, concept, right_answers
from xverse_v.nano.labels import ANCHOR_PATCHES, ANCHORS, PATCHES, SIDE
from xverse_v.nano.optimiser import Orthogonal, split_parameters
from xverse_v.nano.questions import KINDS, QA, make_question, make_questions
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.sequences import Batch, Row, collate, history_ids, image_id, join_rows, opening_ids
from xverse_v.nano.world import COLOURS, SHAPES, Scene, make_scene, split_seed

log = logging.getLogger(__name__)
ROWS_A_STEP = 12
QUESTIONS_A_SCENE = 6
# What is asked in training: more of what is learnt late than in the measured mix.
PRACTICE = KINDS | {
    "colour_of": 8,
    "shape_of": 6,
    "count_colour": 18,
    "count_shape": 20,
    "count_both": 7,
    "describe": 8,
}
SYSTEMS = (
    "You are a helpful assistant.",
    "Answer the question about the image.",
    "一位用户和AI助手之间的对话。",
)


@dataclass(frozen=True)
class WordImage:
    """The kept image tokens of a row: patch number in the whole image and the concepts that add up there."""

    patches: list[int]
    meanings: list[tuple[int, ...]]
    total: int


def scene_meanings(scene: Scene) -> dict[int, tuple[int, ...]]:
    """Patch of the global view -> concepts, for the nine anchor patches."""
    held = {(thing.row, thing.column): thing for thing in scene.things}
    meanings = {}
    for row, at_row in enumerate(ANCHORS):
        for column, at_column in enumerate(ANCHORS):
            place = (concept(f"row {row}"), concept(f"column {column}"), concept(f"cell {row} {column}"))
            thing = held.get((row, column))
            what: tuple[int, ...] = (concept("nothing here"),)
            if thing is not None:
                what = (concept(f"shape {thing.shape}"), concept(f"colour {thing.colour}"))
            meanings[at_row * SIDE + at_column] = what + place
    return meanings


def word_image(rng: random.Random, scene: Scene, keep: float) -> WordImage:
    """Writes a scene out in concepts. `keep`: share of the empty patches that stay in the row."""
    views = 1 if rng.random() < 0.7 else rng.choice((2, 3, 5, 5, 7, 7, 10))
    meanings = scene_meanings(scene)
    if views > 1:
        keep = min(keep, 0.1)
        # Sometimes a tile looks like a whole image: the decoder must go by the global view all the same.
        for _ in range(rng.randint(1, 4) if rng.random() < 0.5 else 0):
            patch = rng.randrange(1, views) * PATCHES + rng.choice(ANCHOR_PATCHES)
            meanings[patch] = (
                concept(f"shape {rng.choice(SHAPES)}"),
                concept(f"colour {rng.choice(COLOURS)}"),
                *scene_meanings(scene)[patch % PATCHES][-3:],
            )
    empty = (concept("no cell here"),)
    patches = [p for p in range(views * PATCHES) if p in meanings or rng.random() < keep]
    return WordImage(patches, [meanings.get(p, empty) for p in patches], views * PATCHES)


def hang_questions(rng: random.Random, row: Row, root: int, asked: list[QA]) -> None:
    """Hangs questions below the image: most as first questions, some after one or two earlier turns."""
    asked = list(asked)
    parent, before = root, "image"
    if rng.random() < 0.15:
        questions, answer = rng.choice(phrases.SMALL_TALK)
        row.ask(rng.choice(questions), answer, root, "image")
    while asked:
        later = len(asked) // 2 if rng.random() < 0.4 else 0
        for _ in range(len(asked) - later):
            qa = asked.pop()
            row.ask(qa.question, qa.answer, parent, before)
        if later:
            parent = row.add(history_ids(qa.question, qa.answer, before), parent)
            before = "turn"


def talk_row(rng: random.Random) -> Row:
    """A row of short conversations without an image."""
    row = Row()
    for _ in range(5):
        if rng.random() < 0.3:
            scene = make_scene(rng.randrange(2**39) + split_seed("words", 2**39))
            language = rng.choice(("en", "zh"))
            qa = make_question(rng, scene, rng.choice(("colour_of", "count_all", "describe")), language)
            if qa is not None:
                row.ask(qa.question, phrases.NO_IMAGE[language], -1, "start")
                continue
        questions, answer = rng.choice(phrases.SMALL_TALK)
        question = rng.choice(questions)
        row.ask(question, answer, -1, "start")
        if rng.random() < 0.4:
            parent = row.add(history_ids(question, answer, "start"), -1)
            questions, answer = rng.choice(phrases.SMALL_TALK)
            row.ask(rng.choice(questions), answer, parent, "turn")
    return row


def open_row(rng: random.Random, patches: list[int], total: int) -> tuple[Row, int]:
    """A row with its image: the opening text and the kept placeholder tokens at their true positions."""
    opening = opening_ids(rng.choice(SYSTEMS) if rng.random() < 0.08 else "")
    row = Row()
    positions = list(range(len(opening))) + [len(opening) + patch for patch in patches]
    root = row.add(opening + (image_id(),) * len(patches), -1, positions=positions)
    row.ends[root] = len(opening) + total
    return row, root


def word_embeddings(
    model: WordDecoder, ids: torch.Tensor, images: list[WordImage], noise: torch.Tensor
) -> torch.Tensor:
    """float[B, S, D]: token rows, and at placeholder tokens the sums of concepts plus `noise` float[K, D]."""
    embeds: torch.Tensor = model.decoder.model.embed_tokens(ids)
    meanings = [meaning for image in images for meaning in image.meanings]
    flat = torch.tensor([index for meaning in meanings for index in meaning], dtype=torch.long)
    owner = torch.tensor([at for at, meaning in enumerate(meanings) for _ in meaning], dtype=torch.long)
    sums = torch.zeros(len(meanings), embeds.shape[-1]).index_add(0, owner, model.concepts[flat])
    return embeds.masked_scatter((ids == image_id())[..., None], sums + noise)


def word_rows(
    split: str, start: int, count: int, keep: float, questions: int
) -> tuple[list[Row], list[WordImage], list[list[QA]]]:
    """Rows of `count` scenes; one row in sixteen is talk without an image."""
    rows: list[Row] = []
    images: list[WordImage] = []
    asked: list[list[QA]] = []
    for index in range(start, start + count):
        seed = split_seed(split, index)
        rng = random.Random(seed + 1)
        if split == "words" and index % 16 == 15:
            rows.append(talk_row(rng))
            images.append(WordImage([], [], 0))
            asked.append([])
            continue
        scene = make_scene(seed)
        image = word_image(rng, scene, keep)
        row, root = open_row(rng, image.patches, image.total)
        made = make_questions(rng, scene, questions, PRACTICE if split == "words" else KINDS)
        if split == "words":
            hang_questions(rng, row, root, made)
        else:
            for qa in made:
                row.ask(qa.question, qa.answer, root, "image")
        rows.append(row)
        images.append(image)
        asked.append(made)
    return rows, images, asked


def pair_rows(rows: list[Row], images: list[WordImage]) -> tuple[list[Row], list[WordImage]]:
    """Joins the longest row with the shortest, and so on; `images` follow in the order of the new rows' tokens."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    pairs = [(order[i], order[-1 - i]) for i in range(len(order) // 2)]
    return [join_rows(rows[a], rows[b]) for a, b in pairs], [images[at] for pair in pairs for at in pair]


@torch.no_grad()
def word_scores(model: WordDecoder, start: int, count: int, keep: float) -> dict[str, float]:
    """Share of whole answers right, by kind of question and over all, on `count` unseen scenes."""
    tally: dict[str, list[bool]] = {}
    for first in range(start, start + count, 25):
        rows, images, asked = word_rows("check", first, 25, keep, QUESTIONS_A_SCENE)
        batch = collate(rows)
        noise = torch.zeros(sum(len(image.patches) for image in images), model.concepts.shape[1])
        _, hits = answer_loss(
            model.decoder.model, model.decoder.lm_head, batch, word_embeddings(model, batch.ids, images, noise)
        )
        for index, made in enumerate(asked):
            for qa, right in zip(made, right_answers(batch, hits, index), strict=True):
                for name in ("all", qa.language, qa.kind):
                    tally.setdefault(name, []).append(right)
    return {name: sum(values) / len(values) for name, values in sorted(tally.items())}


def _practice(model: WordDecoder, crew: Crew, step: int, keep: float) -> tuple[Batch, torch.Tensor]:
    """The rows of one step and their embeddings, with a little noise in the image tokens."""
    rows, images, _ = word_rows("words", crew.start(step, ROWS_A_STEP), ROWS_A_STEP, keep, QUESTIONS_A_SCENE)
    rows, images = pair_rows(rows, images)
    batch = collate(rows)
    shape = (sum(len(image.patches) for image in images), model.concepts.shape[1])
    noise = 0.015 * torch.randn(shape, generator=torch.Generator().manual_seed(crew.start(step, 1)))
    return batch, word_embeddings(model, batch.ids, images, noise)


def train_words(
    folder: Path,
    steps: int,
    *,
    decay: int = 1000,
    peak: float = 1.5e-3,
    seed: int = 2,
    warmup: int = 200,
    every: int = 250,
    scored: int = 200,
    ramp: int = 4000,
) -> None:
    """Trains up to `steps` steps of 12 rows, resuming from `folder`; empty patches come back over `ramp` steps.

    Every `every` steps it saves and scores `scored` unseen scenes (a multiple of 25).
    """
    crew = Crew.join()
    model = WordDecoder(seed)
    optimiser = Orthogonal(*split_parameters(model), lr=peak)
    optimiser.settle()
    done = checkpoint.resume(folder, model, optimiser)
    for step in range(done, steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, warmup=warmup, decay=decay, peak=peak)
        keep = 0.03 + 0.4 * min(1.0, step / ramp)
        batch, embeds = _practice(model, crew, step, keep)
        loss, hits = answer_loss(model.decoder.model, model.decoder.lm_head, batch, embeds)
        optimiser.zero_grad()
        loss.backward()
        crew.average(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0 and crew.leads:
            log.info("words step %d loss %.4f hits %.3f", step, loss.item(), hits.float().mean())
        if crew.leads and ((step + 1) % every == 0 or step + 1 == steps):
            scores = word_scores(model, 0, scored, keep)
            log.info("words step %d %s", step + 1, {name: round(value, 3) for name, value in scores.items()})
            checkpoint.save(folder, model, optimiser, step + 1, {"scores": scores, "seed": seed})
