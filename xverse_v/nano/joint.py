"""Steps three and four of the recipe: the projector joins the two halves, then the joined model learns from pixels.

What crosses: the checkpoints of `tower` and `words` -> `train_projector` -> `train_joint`, each a checkpoint of
the whole product model (`XverseVForConditionalGeneration`). In step three tower and decoder are frozen and the
projector learns to write the concepts that the decoder was taught with. In step four projector and decoder learn
from the answers alone. This file refuses to know how scenes are drawn and questions are worded.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration
from xverse_v.nano import checkpoint
from xverse_v.nano.crew import Crew
from xverse_v.nano.decoder import CONCEPTS, answer_loss, concept, decoder_config, right_answers
from xverse_v.nano.labels import ANCHOR_PATCHES, PATCHES
from xverse_v.nano.optimiser import Orthogonal, split_parameters
from xverse_v.nano.questions import KINDS, QA, make_questions
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.sequences import Batch, collate, image_id
from xverse_v.nano.tower import scene_views, to_pixels, vision_config
from xverse_v.nano.words import PRACTICE, QUESTIONS_A_SCENE, hang_questions, open_row, scene_meanings, talk_row
from xverse_v.nano.world import Scene, make_scene, split_seed

log = logging.getLogger(__name__)
SCENES_A_STEP = 8
TILED_SCENES_A_STEP = 3
TILED_EVERY = 4


def nano_config() -> XverseVConfig:
    """The configuration of the built-in model."""
    return XverseVConfig(vision_config(), decoder_config(), image_token_id=image_id())


def empty_model() -> XverseVForConditionalGeneration:
    """The product's network at the built-in model's size."""
    return XverseVForConditionalGeneration(nano_config())


def join_parts(tower: Path, words: Path, seed: int) -> tuple[XverseVForConditionalGeneration, torch.Tensor]:
    """The whole model from the two checkpoints, with a fresh projector, and the concepts float[C, D]."""
    torch.manual_seed(seed)
    model = empty_model()
    seeing, speaking = checkpoint.load_module(tower), checkpoint.load_module(words)
    parts = {
        f"model.vision_tower.{name.removeprefix('tower.').removeprefix('vision_model.')}": value
        for name, value in seeing.items()
        if name.startswith("tower.") and "post_layernorm" not in name and not name.endswith("position_ids")
    }
    parts |= {
        f"model.language_model.{name.removeprefix('decoder.model.')}": value
        for name, value in speaking.items()
        if name.startswith("decoder.model.")
    }
    parts["lm_head.weight"] = speaking["decoder.lm_head.weight"]
    fresh = {name: value for name, value in model.state_dict().items() if ".multi_modal_projector." in name}
    model.load_state_dict(parts | fresh, strict=True)
    return model, speaking["concepts"]


def concept_targets(scene: Scene, views: int) -> torch.Tensor:
    """float[views, 64, C]: which concepts add up at every patch; tiles hold none."""
    targets = torch.zeros(views * PATCHES, len(CONCEPTS))
    targets[:, concept("no cell here")] = 1
    for patch, meaning in scene_meanings(scene).items():
        targets[patch] = 0
        targets[patch, list(meaning)] = 1
    return targets.view(views, PATCHES, -1)


def train_projector(folder: Path, tower: Path, words: Path, steps: int, *, peak: float = 2e-3, seed: int = 3) -> None:
    """Projector alone: squared distance to the sums of concepts, anchors weighing as much as all other patches."""
    model, concepts = join_parts(tower, words, seed)
    projector = model.model.multi_modal_projector
    matrices = [projector.linear_1.weight, projector.linear_2.weight]
    for matrix in matrices:
        nn.init.normal_(matrix, std=matrix.shape[1] ** -0.5)
    others = [parameter for parameter in projector.parameters() if parameter.ndim == 1]
    optimiser = Orthogonal(matrices, others, lr=peak, weight_decay=0.0)
    done = checkpoint.resume(folder, model, optimiser)
    for step in range(done, steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, warmup=20, decay=steps * 3 // 4, peak=peak)
        views, targets = [], []
        for index in range(step * 16, step * 16 + 16):
            scene = make_scene(split_seed("joint", index))
            every, _ = scene_views(scene)
            keep = [0] if len(every) == 1 else [0, random.Random(index).randrange(1, len(every))]
            views += [every[view] for view in keep]
            targets.append(concept_targets(scene, len(every))[keep])
        wanted = torch.cat(targets)
        with torch.no_grad():
            seen = model.model.vision_tower(to_pixels(views)).last_hidden_state[:, 1:]
        distance = (projector(seen) - wanted @ concepts).pow(2).sum(-1)
        anchor = wanted[..., concept("no cell here")] == 0
        loss = distance[anchor].mean() + distance[~anchor].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            scale = (wanted @ concepts)[anchor].pow(2).sum(-1).mean()
            log.info("projector step %d loss %.4f of %.4f", step, loss.item(), scale.item())
    checkpoint.save(folder, model, optimiser, steps, {"seed": seed})


@dataclass(frozen=True)
class JointBatch:
    """Rows with their views: `pixels` float[V, 3, 224, 224]; `kept` int64[K] picks from all V*64 image tokens."""

    batch: Batch
    pixels: torch.Tensor
    kept: torch.Tensor
    asked: list[list[QA]]


def joint_batch(
    split: str, start: int, count: int, *, tiled: bool, keep: float, canvas: tuple[int, int] | None = None
) -> JointBatch:
    """Rows of `count` scenes from pixels. `keep`: share of the image tokens that stay."""
    rows, views, kept, asked, offset = [], [], [], [], 0
    for index in range(start, start + count):
        seed = split_seed(split, index)
        rng = random.Random(seed + 1)
        size = canvas
        if size is None:
            size = (
                rng.choice(((448, 448), (672, 448), (448, 672), (640, 480), (1200, 900), (400, 200)))
                if tiled
                else (224, 224)
            )
            size = (300, 200) if not tiled and rng.random() < 0.1 else size
        scene = make_scene(seed, size)
        every, _ = scene_views(scene)
        patches = [p for p in range(len(every) * PATCHES) if p in ANCHOR_PATCHES or rng.random() < keep]
        row, root = open_row(rng, patches, len(every) * PATCHES)
        made = make_questions(rng, scene, QUESTIONS_A_SCENE, PRACTICE if split == "joint" else KINDS)
        if split == "joint":
            hang_questions(rng, row, root, made)
        else:
            for qa in made:
                row.ask(qa.question, qa.answer, root, "image")
        rows.append(row)
        views += every
        kept += [offset + patch for patch in patches]
        offset += len(every) * PATCHES
        asked.append(made)
    if split == "joint" and not tiled and start // count % 3 == 0:
        rows.append(talk_row(random.Random(start)))
    return JointBatch(collate(rows), to_pixels(views), torch.tensor(kept), asked)


def joint_embeddings(model: XverseVForConditionalGeneration, given: JointBatch) -> torch.Tensor:
    """float[B, S, D]: token rows, with the kept image tokens at their placeholders."""
    seen = model.get_image_features(given.pixels)
    assert not isinstance(seen, tuple)
    features = seen.pooler_output.flatten(0, 1)[given.kept]
    embeds: torch.Tensor = model.get_input_embeddings()(given.batch.ids)
    return embeds.masked_scatter((given.batch.ids == image_id())[..., None], features)


def joint_loss(model: XverseVForConditionalGeneration, given: JointBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over supervised tokens, and which of them were predicted."""
    return answer_loss(model.model.language_model, model.lm_head, given.batch, joint_embeddings(model, given))


@torch.no_grad()
def joint_scores(model: XverseVForConditionalGeneration, scenes: int, canvas: tuple[int, int]) -> dict[str, float]:
    """Share of whole answers right on unseen scenes of one canvas, by kind and over all."""
    tally: dict[str, list[bool]] = {}
    for start in range(0, scenes, 10):
        given = joint_batch("check", start, 10, tiled=False, keep=1.0, canvas=canvas)
        _, hits = joint_loss(model, given)
        for index, made in enumerate(given.asked):
            for qa, right in zip(made, right_answers(given.batch, hits, index), strict=True):
                for name in ("all", qa.language, qa.kind):
                    tally.setdefault(name, []).append(right)
    return {name: sum(values) / len(values) for name, values in sorted(tally.items())}


def train_joint(
    folder: Path,
    start: Path,
    steps: int,
    *,
    decay: int,
    peak: float = 7e-4,
    frozen: bool = True,
    warmup: int = 100,
    every: int = 250,
    scored: int = 60,
) -> None:
    """Decoder and projector from pixels and answers, resuming from `folder` or beginning with the model in `start`.

    `frozen`: the vision tower keeps what it learnt. Background tokens come back over the run. Every `every` steps it
    saves and scores `scored` unseen scenes at one view and at seven (a multiple of ten).
    """
    crew = Crew.join()
    model = empty_model()
    model.load_state_dict(checkpoint.load_module(start), strict=True)
    if frozen:
        model.model.vision_tower.requires_grad_(False)
    optimiser = Orthogonal(*split_parameters(model), lr=peak)
    optimiser.settle()
    done = checkpoint.resume(folder, model, optimiser)
    for step in range(done, steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, warmup=warmup, decay=decay, peak=peak)
        tiled = step % TILED_EVERY == TILED_EVERY - 1
        count = TILED_SCENES_A_STEP if tiled else SCENES_A_STEP
        # Whole tiles are long: two of three tiled steps see a third of their tokens.
        keep = min(1.0, 0.1 + 1.2 * step / steps) * (0.3 if tiled and step // TILED_EVERY % 3 else 1.0)
        given = joint_batch("joint", 2**30 + crew.start(step, SCENES_A_STEP), count, tiled=tiled, keep=keep)
        loss, hits = joint_loss(model, given)
        optimiser.zero_grad()
        loss.backward()
        crew.average(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if crew.leads and step % 50 < 4 and (step % 50 == 0 or tiled):
            log.info("joint step %d loss %.4f hits %.3f tiled %s", step, loss.item(), hits.float().mean(), tiled)
        if crew.leads and ((step + 1) % every == 0 or step + 1 == steps):
            scores = {"x".join(map(str, size)): joint_scores(model, scored, size) for size in ((224, 224), (672, 448))}
            log.info(
                "joint step %d %s", step + 1, {k: {n: round(v, 3) for n, v in s.items()} for k, s in scores.items()}
            )
            checkpoint.save(folder, model, optimiser, step + 1, {"scores": scores})
