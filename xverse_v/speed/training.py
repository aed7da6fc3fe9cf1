"""Training steps, timed: both stages on random weights, samples padded and packed, with and without recomputation.

In: a size and a `TrainingCase`. Out: `Record`s whose percent of the ceiling is MFU: what the mathematics of the real
tokens needs (no padding, nothing recomputed) over the measured time and the measured matrix rate. What runs is the
trainer's own step (`training.train.update`: micro-batches of its own data code, its objective, its sharding, clipping
and AdamW), on samples that are written to a temporary folder. Nothing is saved and nothing learned.

On a card the network computes in bfloat16 with flash attention where it is installed; what trains stays float32.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from xverse_v.errors import error
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.generate import image_size, noise_image
from xverse_v.speed.peaks import peak_bytes
from xverse_v.speed.peers import OURS
from xverse_v.speed.records import Goal, Record, Sample, number, timed
from xverse_v.speed.roofline_training import StepWork, step_work
from xverse_v.speed.sizes import build_network, build_processor
from xverse_v.training import logs
from xverse_v.training.build import stage_network
from xverse_v.training.checkpoint import Saver
from xverse_v.training.config import TrainConfig
from xverse_v.training.data.batches import MicroBatch, StepData
from xverse_v.training.distributed import World, shard, start, stop
from xverse_v.training.loss import Objective, empty_batch
from xverse_v.training.train import Run, update
from xverse_v.training.watchdog import Watchdog
from xverse_v.weights.plan_training import TrainingOptions
from xverse_v.weights.shapes import ModelShape

StageName = Literal["pretrain", "finetune"]
RANK = 128
"""Of the adapters, the release's."""
QUESTION, ANSWER = (
    "What is to be seen in this image, and where is it? " * 2,
    "A made image of noise, from edge to edge. " * 3,
)
PROJECTOR = {"name": "projector", "match": r"model\.multi_modal_projector\..*", "lr": 1e-5}
ADAPTERS = {"name": "adapters", "match": r".*\.lora_[AB]\.default\.weight", "lr": 1e-5}


@dataclass(frozen=True)
class TrainingCase:
    """views: of each sample of a step. In padded batches every row is as long as the sample of most views."""

    shape: ModelShape
    views: tuple[int, ...] = (1, 1, 3)
    stages: tuple[StageName, ...] = ("pretrain", "finetune")
    packing: tuple[bool, ...] = (True, False)
    checkpointing: tuple[bool, ...] = (False, True)
    repeats: int = 3
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises E812, E814."""
        for views in self.views:
            image_size(views)
        if self.repeats < 1:
            raise error("E814", flag="--repeat", given=self.repeats, least=1)

    @property
    def attention(self) -> str:
        """Flash attention where it is; it never runs on a CPU or in float32."""
        there = torch.device(self.device).type == "cuda" and self.dtype != "float32"
        return "flash_attention_2" if there and find_spec("flash_attn") else "sdpa"


@dataclass(frozen=True)
class Batches:
    """The micro-batches of one step; `samples`: views, tokens and supervised tokens of each."""

    micro: list[MicroBatch]
    samples: tuple[tuple[int, int, int], ...] = field(default_factory=tuple)

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(tokens for _, tokens, _ in self.samples)

    @property
    def computed(self) -> int:
        """With padding."""
        return sum(batch.input_ids.numel() for batch in self.micro)


def measure_training(
    case: TrainingCase, ceilings: Ceilings, note: Callable[[str], None] = lambda text: None
) -> list[Record]:
    """A row for each stage, form of batch and way of keeping activations, and its peak of memory.

    Raises E812, E814, and what a step raises (E257 for numbers that are none).
    """
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="xverse-v-speed-") as place:
        folder = Path(place)
        write_samples(case, folder)
        for stage in case.stages:
            for checkpointing in case.checkpointing:
                with open_run(case, stage, checkpointing, folder) as run:
                    for packing in case.packing:
                        found = _measure(run, case, stage, packing, checkpointing, folder, ceilings)
                        records += found
                        note(f"{stage}, {_words(found[0])}: {number(found[0].value)} s a step")
    return records


def _words(record: Record) -> str:
    shown = record.settings
    return f"{shown['batch']}, recomputation {shown['recomputation']}"


def _measure(
    run: Run, case: TrainingCase, stage: StageName, packing: bool, checkpointing: bool, folder: Path, ceilings: Ceilings
) -> list[Record]:
    """One call of the step is not counted; its peak of memory is."""
    batches = make_batches(case, folder, packing=packing)
    done = iter(range(1, 10_000))

    def step() -> None:
        update(run, next(done), list(batches.micro))

    peak = peak_bytes(step, case.device)
    samples: list[Sample] = [timed(step, case.device) for _ in range(case.repeats)]
    work = work_of(case, stage, batches, checkpointing=checkpointing)
    settings = {
        "model": case.shape.name,
        "dtype": case.dtype,
        "attention": case.attention,
        "stage": stage,
        "batch": "packed" if packing else "padded",
        "recomputation": "on" if checkpointing else "off",
        "samples": len(batches.samples),
        "tokens": batches.tokens,
        "with padding": batches.computed,
    }
    least = work[0] / ceilings.matrix[case.dtype].best
    wall, cpu = tuple(s.wall for s in samples), tuple(s.cpu for s in samples)
    again = 100 * (work[1] / work[0] - 1)
    words = "percent of the ceiling is MFU"
    words += f"; {again:.0f} % is computed twice to save memory" if checkpointing else ""
    found = [Record("training step", OURS, "s", wall, settings, least, "matrix rate", cpu, note=words)]
    if peak is not None:
        found.append(Record("training step, memory", OURS, "GB", (peak / 1e9,), settings, note="above the weights"))
    return found


def work_of(case: TrainingCase, stage: StageName, batches: Batches, *, checkpointing: bool) -> tuple[float, float]:
    """FLOPs that the mathematics of all samples needs, and FLOPs with what is computed twice."""
    useful = executed = 0.0
    for views, tokens, supervised in batches.samples:
        work: StepWork = step_work(
            case.shape,
            TrainingOptions(
                stage=stage,
                images=(image_size(views),),
                question_tokens=tokens - views * case.shape.vision.patches - supervised,
                new_tokens=supervised,
                micro_tokens=tokens,
                checkpointing=checkpointing,
                lora_rank=RANK,
                dtype=case.dtype,
            ),
        )
        useful, executed = useful + work.useful.flops, executed + work.executed.flops
    return useful, executed


def write_samples(case: TrainingCase, folder: Path) -> None:
    """Images and a file of conversations, one for each sample of a step."""
    records = []
    for index, views in enumerate(case.views):
        noise_image(*image_size(views), seed=index).save(folder / f"{index}.png")
        turns = [{"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": ANSWER}]
        records.append({"id": str(index), "image": f"{index}.png", "conversations": turns})
    (folder / "samples.json").write_text(json.dumps(records), encoding="utf-8")


def make_batches(case: TrainingCase, folder: Path, *, packing: bool) -> Batches:
    """The trainer's micro-batches of these samples: all in one row, or a row each."""
    config = train_config(case, "pretrain", False, folder, packing=packing)
    data = StepData(config.data, build_processor(case.shape), cache=folder / "index")
    micro, _ = data.make(0, 0, 1)
    samples = []
    for batch in micro:
        names = iter(batch.sample_ids)
        for row, segments in enumerate(batch.segment_ids):
            for segment in range(int(segments.max()) + 1):
                here = segments == segment
                supervised = int((batch.labels[row][here] != -100).sum())
                samples.append((case.views[int(next(names))], int(here.sum()), supervised))
    return Batches(micro, tuple(samples))


def train_config(
    case: TrainingCase, stage: StageName, checkpointing: bool, folder: Path, *, packing: bool = True
) -> TrainConfig:
    """The recipe of such a run."""
    longest = sum(case.views) * case.shape.vision.patches + 1024 * len(case.views)
    rules: list[dict[str, Any]] = [PROJECTOR, *([ADAPTERS] if stage == "finetune" else [])]
    return TrainConfig.model_validate(
        {
            "run": folder / "run",
            "model": f"random weights of size {case.shape.name}",
            "stage": {"name": stage, "rules": rules, "lora": {"rank": RANK} if stage == "finetune" else None},
            "data": {
                "sources": [{"path": folder / "samples.json"}],
                "global_batch": len(case.views),
                "micro_batch": len(case.views),
                "max_length": longest,
                "packing": packing,
            },
            "optimisation": {"steps": 10_000},
            "distribution": {
                "device": torch.device(case.device).type,
                "dtype": case.dtype,
                "activation_checkpointing": checkpointing,
                "attention": case.attention,
            },
            "checkpoints": {"background": False},
        }
    )


@contextmanager
def open_run(case: TrainingCase, stage: StageName, checkpointing: bool, folder: Path) -> Iterator[Run]:
    """Everything the trainer's step touches, around random weights that are drawn on the device itself."""
    config = train_config(case, stage, checkpointing, folder)
    world = start(config.distribution)
    try:
        run = _run(case, config, world, folder)
        with run.watch:
            yield run
        run.journal.close()
        run.saver.stop()
    finally:
        stop()


def _run(case: TrainingCase, config: TrainConfig, world: World, folder: Path) -> Run:
    network = build_network(case.shape, dtype=case.dtype, device=case.device, attention=case.attention)
    claims = stage_network(network, config)
    work = logs.Work(network)
    objective = Objective(network, loss_chunk=config.distribution.loss_chunk)
    core = network.model
    shard(objective, [*core.language_model.layers, core.vision_tower], config.distribution, world)
    parameters = dict(objective.network.named_parameters())
    trained = {name: parameters[name] for name in claims.trained}
    groups = [{"params": [trained[name] for name in names]} for names in claims.rules.values()]
    return Run(
        config=config,
        world=world,
        objective=objective,
        claims=claims,
        trained=trained,
        optimizer=torch.optim.AdamW(groups, lr=0.0, fused=world.device.type == "cuda"),
        data=StepData(config.data, build_processor(case.shape), cache=folder / "index"),
        held_out=None,
        empty_batch=empty_batch(network.config),
        weights_id="random",
        work=work,
        journal=logs.Journal(config.run, config.logs, leads=False, name="speed"),
        meter=logs.Meter(work, 1, None),
        watch=Watchdog(config.run, world.rank, config.distribution.stall_seconds),
        saver=Saver(config.run, keep=1, background=False, weights_id="random", settings={}),
    )


def goals(records: Sequence[Record], least: float = 50.0) -> list[Goal]:
    """MFU of each stage at its best; wanted of a card only."""
    found = []
    steps = [record for record in records if record.what == "training step"]
    for stage in dict.fromkeys(record.settings["stage"] for record in steps):
        best = max(record.percent or 0.0 for record in steps if record.settings["stage"] == stage)
        found.append(Goal(f"{stage}: MFU", f"at least {least:.0f} %", f"{best:.0f} %", best >= least))
    return found
