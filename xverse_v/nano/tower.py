"""Step one of the recipe: the vision tower learns to see, from dense labels that the drawing program knows.

What crosses: `train_tower(folder, steps)` -> a checkpoint in `folder`. The tower is a stock CLIP vision model; the
linear heads on its patch features are thrown away afterwards. It stands in for CLIP, which learnt from captions. This
file refuses to know about words.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from xverse_v.nano import checkpoint
from xverse_v.nano.charts import make_chart
from xverse_v.nano.concepts import COLOURS, PATCHES, SEEN, SHAPES, SIDE, Picture
from xverse_v.nano.detail import make_board, make_sheet
from xverse_v.nano.labels import GROUPS, UNKNOWN, LabelledViews, joined, labelled_views
from xverse_v.nano.optimiser import Orthogonal, split_parameters
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.views import picture_meanings, to_pixels
from xverse_v.nano.world import make_page, make_scene, split_seed

log = logging.getLogger(__name__)
# From which step on how many pictures of each kind a step has: characters are learnt first, charts catch up, and the
# second cycle is about what is still misread. All drawn anew: of 54,000 tags drawn once, 99 % were read right, and of
# unseen ones 80 %.
PHASES: tuple[tuple[int, dict[str, int]], ...] = (
    (0, {"scenes": 7, "written": 4, "boards": 2, "sheets": 3, "charts": 2, "pages": 0}),
    (2250, {"scenes": 5, "written": 3, "boards": 2, "sheets": 3, "charts": 5, "pages": 0}),
    (4500, {"scenes": 4, "written": 2, "boards": 3, "sheets": 4, "charts": 2, "pages": 3}),
)
EARLY_STEPS = 600  # at the high rate
_TEXT = GROUPS.index("char1")  # from here on groups are characters, which are learnt last and weigh double


def vision_config() -> CLIPVisionConfig:
    """The shape of the built-in tower: 64 patches of 28 pixels a view, 4 layers of 192."""
    return CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=224,
        patch_size=28,
        hidden_act="quick_gelu",
    )


class SeeingTower(nn.Module):
    """The tower and its heads: one a group of `SEEN`, what covers a patch (shape, colour), and the patch's row and
    column.

    Without the last two the tower forgets where a patch is on its way up, and no projector can tell the decoder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config())
        # A coloured patch is a vector of length 100 and more; at the usual start no one hears where it comes from.
        nn.init.normal_(self.tower.embeddings.position_embedding.weight, std=3.0)
        width = self.tower.config.hidden_size
        self.norm = nn.LayerNorm(width)
        classes = [len(names) + 1 for names in SEEN.values()] + [len(SHAPES) + 1, len(COLOURS) + 1, SIDE, SIDE]
        self.heads = nn.ModuleList([nn.Linear(width, count) for count in classes])

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """float[V, 3, 224, 224] -> float[V, 64, 192]: output of the last layer without CLS."""
        hidden: torch.Tensor = self.tower(pixel_values).last_hidden_state[:, 1:]
        return hidden

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the heads, each float[V, 64, classes]."""
        hidden = self.norm(self.features(pixel_values))
        return [head(hidden) for head in self.heads]


def tower_batch(split: str, step: int) -> LabelledViews:
    """The views of one step, about 33: of large images the global view and some of the tiles."""
    parts = []
    for index in _numbers(step, "scenes"):
        parts.append(_some_views(make_scene(split_seed(split, index)), index, 1))
    for index in _numbers(step, "written"):
        canvas = (224, 224) if index % 4 else None
        parts.append(_some_views(make_scene(split_seed(split, 2**39 + index), canvas, written=True), index, 1))
    for index in _numbers(step, "boards"):
        parts.append(_some_views(make_board(split_seed(split, index)), index, 2))
    for index in _numbers(step, "sheets"):
        parts.append(labelled_views(make_sheet(split_seed(split, index)), [1, 2, 3, 4]))
    for index in _numbers(step, "charts"):
        # A tile of a chart now and then, so that the tower learns that it means nothing.
        parts.append(_some_views(make_chart(split_seed(split, index)), index, int(index % 8 == 0)))
    for index in _numbers(step, "pages"):
        parts.append(labelled_views(make_page(split_seed(split, index)), [0]))
    return joined(parts)


def _numbers(step: int, kind: str) -> range:
    """The numbers of one kind's pictures in `step`. None comes twice."""
    first = count = 0
    for (begin, counts), end in zip(PHASES, [*(begin for begin, _ in PHASES[1:]), step], strict=True):
        if begin <= step:
            count = counts[kind]
            first += count * (min(step, end) - begin)
    return range(first, first + count)


def _some_views(picture: Picture, seed: int, tiles: int) -> LabelledViews:
    """The global view and up to `tiles` tiles, those that hold something first."""
    rng = random.Random(seed)
    count, meanings = picture_meanings(picture)
    order = list(range(1, count))
    rng.shuffle(order)
    order.sort(key=lambda view: not any(held == view for held, _ in meanings))
    return labelled_views(picture, [0, *order[:tiles]])


def pixels_of(given: LabelledViews) -> torch.Tensor:
    """float32[V, 3, 224, 224]."""
    return to_pixels([Image.fromarray(view) for view in given.views])


def tower_loss(logits: list[torch.Tensor], given: LabelledViews) -> torch.Tensor:
    """Sum over heads of mean cross-entropies. Patches that mean something weigh as much as all that mean nothing.

    In tiles "nothing" weighs a quarter: a tile that shows one object looks like a global view of one large object.
    Where in doubt the tower shall see it, and the decoder, which knows the position, shall judge.
    """
    labels, cover = torch.from_numpy(given.labels), torch.from_numpy(given.cover)
    quiet = torch.where(torch.from_numpy(given.whole), 1.0, 0.25)[:, None].expand(-1, PATCHES)
    marked = labels[:, 0] > 0
    total = logits[0].new_zeros(())
    for at in range(len(GROUPS)):
        loss = F.cross_entropy(logits[at].transpose(1, 2), labels[:, at], reduction="none")
        held = labels[:, at] > 0
        total = total + (loss * ~held * quiet).sum() / (~held * quiet).sum()
        # Among marked patches the absence of a property is as much news as its presence.
        told = marked & ~held
        total = total + (2.0 if at >= _TEXT else 1.0) * (loss[held].sum() + 0.3 * loss[told].sum()) / (
            held.sum() + 0.3 * told.sum()
        ).clamp(min=1)
    first = len(GROUPS)
    for at in range(2):
        known = (cover[:, at] != UNKNOWN).any()
        if known:
            total = total + F.cross_entropy(logits[first + at].transpose(1, 2), cover[:, at], ignore_index=UNKNOWN)
    patches = torch.arange(PATCHES).expand(len(given.whole), PATCHES)
    for at, place in ((first + 2, patches // SIDE), (first + 3, patches % SIDE)):
        loss = F.cross_entropy(logits[at].transpose(1, 2), place, reduction="none")
        total = total + 0.5 * (loss.mean() + (loss * marked).sum() / marked.sum().clamp(min=1))
    return total


@torch.no_grad()
def tower_scores(model: SeeingTower, start: int, count: int) -> dict[str, float]:
    """Shares of marked patches read right in every group, on `count` unseen pictures of every kind; "false": share of
    unmarked patches of global views that are taken for something."""
    makers: dict[str, Callable[[int], Picture]] = {
        "scene": make_scene,
        "digit": lambda seed: make_scene(seed, (224, 224), written=True),
        "tag": make_board,
        "chart": make_chart,
    }
    scores: dict[str, float] = {}
    for name, make in makers.items():
        given = joined([labelled_views(make(split_seed("check", index))) for index in range(start, start + count)])
        pixels = pixels_of(given)
        logits = [torch.cat(parts) for parts in zip(*(model(part) for part in pixels.split(32)), strict=True)]
        labels = torch.from_numpy(given.labels)
        found = torch.stack([logits[at].argmax(-1) for at in range(len(GROUPS))], 1)
        held = labels[:, 0] > 1 if name in ("scene", "digit") else labels[:, 0] > 0
        for at, group in enumerate(GROUPS):
            if (labels[:, at] > 0).any():
                scores[f"{name} {group}"] = (found[:, at] == labels[:, at])[held].float().mean().item()
        scores[f"{name} all"] = (found == labels).all(1)[held].float().mean().item()
        free = (labels[:, 0] == 0) & torch.from_numpy(given.whole)[:, None]
        scores[f"{name} false"] = (found[:, 0] > 0)[free].float().mean().item()
    return scores


def train_tower(
    folder: Path,
    cycles: Sequence[int],
    *,
    fall: float = 0.6,
    peak: float = 1e-3,
    seed: int = 1,
    warmup: int = 200,
    every: int = 250,
    scored: int = 40,
    stop: int | None = None,
) -> None:
    """Trains through `cycles` of steps (see schedule.py), resuming from `folder`.

    Every `every` steps it saves and scores `scored` unseen pictures a kind. `stop`: leave after this step.
    """
    torch.manual_seed(seed)
    model = SeeingTower()
    optimiser = Orthogonal(*split_parameters(model), lr=peak)
    done, steps = checkpoint.resume(folder, model, optimiser), sum(cycles)
    for step in range(done, min(steps, stop or steps)):
        if step >= EARLY_STEPS:
            optimiser.settle()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, cycles, warmup=warmup, fall=fall, peak=peak)
        given = tower_batch("tower", step)
        loss = tower_loss(model(pixels_of(given)), given)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            log.info("tower step %d loss %.4f", step, loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            scores = tower_scores(model, 0, scored)
            log.info("tower step %d %s", step + 1, {name: round(value, 3) for name, value in scores.items()})
            checkpoint.note(folder, step + 1, scores)
            checkpoint.save(folder, model, optimiser, step + 1, {"scores": scores, "seed": seed})
