"""`xverse-v plan train RECIPE`: a recipe as options of the planner. Reads, matches and maps; weights/plan*.py predicts.

In: a recipe with its overrides, and what a recipe does not say (devices, a size in place of a missing model folder).
Out: the shape and `TrainingOptions` of one micro-batch on one device, as full as the recipe allows it to be, and facts
of the run. What trains is what the rules claim of the model's own parameters, put up without weights; the stage's name
decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xverse_v.errors import error

from .common import say

if TYPE_CHECKING:
    from xverse_v.model import XverseVConfig
    from xverse_v.training.config import TrainConfig
    from xverse_v.training.stage import Claims
    from xverse_v.weights.plan_fit import Change
    from xverse_v.weights.plan_table import Plan, Stage
    from xverse_v.weights.plan_training import TrainingOptions
    from xverse_v.weights.shapes import ModelShape

RECIPE_KEYS = {
    "device": "distribution.device",
    "dtype": "distribution.dtype",
    "shard": "distribution.shard",
    "checkpointing": "distribution.activation_checkpointing",
    "loss_chunk": "distribution.loss_chunk",
    "cpu_offload": "distribution.cpu_offload",
    "micro_tokens": "data.pack_length",
    "max_tiles": "data.max_tiles",
    "lora_rank": "stage.lora.rank",
    "lora_dropout": "stage.lora.dropout",
}
"""Parameters of `plan` that a recipe settles, and where: given beside one they are refused, not ignored."""

SHORTEST_ANSWER = 128
"""Of the sample that fills the row: as many samples as fit with this answer, and longer answers for what is left."""

DEVICES_OF_A_MACHINE = 8
"""Assumed for shard=hybrid without shard_size."""


@dataclass(frozen=True)
class Asked:
    """What the command line adds to a recipe. None: not given."""

    model: str | None = None
    gpus: int | None = None
    cuda: bool = False
    images: tuple[tuple[int, int], ...] = ()
    question_tokens: int = 64
    new_tokens: int | None = None
    turns: int = 1


@dataclass(frozen=True)
class RecipeRun:
    """A recipe, ready to be planned."""

    config: TrainConfig
    shape: ModelShape
    options: TrainingOptions
    samples: int
    facts: dict[str, Any]

    def stamped(self, predicted: Plan) -> Plan:
        """The plan with the facts of the run in it."""
        return replace(predicted, facts={**predicted.facts, "recipe": self.facts})

    def in_its_words(self, change: Change) -> Change:
        """The change as overrides of the recipe."""
        flags = change.flags
        for pattern, written in _SPELLINGS:
            flags = re.sub(pattern, written, flags)
        return replace(change, flags=re.sub(r"--micro-tokens (\d+)", self._row, flags))

    def _row(self, found: re.Match[str]) -> str:
        tokens, data = int(found[1]), self.config.data
        if not data.packing:
            return f"data.micro_batch={tokens * self.samples // self.options.micro_tokens}"
        shorter = f"data.max_length={tokens} " if tokens < data.max_length else ""
        return f"{shorter}data.pack_length={tokens}"


_SPELLINGS = (
    (r"--shard full --cpu-offload", "distribution.shard=full distribution.cpu_offload=true"),
    (r"--shard full", "distribution.shard=full"),
    (r"--dtype (\w+)", r"distribution.dtype=\1"),
    (r"--loss-chunk (\d+)", r"distribution.loss_chunk=\1"),
    (r"--checkpointing", "distribution.activation_checkpointing=true"),
    (r"--max-tiles (\d+)", r"data.max_tiles=\1"),
    (r"--lora-rank (\d+)", r"stage.lora.rank=\1"),
)


def read_run(
    recipe: Path, overrides: Sequence[str], asked: Asked, shape_of: Callable[[str], ModelShape], threads: int
) -> RecipeRun:
    """A recipe as one micro-batch on one device; `shape_of` finds a size or a folder by its name.

    Raises E162 for a model folder that is not here, E163 for rules that the planner does not cover, E165 for a sample
    above max_length, and what reading the recipe and matching its rules raise (E250 to E269).
    """
    import torch

    from xverse_v.training.build import stage_network
    from xverse_v.training.config import read_config
    from xverse_v.weights.load import skeleton
    from xverse_v.weights.plan import check_counts

    config = read_config(recipe, overrides).config
    check_counts({"--gpus": 1 if asked.gpus is None else asked.gpus, "--turns": asked.turns})
    notes: list[str] = []
    shape, network, tiles = _model(recipe, config, asked, shape_of, notes)
    claims = stage_network(skeleton(network, attention=None, dtype=torch.float32), config)
    options, samples = _sample(config, shape, asked, tiles, notes)
    options = replace(options, **_trains(config, claims), **_placed(config, asked, threads, notes))
    if config.data.features is not None:
        notes.append(say("data.features: the tower is counted all the same", "data.features：仍按运行视觉塔计算"))
    facts = {
        "path": str(recipe),
        "stage": config.stage.name,
        "trains": {rule: claims.count(names) for rule, names in claims.rules.items()},
        "steps": config.optimisation.steps,
        "samples_per_step": config.data.global_batch,
        "tokens_per_step_at_most": config.data.global_batch * _limit(config, shape),
        "notes": notes,
    }
    return RecipeRun(config, shape, options, samples, facts)


def _model(
    recipe: Path, config: TrainConfig, asked: Asked, shape_of: Callable[[str], ModelShape], notes: list[str]
) -> tuple[ModelShape, XverseVConfig, int]:
    """Shape, network and most tiles: of the recipe's model, or of the one that was named to stand in for it."""
    from xverse_v.inference.loading import NANO, resolve_model
    from xverse_v.model import XverseVConfig, XverseVImageProcessor
    from xverse_v.model.tiling import MAX_TILES
    from xverse_v.training.build import model_folder
    from xverse_v.weights.shapes import PUBLISHED, config_from_shape

    here = (model_folder(config.model) / "config.json").is_file()
    name = config.model if asked.model is None else asked.model
    if asked.model is None and not here:
        raise error("E162", recipe=recipe, model=config.model)
    if asked.model is not None:
        state = "" if here else say(", which is not here", "（此处没有该文件夹）")
        notes.append(say(f"{name} stands in for {config.model}{state}", f"以 {name} 代替 {config.model}{state}"))
    shape = shape_of(name)
    if name.lower() in PUBLISHED:
        return shape, config_from_shape(shape), MAX_TILES
    folder = resolve_model(NANO) if name == NANO else Path(name)
    settled = (folder / "processor_config.json").is_file() or (folder / "preprocessor_config.json").is_file()
    tiles = XverseVImageProcessor.from_pretrained(folder).max_tiles if settled else MAX_TILES
    return shape, XverseVConfig.from_pretrained(folder), tiles


def _limit(config: TrainConfig, shape: ModelShape) -> int:
    """Most tokens of a sample."""
    return min(config.data.max_length, shape.decoder.context)


def _sample(
    config: TrainConfig, shape: ModelShape, asked: Asked, tiles: int, notes: list[str]
) -> tuple[TrainingOptions, int]:
    """The fullest micro-batch: samples with the most views an image can have, until the row is full.

    Images and lengths that were asked for are taken instead. Returns the options and how many samples they hold.
    """
    from xverse_v.weights.plan import views_of
    from xverse_v.weights.plan_training import TrainingOptions

    data, limit, side = config.data, _limit(config, shape), shape.vision.image_size
    tiles = data.max_tiles or tiles
    text = asked.turns * (asked.question_tokens + (asked.new_tokens or SHORTEST_ANSWER))
    images = asked.images or _largest_image((limit - text) // shape.vision.patches, tiles, side)
    image_tokens = sum(views_of(images, tiles, side)) * shape.vision.patches
    least = image_tokens + text
    if least > limit:
        raise error("E165", sample=least, max_length=limit, image_tokens=image_tokens)
    # No device ever has more than its part of a step's samples.
    own = -(-data.global_batch // (asked.gpus or 1))
    most, room = (data.row_length, data.row_length // least) if data.packing else (limit * own, data.micro_batch)
    samples = min(own, room)
    new_tokens = asked.new_tokens
    if new_tokens is None:
        new_tokens = (min(limit, most // samples) - image_tokens) // asked.turns - asked.question_tokens
        notes.append(say("the sample is the fullest the recipe allows", "样本按配方允许的最满情况计算"))
    length = image_tokens + asked.turns * (asked.question_tokens + new_tokens)
    options = TrainingOptions(
        images=images,
        question_tokens=asked.question_tokens,
        new_tokens=new_tokens,
        turns=asked.turns,
        micro_tokens=samples * length,
        max_tiles=tiles,
        packing=data.packing,
    )
    return options, samples


def _largest_image(most_views: int, most_tiles: int, side: int) -> tuple[tuple[int, int], ...]:
    """An image with as many views as the tiles and the room for them allow, as square as can be; none without room."""
    from xverse_v.weights.plan import views_of

    for tiles in range(most_tiles, 0, -1):
        rows = max(rows for rows in range(1, tiles + 1) if tiles % rows == 0 and rows * rows <= tiles)
        image = (tiles // rows * side, rows * side)
        if views_of((image,), most_tiles, side)[0] <= most_views:
            return (image,)
    return ()


def _trains(config: TrainConfig, claims: Claims) -> dict[str, Any]:
    """Stage and counts, from what the rules claim."""
    adapters = [name for name in claims.trained if ".lora_A." in name or ".lora_B." in name]
    others = [name for name in claims.trained if name not in set(adapters)]
    decoder = [name for name in others if name.startswith(("model.language_model.", "lm_head."))]
    tower = [name for name in others if name.startswith("model.vision_tower.")]
    lora = config.stage.lora
    if tower:
        raise error("E163", what="a vision tower that trains", what_zh="训练视觉塔", example=tower[0])
    if lora is not None and decoder:
        raise error(
            "E163",
            what="decoder weights that train beside adapters",
            what_zh="同时训练解码器权重与适配器",
            example=decoder[0],
        )
    if lora is not None and not adapters:
        raise error("E163", what="adapters that no rule trains", what_zh="没有规则训练的适配器", example=lora.linears)
    stage: Stage = "full" if decoder else "finetune" if lora is not None else "pretrain"
    counts: dict[str, Any] = {"stage": stage, "claimed": claims.count(others)}
    if lora is not None:
        counts |= {"lora_rank": lora.rank, "dropout": lora.dropout, "adapted": claims.count(adapters) // lora.rank}
    return counts


def _placed(config: TrainConfig, asked: Asked, threads: int, notes: list[str]) -> dict[str, Any]:
    """Device, format and sharding. Raises E267 for hybrid sharding whose groups do not divide the devices."""
    from xverse_v.weights.plan_table import Device

    settings = config.distribution
    gpus = 1 if asked.gpus is None else asked.gpus
    if asked.gpus is None:
        notes.append(say("one device, as --gpus does not say otherwise", "未给出 --gpus，按一个设备计算"))
    on_gpu = asked.cuda or settings.cpu_offload or settings.attention == "flash_attention_2"
    kind: Literal["cpu", "cuda"] = "cuda" if on_gpu else "cpu"
    if settings.device != "auto":
        kind = settings.device
    group = gpus
    if settings.shard == "hybrid":
        group = settings.shard_size or min(gpus, DEVICES_OF_A_MACHINE)
        if group < 1 or gpus % group:
            raise error("E267", size=gpus, shard_size=group)
        notes.append(say(f"hybrid: groups of {group} of {gpus} devices", f"hybrid：{gpus} 个设备，每组 {group} 个"))
    named = settings.dtype if settings.dtype != "auto" else "bfloat16" if kind == "cuda" else "float32"
    return {
        "device": Device(kind, group, "replicate" if settings.shard == "replicate" else "full", threads),
        "split": group if settings.shard == "replicate" else 1,
        "dtype": named,
        "checkpointing": settings.activation_checkpointing,
        "loss_chunk": settings.loss_chunk,
        "offload": settings.cpu_offload and kind == "cuda",
    }
