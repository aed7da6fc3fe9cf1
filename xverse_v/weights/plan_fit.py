"""What fits, and the smallest change that would: changes are really tried, gentlest first, never estimated.

In: a shape, the options of a run, a number of bytes. Out: changes in the flags' own spelling with what each saves. The
planners are called again for every one tried; nothing here knows a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, TypeVar

from xverse_v.errors import XverseError
from xverse_v.weights.plan import InferenceOptions, plan_inference
from xverse_v.weights.plan_table import Plan
from xverse_v.weights.plan_training import TrainingOptions, plan_training
from xverse_v.weights.shapes import ModelShape

GPU_COUNTS = (2, 4, 8, 16)
MOST_TRIED = 64
"""Steps tried on the way from a batch down to one row."""


@dataclass(frozen=True)
class Change:
    """One or more flags that make the run fit: bytes saved, the new total, and what they cost the user."""

    flags: str
    saves: int
    total: int
    cost: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """One value of one setting: the flag as the user writes it and the options it changes."""

    flag: str
    fields: dict[str, Any]
    cost: str


Options = TypeVar("Options", InferenceOptions, TrainingOptions)
Ladder = Sequence[Step]


def changes_for_inference(shape: ModelShape, options: InferenceOptions, memory: int) -> list[Change]:
    """Every single change that makes it fit into `memory` bytes, gentlest first; if none does alone, one combination.

    Empty when it fits as it is, or when nothing helps. A `Change` names the flags of `xverse-v plan`.
    """
    return _changes(lambda tried: plan_inference(shape, tried), options, inference_ladders(options), memory)


def changes_for_training(shape: ModelShape, options: TrainingOptions, memory: int) -> list[Change]:
    """As `changes_for_inference`, for a training stage."""
    return _changes(lambda tried: plan_training(shape, tried), options, training_ladders(options), memory)


def inference_ladders(options: InferenceOptions) -> list[Ladder]:
    """Settings in the order of what they cost the user; each ladder from its gentlest step on."""
    rows = range(options.batch - 1, 0, -max(1, options.batch // MOST_TRIED))
    batch = [Step(f"--batch {count}", {"batch": count}, "same answers, fewer at a time") for count in rows]
    quantised = "ask --quantise {0}, or an engine that quantises; published for the text model alone, MMLU 60.2 in "
    reuse = {"prefix_bytes": 0, "feature_bytes": 0}
    kept = options.prefix_bytes != 0 or options.feature_bytes != 0
    return [
        [Step("--no-reuse", reuse, "an image is read again for each question")] if kept else [],
        batch,
        _half_precision(options.dtype),
        _tiles(options.max_tiles) if options.images else [],
        [
            Step(f"--new-tokens {count}", {"new_tokens": count}, "longer answers end early")
            for count in (512, 256, 128, 64, 16)
            if count < options.new_tokens
        ],
        _gpus(options),
        _dtypes(options.dtype, "int8", quantised.format("int8") + "bfloat16, 60.3 in int8"),
        _dtypes(options.dtype, "int4", quantised.format("int4") + "bfloat16, 55.0 in int4"),
    ]


def training_ladders(options: TrainingOptions) -> list[Ladder]:
    """Settings in the order of what they cost: time first, then detail, then hardware, then capacity of the adapter."""
    tokens, halves = options.micro_tokens // 2, []
    while tokens >= 128:
        halves.append(Step(f"--micro-tokens {tokens}", {"micro_tokens": tokens}, "more, smaller micro-batches a step"))
        tokens //= 2
    pieces = [
        Step(f"--loss-chunk {count}", {"loss_chunk": count}, "the head in more, smaller pieces")
        for count in (1024, 512, 256)
        if count < options.loss_chunk
    ]
    again = Step("--checkpointing", {"checkpointing": True}, "each layer is computed twice: about a third more time")
    ranks = [rank for rank in (64, 32, 16, 8) if rank < options.rank]
    return [
        _half_precision(options.dtype),
        pieces,
        [] if options.checkpointing else [again],
        halves,
        _tiles(options.max_tiles) if options.images else [],
        _gpus(options),
        [Step(f"--lora-rank {rank}", {"lora_rank": rank}, "an adapter that can learn less") for rank in ranks],
        _offload(options),
    ]


def _offload(options: TrainingOptions) -> Ladder:
    """Keeping what is stored in host memory, with the GPUs there are."""
    if options.offload or options.device.kind == "cpu":
        return []
    fields = {"device": replace(options.device, shard="full"), "offload": True}
    return [Step("--shard full --cpu-offload", fields, "weights wait in host memory and pass through the GPU: slow")]


def _half_precision(dtype: str) -> Ladder:
    if dtype != "float32":
        return []
    return [Step("--dtype bfloat16", {"dtype": "bfloat16"}, "16-bit numbers: close answers may change")]


def _dtypes(given: str, wanted: str, cost: str) -> Ladder:
    return [] if given in ("int4", wanted) else [Step(f"--dtype {wanted}", {"dtype": wanted}, cost)]


def _tiles(most: int) -> Ladder:
    return [
        Step(f"--max-tiles {count}", {"max_tiles": count}, "less detail of large images")
        for count in range(most - 1, 0, -1)
    ]


def _gpus(options: InferenceOptions | TrainingOptions) -> Ladder:
    """Splitting over the GPUs there are, then over more of them. None on a CPU."""
    device = options.device
    if device.kind == "cpu":
        return []
    own = [device.gpus] if device.gpus > 1 and device.shard == "replicate" else []
    counts = own + [count for count in GPU_COUNTS if count > device.gpus]
    return [
        Step(
            f"--gpus {count} --shard full",
            {"device": replace(device, gpus=count, shard="full")},
            f"one model over {count} GPUs" if count == device.gpus else f"{count} GPUs of this size",
        )
        for count in counts
    ]


def _changes(
    plan_of: Callable[[Options], Plan], options: Options, ladders: Sequence[Ladder], memory: int
) -> list[Change]:
    now: int = plan_of(options).total_bytes
    if now <= memory:
        return []

    def total_of(steps: Sequence[Step]) -> float:
        """Bytes with these steps taken; infinite for options that cannot be (heads that do not divide, cut samples)."""
        fields: dict[str, Any] = {}
        for step in steps:
            fields |= step.fields
        try:
            return plan_of(replace(options, **fields)).total_bytes
        except XverseError:
            return inf

    ways = [[step] for ladder in ladders if (step := _gentlest(total_of, [], ladder, memory))]
    if not ways and (steps := _together(total_of, [ladder for ladder in ladders if ladder], memory)):
        ways = [steps]
    return [_change(now, int(total_of(steps)), steps) for steps in ways]


def _change(now: int, total: int, steps: Sequence[Step]) -> Change:
    costs = dict.fromkeys(step.cost for step in steps)
    return Change(" ".join(step.flag for step in steps), now - total, total, "; ".join(costs))


def _gentlest(
    total_of: Callable[[Sequence[Step]], float], others: Sequence[Step], ladder: Ladder, memory: int
) -> Step | None:
    return next((step for step in ladder if total_of([*others, step]) <= memory), None)


def _together(total_of: Callable[[Sequence[Step]], float], ladders: Sequence[Ladder], memory: int) -> list[Step] | None:
    """As few ladders as fit when each is climbed as far as it goes, gentlest first; then each is taken back again."""
    taken: dict[int, Step] = {}
    for index, ladder in enumerate(ladders):
        if possible := [step for step in ladder if total_of([*taken.values(), step]) < inf]:
            taken = {
                place: step for place, step in taken.items() if not step.fields.keys() & possible[-1].fields.keys()
            }
            taken[index] = possible[-1]
        if total_of([*taken.values()]) <= memory:
            break
    else:
        return None
    for index in sorted(taken, reverse=True):
        others = [step for place, step in taken.items() if place != index]
        if total_of(others) <= memory:
            del taken[index]
        elif gentler := _gentlest(total_of, others, ladders[index], memory):
            taken[index] = gentler
    return list(taken.values())
