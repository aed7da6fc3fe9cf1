"""Building a run: the network with its stage, sharded; its optimizer; its data.

What crosses: a `TrainConfig` and a `World` in, `Parts` out. Weights are mapped from disk on the CPU and move to the
device piece by piece as they are sharded, so no device ever needs the whole network. Nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from xverse_v.errors import error
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.weights.load import load_model, skeleton, weights_id
from xverse_v.weights.lora import ADAPTER_FOLDER

from .config import Rule, TrainConfig
from .data.batches import MicroBatch, StepData
from .data.config import DataConfig
from .data.store import tower_hash
from .distributed import World, shard
from .logs import Work
from .lora import add_lora
from .loss import Objective, empty_batch
from .stage import Claims, apply_stage, in_words, start_anew


@dataclass
class Parts:
    """What `build` makes. `trained` are the sharded parameters by name, in the order of the rules."""

    config: TrainConfig
    world: World
    objective: Objective
    claims: Claims
    trained: Mapping[str, nn.Parameter]
    optimizer: torch.optim.AdamW
    data: StepData
    held_out: StepData | None
    empty_batch: MicroBatch
    weights_id: str
    work: Work


def model_folder(name: str) -> Path:
    """The folder of `model:`; `nano` is the built-in one. Raises E269 if it already carries an adapter."""
    folder = Path(str(files("xverse_v").joinpath("nano", "weights"))) if name == "nano" else Path(name)
    if (folder / ADAPTER_FOLDER).is_dir():
        raise error("E269", folder=folder)
    return folder


def build(config: TrainConfig, world: World) -> Parts:
    """Everything but the logs. The same on every rank. Raises E254 to E269, E300 to E319 and what the data raises."""
    folder = model_folder(config.model)
    model = load_model(folder, dtype=str(world.dtype).removeprefix("torch."), attention=config.distribution.attention)
    claims = stage_network(model, config)
    work = Work(model)
    data, held_out = open_data(config, model, XverseVProcessor.from_pretrained(folder), world)
    objective = Objective(model, features=config.data.features is not None, loss_chunk=config.distribution.loss_chunk)
    core = model.model
    shard(objective, [*core.language_model.layers, core.vision_tower], config.distribution, world)
    parameters = dict(objective.network.named_parameters())
    trained = {name: parameters[name] for name in claims.trained}
    return Parts(
        config=config,
        world=world,
        objective=objective,
        claims=claims,
        trained=trained,
        optimizer=_optimizer(config, claims, trained, world),
        data=data,
        held_out=held_out,
        empty_batch=empty_batch(model.config),
        weights_id=weights_id(folder),
        work=work,
    )


def open_data(
    config: TrainConfig, model: XverseVForConditionalGeneration, processor: XverseVProcessor, world: World
) -> tuple[StepData, StepData | None]:
    """Training and held-out data. The leading rank goes first: it makes the indexes that the others then find."""

    def opened(data: DataConfig, name: str) -> StepData:
        tower = tower_hash(model) if data.features is not None else None
        skips = config.run / f"skipped-{name}-{world.rank:05d}.jsonl"
        return StepData(data, processor, cache=config.run / "index", tower=tower, skip_log=skips)

    if not world.leads:
        dist.barrier()
    data = opened(config.data, "train")
    held_out = opened(config.validation.data, "validation") if config.validation else None
    if world.leads:
        dist.barrier()
    return data, held_out


def stage_network(model: XverseVForConditionalGeneration, config: TrainConfig) -> Claims:
    """Start anew what the stage says, add its adapters, then apply its rules."""
    if config.stage.fresh is not None:
        start_anew(model, config.stage.fresh, config.seed)
    if config.stage.lora is not None:
        add_lora(model, config.stage.lora, config.seed)
    return apply_stage(model, config.stage)


def _optimizer(
    config: TrainConfig, claims: Claims, trained: Mapping[str, nn.Parameter], world: World
) -> torch.optim.AdamW:
    """AdamW with one group a rule, in the order of the rules; the loop sets the rates."""
    settings = config.optimisation

    def group(rule: Rule) -> dict[str, object]:
        return {
            "params": [trained[name] for name in claims.rules[rule.name]],
            "lr": rule.lr,
            "weight_decay": rule.weight_decay,
        }

    fused = world.device.type == "cuda" and not config.distribution.cpu_offload
    return torch.optim.AdamW(
        [group(rule) for rule in config.stage.rules],
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=fused,
    )


def describe(config: TrainConfig) -> list[str]:
    """What would train, in words, from the configuration of the model alone: no weights are read."""
    folder = model_folder(config.model)
    if not (folder / "config.json").is_file():
        raise error("E300", path=folder)
    model = skeleton(XverseVConfig.from_pretrained(folder), attention=None, dtype=torch.float32)
    return in_words(config.stage, stage_network(model, config))
