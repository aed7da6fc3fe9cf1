"""Training steps against torch's own counter: the trainer's objective, both stages, with and without recomputation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from tests.speed.test_roofline import DECODER, SHAPE, VISION, rotary
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.speed.roofline import all_pairs, pairs_flops, seen_pairs
from xverse_v.speed.roofline_training import optimizer_work, step_work
from xverse_v.training.config import LoraSettings
from xverse_v.training.data.batches import MicroBatch
from xverse_v.training.lora import add_lora
from xverse_v.training.loss import Objective
from xverse_v.weights.plan_training import TrainingOptions
from xverse_v.weights.shapes import config_from_shape

QUESTION, ANSWER, RANK = 5, 6, 4
TOKENS = 5 * VISION.patches + QUESTION + ANSWER


def micro_batch(config) -> MicroBatch:
    """One image of five views, a question, a supervised answer; the last answer token has no successor to predict."""
    ids = torch.full((1, TOKENS), config.image_token_id)
    ids[0, -QUESTION - ANSWER :] = 1
    labels = torch.full_like(ids, -100)
    labels[0, -ANSWER:] = 1
    return MicroBatch(
        input_ids=ids,
        labels=labels,
        position_ids=torch.arange(TOKENS)[None],
        segment_ids=torch.zeros_like(ids),
        pixel_values=torch.zeros(5, 3, 56, 56),
        image_features=None,
        sample_ids=("one",),
        supervised=ANSWER,
    )


def counted(stage: str, checkpointing: bool) -> int:
    torch.manual_seed(3)
    config = config_from_shape(SHAPE)
    model = XverseVForConditionalGeneration._from_config(config, attn_implementation="eager", dtype=torch.float32)
    if stage == "finetune":
        names = r"model\.language_model\..*_proj"
        add_lora(model, LoraSettings(rank=RANK, alpha=8.0, dropout=0.0, linears=names), seed=1)
    for name, parameter in model.named_parameters():
        decoder = stage == "full" and "vision_tower" not in name
        parameter.requires_grad_("multi_modal_projector" in name or "lora_" in name or decoder)
    if checkpointing:
        for layer in model.model.language_model.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    with FlopCounterMode(display=False) as counter:
        Objective(model)(micro_batch(model.config)).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stage", ["pretrain", "finetune", "full"])
def test_a_step_is_counted_exactly_but_for_what_the_mask_hides(stage, checkpointing):
    options = TrainingOptions(
        stage=stage,
        images=((112, 112),),
        question_tokens=QUESTION,
        new_tokens=ANSWER,
        micro_tokens=TOKENS,
        checkpointing=checkpointing,
        lora_rank=RANK,
        dtype="float32",
    )
    hidden = pairs_flops(DECODER, all_pairs(TOKENS) - seen_pairs(TOKENS)) * (4 if checkpointing else 3)
    assert counted(stage, checkpointing) - rotary(TOKENS) == step_work(SHAPE, options).executed.flops + hidden
    recomputed = step_work(SHAPE, options).recomputed.flops
    assert (recomputed > 0) == checkpointing


def test_stored_features_spare_the_tower():
    options = TrainingOptions(images=((112, 112),), question_tokens=5, new_tokens=6, micro_tokens=TOKENS)
    with_tower, without = step_work(SHAPE, options), step_work(SHAPE, options, features=True)
    assert without.tower.flops == 0
    assert with_tower.useful.flops - without.useful.flops == with_tower.tower.flops > 0


def test_the_optimizer_moves_what_trains_and_nothing_else():
    options = TrainingOptions(stage="pretrain", images=((112, 112),), micro_tokens=2048)
    assert optimizer_work(SHAPE, options).bytes == 7 * 4 * SHAPE.projector_parameters
