"""Step one of the recipe: the vision tower learns to see, from dense labels that the drawing program knows.

What crosses: `train_tower(folder, steps)` -> a checkpoint in `folder`. The tower is a stock CLIP vision model; the six
linear heads on its patch features are thrown away afterwards. This file refuses to know about words.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from xverse_v.model.image_processing import CLIP_MEAN, CLIP_STD, cut_views, normalise
from xverse_v.model.tiling import TILE_SIZE, choose_grid, view_boxes
from xverse_v.nano import checkpoint
from xverse_v.nano.labels import ANCHOR_PATCHES, PATCHES, SIDE, PatchLabels, Rectangle, label_views
from xverse_v.nano.optimiser import Orthogonal, split_parameters
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.world import COLOURS, SHAPES, Scene, draw, make_scene, split_seed

log = logging.getLogger(__name__)
SCENES_A_STEP = 24
EARLY_STEPS = 600  # at the high rate


def vision_config() -> CLIPVisionConfig:
    """The shape of the built-in tower: 64 patches of 28 pixels a view, 4 layers of 128."""
    return CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=224,
        patch_size=28,
        hidden_act="quick_gelu",
    )


class SeeingTower(nn.Module):
    """The tower and its six heads: cover_shape, cover_colour, cell_shape, cell_colour, and the patch's row and column.

    Without the last two the tower forgets where a patch is on its way up, and no projector can tell the decoder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config())
        # A coloured patch is a vector of length 100 and more; at the usual start no one hears where it comes from.
        nn.init.normal_(self.tower.embeddings.position_embedding.weight, std=3.0)
        width = self.tower.config.hidden_size
        self.norm = nn.LayerNorm(width)
        classes = (len(SHAPES) + 1, len(COLOURS) + 1)
        self.heads = nn.ModuleList([nn.Linear(width, count) for count in (*classes, *classes, SIDE, SIDE)])

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """float[V, 3, 224, 224] -> float[V, 64, 128]: output of the last layer without CLS."""
        hidden: torch.Tensor = self.tower(pixel_values).last_hidden_state[:, 1:]
        return hidden

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the six heads, each float[V, 64, classes]."""
        hidden = self.norm(self.features(pixel_values))
        return [head(hidden) for head in self.heads]


def to_pixels(views: list[Image.Image]) -> torch.Tensor:
    """RGB views of 224x224 -> float32[V, 3, 224, 224], in CLIP's normalisation."""
    return torch.from_numpy(normalise(views, CLIP_MEAN, CLIP_STD))


def scene_views(scene: Scene) -> tuple[list[Image.Image], list[Rectangle]]:
    """All views of a scene as the product cuts them (`upright`), and where each lies on the image."""
    grid = choose_grid(scene.width, scene.height, orientation="upright")
    boxes = [(box.left, box.top, box.right, box.bottom) for box in view_boxes(scene.width, scene.height, grid)]
    return cut_views(draw(scene), grid, TILE_SIZE), boxes


def tower_batch(split: str, start: int, count: int) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Views, labels and bool[V] "is a global view": of every scene that one, and one tile where there are tiles."""
    views: list[Image.Image] = []
    labels: list[PatchLabels] = []
    whole: list[bool] = []
    for index in range(start, start + count):
        scene = make_scene(split_seed(split, index))
        every, boxes = scene_views(scene)
        keep = [0] if len(every) == 1 else [0, random.Random(index).randrange(1, len(every))]
        views += [every[view] for view in keep]
        whole += [view == 0 for view in keep]
        labels.append(label_views(scene, [boxes[view] for view in keep]))
    names = ("cover_shape", "cover_colour", "cell_shape", "cell_colour")
    arrays = [torch.from_numpy(np.concatenate([getattr(label, name) for label in labels])) for name in names]
    return to_pixels(views), arrays, torch.tensor(whole)


def tower_loss(logits: list[torch.Tensor], labels: list[torch.Tensor], whole: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy; for the two cell heads anchors weigh ten times the other patches, tiles a quarter of `whole`.

    A tile that shows one object looks like a global view of one large object: where in doubt the tower shall see it,
    and the decoder, which knows the position, shall judge.
    """
    weight = torch.full((len(whole), PATCHES), 0.1)
    weight[:, list(ANCHOR_PATCHES)] = 1.0
    weight[~whole] *= 0.25
    losses = [
        F.cross_entropy(logit.transpose(1, 2), label, reduction="none")
        for logit, label in zip(logits[:4], labels, strict=True)
    ]
    patches = torch.arange(PATCHES).expand(len(whole), PATCHES)
    place = F.cross_entropy(logits[4].transpose(1, 2), patches // SIDE, reduction="none")
    place = place + F.cross_entropy(logits[5].transpose(1, 2), patches % SIDE, reduction="none")
    cell = (losses[2] * weight).sum() + (losses[3] * weight).sum()
    return losses[0].mean() + losses[1].mean() + 2.0 * (cell + (place * weight).sum()) / weight.sum()


@torch.no_grad()
def tower_scores(model: SeeingTower, split: str, start: int, count: int) -> dict[str, float]:
    """Shares of right answers: cells that hold something (shape, colour), and views with all cells right."""
    pixels, labels, global_views = tower_batch(split, start, count)
    logits = model(pixels)
    shape, colour = logits[2].argmax(-1), logits[3].argmax(-1)
    place = logits[4].argmax(-1) * SIDE + logits[5].argmax(-1)
    held = labels[2] > 0
    right = ((shape == labels[2]) & (colour == labels[3])).all(1)
    return {
        "shape": (shape == labels[2])[held].float().mean().item(),
        "colour": (colour == labels[3])[held].float().mean().item(),
        "place": (place == torch.arange(PATCHES))[held].float().mean().item(),
        "global view": right[global_views].float().mean().item(),
        "tile": right[~global_views].float().mean().item(),
    }


def train_tower(
    folder: Path,
    steps: int,
    *,
    decay: int = 1500,
    peak: float = 1e-3,
    seed: int = 1,
    warmup: int = 200,
    every: int = 200,
    scored: int = 200,
    stop: int | None = None,
) -> None:
    """Trains up to `steps` steps of 24 scenes, resuming from `folder`; the rate falls over the last `decay` steps.

    Every `every` steps it saves and scores `scored` unseen scenes. `stop`: leave after this step, to be resumed later.
    """
    torch.manual_seed(seed)
    model = SeeingTower()
    optimiser = Orthogonal(*split_parameters(model), lr=peak)
    done = checkpoint.resume(folder, model, optimiser)
    for step in range(done, min(steps, stop or steps)):
        if step >= EARLY_STEPS:
            optimiser.settle()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps, warmup=warmup, decay=decay, peak=peak)
        pixels, labels, whole = tower_batch("tower", step * SCENES_A_STEP, SCENES_A_STEP)
        loss = tower_loss(model(pixels), labels, whole)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            log.info("tower step %d loss %.4f", step, loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            scores = tower_scores(model, "check", 0, scored)
            log.info("tower step %d %s", step + 1, {name: round(value, 4) for name, value in scores.items()})
            checkpoint.save(folder, model, optimiser, step + 1, {"scores": scores, "seed": seed})
