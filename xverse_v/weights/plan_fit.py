"""What fits, and the smallest change that would: changes are really tried, gentlest first, never estimated.

In: a shape, the options of a run, a number of bytes. Out: changes in the flags' own spelling with what each saves. The
planners are called again for every one tried; nothing here knows a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
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

    Empty when it fits as it is, or when nothing helps.
    """
    return _changes(lambda tried: plan_inference(shape, tried), options, inference_ladders(options), memory)


def changes_for_training(shape: ModelShape, options: TrainingOptions, memory: int) -> list[Change]:
    """As `changes_for_inference`, for a training stage."""
    return _changes(lambda tried: plan_training(shape, tried), options, training_ladders(options), memory)


def inference_ladders(options: InferenceOptions) -> list[Ladder]:
    """Settings in the order of what they cost the user; each ladder from its gentlest step on."""
    rows = range(options.batch - 1, 0, -max(1, options.batch // MOST_TRIED))
    batch = [Step(f"--batch {count}", {"batch": count}, "same answers, fewer at a time") for count in rows]
    quantised = "an engine that quantises; published for the text model alone, MMLU 60.2 in bfloat16, "
    return [
        batch,
        _half_precision(options.dtype),
        _tiles(options.max_tiles) if options.images else [],
        [
            Step(f"--new-tokens {count}", {"new_tokens": count}, "longer answers end early")
            for count in (512, 256, 128, 64, 16)
            if count < options.new_tokens
        ],
        _gpus(options),
        _dtypes(options.dtype, "int8", quantised + "60.3 in int8"),
        _dtypes(options.dtype, "int4", quantised + "55.0 in int4"),
    ]


def training_ladders(options: TrainingOptions) -> list[Ladder]:
    """Settings in the order of what they cost: time first, then detail, then hardware, then capacity of the adapter."""
    tokens, halves = options.micro_tokens // 2, []
    while tokens >= 128:
        halves.append(Step(f"--micro-tokens {tokens}", {"micro_tokens": tokens}, "more, smaller micro-batches a step"))
        tokens //= 2
    again = Step("--checkpointing", {"checkpointing": True}, "each layer is computed twice: about a third more time")
    ranks = [rank for rank in (64, 32, 16, 8) if rank < options.rank]
    return [
        _half_precision(options.dtype),
        [] if options.checkpointing else [again],
        halves,
        _tiles(options.max_tiles) if options.images else [],
        _gpus(options),
        [Step(f"--lora-rank {rank}", {"lora_rank": rank}, "an adapter that can learn less") for rank in ranks],
    ]


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
    plan_of: Callable[[Options], Plan], options: Options, ladders: Iterable[Ladder], memory: int
) -> list[Change]:
    now: int = plan_of(options).total_bytes
    if now <= memory:
        return []
    found: list[Change] = []
    together: list[Step] = []
    for ladder in ladders:
        if change := _first_that_fits(plan_of, options, [], ladder, memory, now):
            found.append(change)
        elif not found and ladder:
            if combined := _first_that_fits(plan_of, options, together, ladder, memory, now):
                return [combined, *_alone(plan_of, options, ladders, memory, now)]
            together = _with_best(plan_of, options, together, ladder)
    return found


def _alone(
    plan_of: Callable[[Options], Plan], options: Options, ladders: Iterable[Ladder], memory: int, now: int
) -> list[Change]:
    tried = (_first_that_fits(plan_of, options, [], ladder, memory, now) for ladder in ladders)
    return [change for change in tried if change]


def _first_that_fits(
    plan_of: Callable[[Options], Plan], options: Options, before: list[Step], ladder: Ladder, memory: int, now: int
) -> Change | None:
    for step in ladder:
        steps = [*before, step]
        total = _total(plan_of, options, steps)
        if total is not None and total <= memory:
            flags = " ".join(tried.flag for tried in steps)
            return Change(flags, now - total, total, "; ".join(dict.fromkeys(tried.cost for tried in steps)))
    return None


def _with_best(plan_of: Callable[[Options], Plan], options: Options, before: list[Step], ladder: Ladder) -> list[Step]:
    """`before` with the ladder's most saving step, if any step saves something on top of it."""
    base = _total(plan_of, options, before)
    totals = [(total, step) for step in ladder if (total := _total(plan_of, options, [*before, step])) is not None]
    if base is None or not totals:
        return before
    least = min(total for total, _ in totals)
    return [*before, next(step for total, step in totals if total == least)] if least < base else before


def _total(plan_of: Callable[[Options], Plan], options: Options, steps: Iterable[Step]) -> int | None:
    """Bytes with these steps taken; None when they cannot be (heads that do not divide, a sample above the row)."""
    fields: dict[str, Any] = {}
    for step in steps:
        fields |= step.fields
    try:
        return plan_of(replace(options, **fields)).total_bytes
    except XverseError:
        return None
