"""The training loop. `main` reads, `build` makes, `train` runs; one loop serves every stage and every number of ranks.

What crosses: a resolved configuration in; a run folder out (settings, log, checkpoints). Which samples a step sees
depends on the data's seed and the step alone. The loss of a step is the sum of its token losses divided by its
supervised tokens over all ranks, so neither ranks nor micro-batches change it. This file knows no file formats, no
kernels and no learning-rate formula.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from xverse_v.errors import XverseError, error

from . import logs
from .build import Parts, build
from .checkpoint import Saver, complete_steps, restore, state_of
from .config import Resolved
from .data.batches import MicroBatch
from .distributed import gradient_norm, start, stop, synchronise
from .lora import key_of
from .resume import check_run_folder, check_weights, last_step
from .schedule import learning_rate
from .stage import in_words, set_modes
from .watchdog import HEARTBEATS, Watchdog

log = logging.getLogger(__name__)


@dataclass
class Run(Parts):
    """Everything the loop touches."""

    journal: logs.Journal
    meter: logs.Meter
    watch: Watchdog
    saver: Saver


def main(resolved: Resolved, *, resume: bool) -> float | None:
    """Train to the last step, from the newest complete checkpoint if `resume`. Returns the last loss, None if
    nothing was left to do.

    Raises E250 to E299 and what data and weights raise.
    """
    config = resolved.config
    world = start(config.distribution)
    try:
        resume = resume or world.attempt > 0
        first = last_step(config) if resume else 0
        check_run_folder(resolved, first, resume=resume, leads=world.leads)
        dist.barrier()
        parts = build(config, world)
        if first:
            check_weights(config, first, parts.weights_id)
            restore(config.run, first, parts.trained, parts.optimizer)
        with ExitStack() as stack:
            run = _open(parts, stack)
            if world.leads:
                _introduce(run, first)
            return train(run, first)
    finally:
        stop()


def train(run: Run, first: int) -> float | None:
    """Steps `first` + 1 to the last. Returns the last step's loss."""
    settings, world, facts = run.config, run.world, dict[str, float]()
    last = settings.optimisation.steps
    for step in range(first + 1, last + 1):
        run.watch.at(step, "data", partial(rows_of_step, run, step))
        began = time.perf_counter()
        batches = list(run.data.micro_batches(step - 1, world.rank, world.size))
        waited = time.perf_counter() - began
        facts = update(run, step, batches)
        run.meter.add(facts["tokens"], facts["supervised"], facts["views"], waited)
        if step % settings.logs.every == 0 or step == last:
            report(run, step, facts)
        if settings.validation and (step % settings.validation.every == 0 or step == last):
            validate(run, step)
        if step % settings.checkpoints.every == 0 or step == last:
            run.watch.at(step, "checkpoint")
            run.saver.save(step, state_of(run.trained, run.optimizer))
    run.saver.finish()
    return facts.get("loss")


def rows_of_step(run: Run, step: int) -> list[str]:
    """Where this rank's samples of a step stand in the data, before they are read."""
    rows = run.data.samples_of_step(step - 1)[run.world.rank :: run.world.size]
    paths = [source.path.name for source in run.config.data.sources]
    return [f"{paths[source]}[{index}]" for source, index in rows]


def update(run: Run, step: int, batches: list[MicroBatch]) -> dict[str, float]:
    """One optimizer step. Returns its loss, gradient norm and counts over all ranks. Raises E257 before it changes."""
    world, settings = run.world, run.config.distribution
    batches, counts = agree(run, step, batches)
    losses = []
    for number, batch in enumerate(batches):
        samples = batch.sample_ids
        torch.manual_seed(key_of(run.config.seed, step, number, world.rank))
        run.objective.set_dropout(batch, run.config.seed, step)
        synchronise(run.objective, settings, last=number == len(batches) - 1)
        run.watch.at(step, "forward", samples)
        loss = run.objective(batch.to(world.device))
        run.watch.at(step, "backward", samples)
        # FSDP averages over ranks; the sum is wanted.
        (loss * (world.size / counts["supervised"])).backward()
        losses.append(loss.detach())
    run.watch.at(step, "reduce")
    [total] = world.sums(float(torch.stack(losses).double().sum()))
    norm = gradient_norm(run.trained.values())
    if not (math.isfinite(total) and math.isfinite(norm)):
        raise not_finite(run, step, batches, losses, norm)
    run.objective.gradients_finite.clear()
    run.watch.at(step, "update")
    clip = run.config.optimisation.clip
    for group, rule in zip(run.optimizer.param_groups, run.config.stage.rules, strict=True):
        group["lr"] = learning_rate(rule, step, run.config.optimisation)
        if clip is not None and norm > clip:
            for parameter in group["params"]:
                parameter.grad.mul_(clip / norm)
    run.optimizer.step()
    run.optimizer.zero_grad()
    return {"loss": total / counts["supervised"], "gradient_norm": norm, **counts}


def agree(run: Run, step: int, batches: list[MicroBatch]) -> tuple[list[MicroBatch], dict[str, float]]:
    """The same number of micro-batches on every rank (empty ones are added), and the counts of the step over all ranks.

    Raises E265 if nothing in the step is supervised.
    """
    run.watch.at(step, "count")
    supervised, tokens, views, skipped = run.world.sums(
        sum(b.supervised for b in batches),
        sum(b.input_ids.numel() for b in batches),
        sum(len(b.pixel_values) for b in batches if b.pixel_values is not None),
        run.data.skipped,
    )
    if not supervised:
        names = [name for b in batches for name in b.sample_ids]
        raise error("E265", step=step, samples=", ".join(names[:8]) or "-")
    most = int(run.world.largest(len(batches)))
    batches = batches + [run.empty_batch] * (most - len(batches))
    return batches, {"supervised": supervised, "tokens": tokens, "views": views, "skipped": skipped}


def not_finite(run: Run, step: int, batches: list[MicroBatch], losses: list[torch.Tensor], norm: float) -> XverseError:
    """E257, the same on every rank: which ranks and samples made a loss or a gradient that is not a number."""
    flags = zip(batches, losses, run.objective.gradients_finite, strict=True)
    found = [
        (run.world.rank, "gradient" if loss.isfinite() else "loss", batch.sample_ids)
        for batch, loss, gradient_finite in flags
        if not (loss.isfinite() and gradient_finite)
    ]
    every = [item for items in run.world.gather(found) for item in items]
    where = [f"rank {rank}: {what} of {', '.join(samples)}" for rank, what, samples in every]
    ranks = ", ".join(str(rank) for rank in sorted({rank for rank, _, _ in every}))
    return error(
        "E257",
        step=step,
        ranks=ranks or "all",
        norm=f"{norm:g}",
        where="; ".join(where) or "only the sum overflows",
        saved=max(complete_steps(run.config.run), default=0),
    )


@torch.no_grad()
def validate(run: Run, step: int) -> float:
    """Loss on the held-out set, dropout off; logged and returned."""
    settings = run.config.validation
    assert settings is not None and run.held_out is not None
    set_modes(run.objective, training=False)
    run.objective.features = settings.data.features is not None
    total = supervised = 0.0
    for number in range(settings.steps):
        run.watch.at(step, "validation")
        batches, counts = agree(run, step, list(run.held_out.micro_batches(number, run.world.rank, run.world.size)))
        losses = [run.objective(batch.to(run.world.device)).double() for batch in batches]
        total += float(sum(losses))
        supervised += counts["supervised"]
    for module in run.objective.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    set_modes(run.objective, training=True)
    run.objective.features = run.config.data.features is not None
    [total] = run.world.sums(total)
    loss = total / supervised
    run.journal.step(step, {"validation_loss": loss})
    if run.world.leads:
        log.info("step %d/%d: validation loss %.4f", step, run.config.optimisation.steps, loss)
    return loss


def _open(parts: Parts, stack: ExitStack) -> Run:
    """The run with its log, its watchdog and its writer of checkpoints; `stack` closes them, the writer last of all
    work."""
    config, world = parts.config, parts.world
    journal = logs.Journal(config.run, config.logs, leads=world.leads, name=config.run.name)
    stack.callback(journal.close)
    watch = stack.enter_context(Watchdog(config.run / HEARTBEATS, world.rank, config.distribution.stall_seconds))
    saver = Saver(
        config.run,
        keep=config.checkpoints.keep,
        background=config.checkpoints.background,
        weights_id=parts.weights_id,
        settings=config.model_dump(mode="json"),
    )
    stack.callback(saver.stop)
    meter = logs.Meter(parts.work, world.size, logs.peak_tflops(config.logs, world.device))
    return Run(**vars(parts), journal=journal, meter=meter, watch=watch, saver=saver)


def _introduce(run: Run, first: int) -> None:
    """What this run is, in words and in the journal."""
    config, world = run.config, run.world
    for line in in_words(config.stage, run.claims):
        log.info("%s", line)
    steps = f"steps {first + 1} to {config.optimisation.steps}"
    log.info("%s on %d x %s, %s, %s", steps, world.size, world.device.type, world.dtype, config.distribution.shard)
    facts = {"ranks": world.size, "device": world.device.type, "dtype": str(world.dtype).removeprefix("torch.")}
    versions = {"torch": torch.__version__}
    names = {
        "trained": {rule: list(names) for rule, names in run.claims.rules.items()},
        "frozen": list(run.claims.frozen),
    }
    run.journal.event(
        "start", after_step=first, attempt=world.attempt, weights_id=run.weights_id, **facts, **versions, **names
    )


def report(run: Run, step: int, facts: Mapping[str, float]) -> None:
    """A line of the log."""
    config = run.config
    rates = {rule.name: learning_rate(rule, step, config.optimisation) for rule in config.stage.rules}
    numbers = run.meter.numbers(config.optimisation.steps - step)
    run.journal.step(step, {**facts, **{f"rate/{name}": rate for name, rate in rates.items()}, **numbers})
    if run.world.leads:
        log.info("%s", logs.in_words(step, config.optimisation.steps, facts, rates, numbers))
