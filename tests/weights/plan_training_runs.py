"""Training steps whose memory is measured: the trainer's own objective, adapters and modes on small random networks."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.weights.plan_runs import IMAGE_TOKEN, here, network, peak_bytes, stored_bytes
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.training.config import LoraSettings
from xverse_v.training.data.packing import MicroBatch
from xverse_v.training.lora import add_lora
from xverse_v.training.loss import IGNORED, Objective
from xverse_v.training.stage import set_modes
from xverse_v.weights.plan import views_of
from xverse_v.weights.plan_table import Plan, Stage
from xverse_v.weights.plan_training import TrainingOptions, plan_training
from xverse_v.weights.shapes import shape_from_config


@dataclass(frozen=True)
class TrainingRun:
    """Two steps of two micro-batches each, as the recipe defines a step: see `plan_training`."""

    name: str
    stage: Stage
    images: tuple[tuple[int, int], ...] = ((448, 224),)
    question_tokens: int = 30
    new_tokens: int = 20
    samples: int = 1
    checkpointing: bool = False
    rank: int = 8
    dropout: float = 0.05
    loss_chunk: int = 2048
    network: dict[str, Any] = field(default_factory=dict)

    def compare(self) -> tuple[int, Plan]:
        """Measured peak of tensors, weights and optimizer included, and the plan for the same run."""
        model = network(**self.network)
        shape, step = shape_from_config(model.config, name=self.name), TrainingStep(self, model)
        step.run(1)
        measured = stored_bytes(model) + peak_bytes(lambda: step.run(2))
        return measured, plan_training(shape, self.options(model))

    def options(self, model: XverseVForConditionalGeneration) -> TrainingOptions:
        return TrainingOptions(
            stage=self.stage,
            images=self.images,
            question_tokens=self.question_tokens,
            new_tokens=self.new_tokens,
            micro_tokens=self.samples * self.sample_tokens(model),
            checkpointing=self.checkpointing,
            lora_rank=self.rank,
            dropout=self.dropout,
            loss_chunk=self.loss_chunk,
            dtype=str(model.dtype).removeprefix("torch."),
            device=here(),
        )

    def sample_tokens(self, model: XverseVForConditionalGeneration) -> int:
        image_tokens = sum(views_of(self.images, 9)) * model.config.patches_per_view
        return image_tokens + self.question_tokens + self.new_tokens


class TrainingStep:
    """The trainer's own objective, adapters and modes; its engine's storage by hand, on one process.

    Frozen weights in the compute dtype; what trains in float32, with a copy in the compute dtype to compute with.
    """

    def __init__(self, case: TrainingRun, model: XverseVForConditionalGeneration) -> None:
        self.low = model.dtype != torch.float32
        self.trainable = prepare(model, case.stage, case.rank, case.dropout)
        self.objective = Objective(model, loss_chunk=case.loss_chunk)
        if case.checkpointing:
            for block in model.model.language_model.layers:
                again = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
                block.forward = again
        self.views = case.samples * sum(views_of(case.images, 9))
        length = case.sample_tokens(model)
        image_tokens = length - case.question_tokens - case.new_tokens
        text = torch.randint(5, 500, (length - image_tokens,))
        ids = torch.cat([torch.full((image_tokens,), IMAGE_TOKEN), text])
        labels = torch.full((length,), IGNORED)
        labels[-case.new_tokens :] = ids[-case.new_tokens :]
        self.batch = MicroBatch(
            input_ids=ids.repeat(case.samples)[None],
            labels=labels.repeat(case.samples)[None],
            position_ids=torch.arange(length).repeat(case.samples)[None],
            segment_ids=torch.arange(case.samples).repeat_interleave(length)[None],
            pixel_values=None,
            image_features=None,
            sample_ids=tuple(f"sample {index}" for index in range(case.samples)),
            supervised=case.samples * case.new_tokens,
        )

    def run(self, steps: int) -> None:
        """Everything but the network's own weights is made and let go inside."""
        masters = [nn.Parameter(p.detach().float().clone()) for p in self.trainable] if self.low else self.trainable
        hooks = self._hand_over_gradients(masters) if self.low else []
        optimizer = torch.optim.AdamW(masters, lr=1e-3)
        for step in range(steps):
            for _ in range(2):
                # As in the loop, the batch lives until its backward pass is done.
                pixels = torch.randn(self.views, 3, 224, 224) if self.views else None
                batch = replace(self.batch, pixel_values=pixels)
                self.objective.set_dropout(batch, seed=0, step=step)
                self.objective(batch).backward()
                del batch, pixels
            self.objective.gradients_finite.clear()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                for parameter, master in zip(self.trainable, masters if self.low else [], strict=self.low):
                    parameter.copy_(master)
        for hook in hooks:
            hook.remove()

    def _hand_over_gradients(self, masters: list[nn.Parameter]) -> list[Any]:
        """Each gradient leaves for float32 as soon as it is made, as the sharded engine reduces it."""

        def hand_over(master: nn.Parameter, parameter: Tensor) -> None:
            assert parameter.grad is not None
            gradient, parameter.grad = parameter.grad.float(), None
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)

        return [
            parameter.register_post_accumulate_grad_hook(functools.partial(hand_over, master))
            for parameter, master in zip(self.trainable, masters, strict=True)
        ]


def prepare(model: XverseVForConditionalGeneration, stage: Stage, rank: int, dropout: float) -> list[nn.Parameter]:
    """Freeze what the stage freezes, add the adapters of the second one, and return what trains."""
    dtype = model.dtype
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if stage == "full":
        for parameter in [*model.model.language_model.parameters(), *model.lm_head.parameters()]:
            parameter.requires_grad_(True)
    if stage == "finetune":
        add_lora(model, LoraSettings(rank=rank, alpha=2 * rank, dropout=dropout), seed=0)
        model.to(dtype)
    for parameter in model.model.multi_modal_projector.parameters():
        parameter.requires_grad_(True)
    set_modes(model, training=True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
