"""The settings of a training run: one frozen document, every field explained, nothing accepted unread.

What crosses: a YAML recipe and `key=value` overrides in; a `TrainConfig` and the origin of each of its values out.
Unknown keys are refused with the nearest known one. This file reads no weights and no data, and it decides nothing:
what a value does is said where it is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xverse_v.errors import error

from .data.config import DataConfig
from .origins import lines_of, origins_of, yaml_lines

DECODER_LINEARS = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class LoraSettings(_Settings):
    """Low-rank adapters on linears of the decoder. The defaults are the release's rank, scale and linears."""

    rank: int = Field(128, ge=1, description="Rank of each adapter.")
    alpha: float = Field(256.0, gt=0, description="Scale: an adapter adds (alpha / rank) B A.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Probability of dropping an input of an adapter.")
    linears: str = Field(
        DECODER_LINEARS, description="Regular expression on the full names of the linears; decoder only."
    )


class Rule(_Settings):
    """One group of trained parameters with rates of its own."""

    name: str = Field(description="What the log calls the group, for example `projector`.")
    match: str = Field(description="Regular expression on full parameter names; it must match the whole name.")
    lr: float = Field(gt=0, description="Peak learning rate.")
    min_lr: float = Field(0.0, ge=0, description="Learning rate at the end of the cosine.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of AdamW.")


class Stage(_Settings):
    """What trains. Every parameter that no rule claims is frozen, and the log says so."""

    name: str = Field(description="What the log calls the stage: pretrain, finetune, or your own word.")
    rules: tuple[Rule, ...] = Field(min_length=1, description="The groups; no parameter may be claimed twice.")
    lora: LoraSettings | None = Field(None, description="Adapters to add before the rules are read; null for none.")
    fresh: str | None = Field(
        None, description="Regular expression on full names of parameters to start anew from the seed."
    )


class Optimisation(_Settings):
    """AdamW and the shape of the learning rate over the run."""

    steps: int = Field(ge=1, description="Optimizer steps of the whole run.")
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up to the peak; then a cosine to min_lr.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of AdamW's mean.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of AdamW's square.")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    clip: float | None = Field(1.0, gt=0, description="Largest norm of the whole gradient; null for no clipping.")

    @model_validator(mode="after")
    def _warmup_ends(self) -> Optimisation:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, more than steps, {self.steps}")
        return self


class Distribution(_Settings):
    """Where and how the network is computed. Nothing here may change which samples a step sees."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA if there is one.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the computation and of frozen weights; auto: float32 on the CPU, bfloat16 elsewhere. "
        "What trains is float32.",
    )
    shard: Literal["replicate", "full", "hybrid"] = Field(
        "replicate",
        description="replicate: frozen weights whole on every device, what trains sharded; full: everything sharded "
        "over all devices; hybrid: everything sharded inside groups of shard_size devices, replicated between them.",
    )
    shard_size: int | None = Field(
        None, ge=1, description="Devices of one group for shard=hybrid; null: those of one machine."
    )
    cpu_offload: bool = Field(
        False, description="Keep sharded weights and the optimizer in host memory (shard=full, CUDA only)."
    )
    activation_checkpointing: bool = Field(
        False, description="Recompute decoder layers in the backward pass to save memory."
    )
    compile: bool = Field(False, description="torch.compile each decoder layer.")
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = Field(
        "sdpa", description="Attention kernel; packed rows are kept apart by each of them."
    )
    loss_chunk: int = Field(2048, ge=1, description="Supervised positions whose logits exist at one time.")
    timeout_seconds: float = Field(1800.0, gt=0, description="Of one collective operation.")
    stall_seconds: float = Field(
        600.0, gt=0, description="Without progress for this long the watchdog reports and stops the run."
    )


class Checkpoints(_Settings):
    """When the state is written. The last step is always written."""

    every: int = Field(500, ge=1, description="Steps between checkpoints.")
    keep: int = Field(
        3, ge=1, description="Newest checkpoints to keep; older ones are deleted after a new one is complete."
    )
    background: bool = Field(
        True, description="Write while training goes on; the state is copied to host memory first."
    )


class Logs(_Settings):
    """Who is told. `log.jsonl` in the run folder is always written."""

    every: int = Field(10, ge=1, description="Steps between lines.")
    tensorboard: bool = Field(False, description="Also write TensorBoard events to the run folder.")
    wandb: str | None = Field(None, description="Also report to this Weights & Biases project.")
    peak_tflops: float | None = Field(
        None, gt=0, description="Peak of one device for MFU; null: by the device's name, or not said."
    )


class Validation(_Settings):
    """Loss on held-out data, dropout off."""

    data: DataConfig = Field(description="The held-out set, in the same form as `data`.")
    every: int = Field(ge=1, description="Steps between evaluations; the last step is always evaluated.")
    steps: int = Field(ge=1, description="Global batches of the held-out set, always the first ones of its order.")


class TrainConfig(_Settings):
    """A run, whole."""

    run: Path = Field(description="Folder of the run: checkpoints, logs, the resolved settings.")
    model: str = Field(description="Model folder to start from, or `nano` for the built-in one.")
    seed: int = Field(0, ge=0, description="Of adapters and dropout; the order of samples has data.seed.")
    stage: Stage = Field(description="What trains, and how fast.")
    data: DataConfig = Field(description="What it learns from.")
    optimisation: Optimisation = Field(description="AdamW and its schedule.")
    distribution: Distribution = Field(Distribution.model_validate({}), description="Devices, number formats, memory.")
    checkpoints: Checkpoints = Field(Checkpoints.model_validate({}), description="When the state is written.")
    logs: Logs = Field(Logs.model_validate({}), description="Who is told.")
    validation: Validation | None = Field(None, description="Loss on held-out data; null for none.")


@dataclass(frozen=True)
class Resolved:
    """A configuration and where each value came from (`data.seed` -> `default`, `recipe.yaml:7`, `command line`)."""

    config: TrainConfig
    origins: Mapping[str, str]

    def as_yaml(self) -> str:
        """The resolved settings with their origins as comments; readable again by `read_config`."""
        lines = []
        for line, path in yaml_lines(self.config.model_dump(mode="json")):
            origin = self.origins.get(path, "")
            lines.append(f"{line}  # {origin}" if origin else line)
        return "\n".join(lines) + "\n"


def read_config(path: Path, overrides: Sequence[str] = ()) -> Resolved:
    """A recipe with `key.key=value` overrides; list items by number (`data.sources.0.path=x`).

    Raises E250 (no such file, not YAML), E251 (unknown key), E252 (a value that does not fit), E253 (an override
    without `=`).
    """
    try:
        text = path.read_text(encoding="utf-8")
        document, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise error("E250", path=path, problem=str(problem).replace("\n", " ")) from None
    if not isinstance(document, dict):
        raise error("E250", path=path, problem=f"it holds {type(document).__name__}, expected keys and values")
    given = {name: f"{path.name}:{line}" for name, line in lines_of(node, "")}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not name:
            raise error("E253", given=override)
        _put(document, name, _parsed(value), override)
        given = {key: origin for key, origin in given.items() if not key.startswith(f"{name}.")}
        given[name] = "command line"
    try:
        config = TrainConfig.model_validate(document)
    except ValidationError as problem:
        raise _explained(problem, path) from None
    return Resolved(config, origins_of(config.model_dump(mode="json"), given))


def _parsed(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _put(document: Any, name: str, value: Any, override: str) -> None:
    """Set `a.0.b` in nested dictionaries and lists, making dictionaries on the way."""
    *way, last = name.split(".")
    for key in way:
        if isinstance(document, list):
            document = document[_index(document, key, override)]
        else:
            if not isinstance(document.get(key), dict | list):
                document[key] = {}
            document = document[key]
    if isinstance(document, list):
        document[_index(document, last, override)] = value
    else:
        document[last] = value


def _index(items: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise error("E253", given=override)
    return int(key)


def _explained(problem: ValidationError, path: Path) -> Exception:
    """The first fault of a document as one of our errors; an unknown key first, as it is often why another is
    missing."""
    first = min(problem.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        return error("E251", path=path, key=name, nearest=near[0] if near else ", ".join(known) or "-")
    got = first.get("input")
    said = "nothing" if first["type"] == "missing" else repr(got)[:80]
    return error("E252", path=path, key=name or "the document", got=said, problem=first["msg"])


def _fields_at(location: Sequence[str | int]) -> list[str]:
    """Names of the fields that a place in the document may have."""
    here: Any = TrainConfig
    for part in location:
        if isinstance(part, str) and part in here.model_fields:
            here = _model_in(here.model_fields[part].annotation) or here
    return list(here.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in get_args(annotation))
    return next((model for model in found if model is not None), None)
