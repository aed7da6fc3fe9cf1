"""Step two of the recipe: the decoder learns to answer before it has seen a pixel.

What crosses: `train_words(folder, steps)` -> a checkpoint in `folder`. An image is written out as vectors: at a patch
that means something the sum of its concepts, elsewhere one vector for "nothing of note". Most of those are left out
at first and come back during the run. The decoder stands in for XVERSE-13B-Chat, which learnt to reason from text;
the table of concepts is thrown away afterwards. This file refuses to know about pixels.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path

import torch

from xverse_v.nano import checkpoint
from xverse_v.nano.decoder import WordDecoder, answer_loss, right_answers
from xverse_v.nano.optimiser import Orthogonal, split_parameters
from xverse_v.nano.rows import WordRow, word_row
from xverse_v.nano.schedule import learning_rate
from xverse_v.nano.sequences import Batch, collate, image_id, join_rows

log = logging.getLogger(__name__)
ROWS_A_STEP = 12


def word_batch(rows: list[WordRow]) -> tuple[Batch, list[tuple[int, ...]]]:
    """A batch and the meanings of its placeholder tokens in order. Long rows are joined with short ones."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].row.ids))
    pairs = [(order[i], order[-1 - i]) for i in range(len(order) // 2)]
    joined = [join_rows(rows[a].row, rows[b].row) for a, b in pairs]
    meanings = [meaning for pair in pairs for at in pair for meaning in rows[at].meanings]
    return collate(joined), meanings


def word_embeddings(
    model: WordDecoder, ids: torch.Tensor, meanings: list[tuple[int, ...]], noise: torch.Tensor
) -> torch.Tensor:
    """float[B, S, D]: token rows, and at placeholder tokens the sums of concepts plus `noise` float[K, D]."""
    embeds: torch.Tensor = model.decoder.model.embed_tokens(ids)
    flat = torch.tensor([index for meaning in meanings for index in meaning], dtype=torch.long)
    owner = torch.tensor([at for at, meaning in enumerate(meanings) for _ in meaning], dtype=torch.long)
    sums = torch.zeros(len(meanings), embeds.shape[-1]).index_add(0, owner, model.concepts[flat])
    return embeds.masked_scatter((ids == image_id())[..., None], sums + noise)


@torch.no_grad()
def word_scores(model: WordDecoder, start: int, count: int, keep: float) -> dict[str, float]:
    """Share of whole answers right, by kind of row and of question, on `count` unseen rows."""
    tally: dict[str, list[bool]] = {}
    for first in range(start, start + count, 16):
        rows = [row for number in range(first, first + 16) if (row := word_row("check", number, keep)).asked]
        batch = collate([row.row for row in rows])
        meanings = [meaning for row in rows for meaning in row.meanings]
        noise = torch.zeros(len(meanings), model.concepts.shape[1])
        embeds = word_embeddings(model, batch.ids, meanings, noise)
        _, hits = answer_loss(model.decoder.model, model.decoder.lm_head, batch, embeds)
        for index, row in enumerate(rows):
            for qa, right in zip(row.asked, right_answers(batch, hits, index), strict=True):
                names = (qa.kind,) if qa.kind in ("outside", "absent") else ("all", row.kind, qa.language, qa.kind)
                for name in names:
                    tally.setdefault(name, []).append(right)
    return {name: sum(values) / len(values) for name, values in sorted(tally.items())}


def train_words(
    folder: Path,
    cycles: Sequence[int],
    *,
    fall: float = 0.375,
    peak: float = 1.5e-3,
    seed: int = 2,
    warmup: int = 200,
    every: int = 250,
    scored: int = 160,
    ramp: int = 4000,
    stop: int | None = None,
) -> None:
    """Trains through `cycles` of steps of 12 rows (see schedule.py), resuming from `folder`. Empty patches come back
    over `ramp` steps.

    Every `every` steps it saves and scores `scored` unseen rows (a multiple of 16). `stop`: leave after this step.
    """
    model = WordDecoder(seed)
    optimiser = Orthogonal(*split_parameters(model), lr=peak)
    optimiser.settle()
    done, steps = checkpoint.resume(folder, model, optimiser), sum(cycles)
    for step in range(done, min(steps, stop or steps)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, cycles, warmup=warmup, fall=fall, peak=peak)
        keep = 0.03 + 0.4 * min(1.0, step / ramp)
        # Twelve of sixteen, so that steps differ in what they hold.
        rng = random.Random(step)
        numbers = rng.sample(range(16 * step, 16 * step + 16), ROWS_A_STEP)
        batch, meanings = word_batch([word_row("words", number, keep) for number in numbers])
        shape = (len(meanings), model.concepts.shape[1])
        noise = 0.015 * torch.randn(shape, generator=torch.Generator().manual_seed(step))
        embeds = word_embeddings(model, batch.ids, meanings, noise)
        loss, hits = answer_loss(model.decoder.model, model.decoder.lm_head, batch, embeds)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            log.info("words step %d loss %.4f hits %.3f", step, loss.item(), hits.float().mean())
        if (step + 1) % every == 0 or step + 1 == steps:
            scores = word_scores(model, 0, scored, keep)
            log.info("words step %d %s", step + 1, {name: round(value, 3) for name, value in scores.items()})
            checkpoint.note(folder, step + 1, scores)
            checkpoint.save(folder, model, optimiser, step + 1, {"scores": scores, "seed": seed})
