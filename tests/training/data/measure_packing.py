"""Tokens a second of packed rows against padded batches, on samples of mixed length. A program, not a test:

    OMP_NUM_THREADS=1 python -m tests.training.data.measure_packing [samples] [rounds] [micro_batch] [width]

Forward and backward through a decoder of 4 layers (192 wide unless told, as the built-in model's), text alone, the
same samples in both forms; counted are the samples' own tokens, never padding. Lengths are log-normal, as in
instruction data: most answers short, a few long. Prints one JSON line; the rounds of the two forms alternate and
medians are given.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from xverse_v.training.data.encode import IGNORED, Encoded
from xverse_v.training.data.packing import MicroBatch, packed, padded

LONGEST = 1024


def made(count: int, vocabulary: int) -> list[Encoded]:
    """Samples of random tokens, 16 to 1024 long, median about 90; the last third is supervised."""
    random = np.random.default_rng(0)
    samples = []
    for number, length in enumerate(np.exp(random.normal(4.5, 0.9, count)).clip(16, LONGEST).astype(int)):
        ids = torch.from_numpy(random.integers(4, vocabulary, int(length)))
        labels = torch.where(torch.arange(len(ids)) < len(ids) * 2 // 3, IGNORED, ids)
        samples.append(Encoded(ids, labels, None, None, (), str(number), ""))
    return samples


def seconds(model: LlamaForCausalLM, batches: list[MicroBatch]) -> float:
    started = time.process_time()
    for batch in batches:
        hidden = model.model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False)
        kept = batch.labels[:, 1:] != IGNORED  # logits only there, as in training
        logits = model.lm_head(hidden.last_hidden_state[:, :-1][kept])
        cross_entropy(logits, batch.labels[:, 1:][kept], reduction="sum").backward()
    model.zero_grad()
    return time.process_time() - started


def main(count: int = 96, rounds: int = 3, rows: int = 16, width: int = 192) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2000, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=4, num_attention_heads=6
    )
    model = LlamaForCausalLM(config)
    samples = made(count, 2000)
    tokens = sum(len(sample) for sample in samples)
    forms = {"packed": packed(samples, LONGEST), "padded": padded(samples, rows, pad_id=1)}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for batches in forms.values():
        seconds(model, batches[:1])  # warm up
    for _ in range(rounds):
        for name, batches in forms.items():
            times[name].append(seconds(model, batches))
    rates = {name: tokens / statistics.median(taken) for name, taken in times.items()}
    cells = {name: sum(batch.input_ids.numel() for batch in batches) for name, batches in forms.items()}
    result = {
        "samples": count,
        "tokens": tokens,
        "padded_micro_batch": rows,
        "width": width,
        "row_length": LONGEST,
        "filled": {name: round(tokens / cell, 3) for name, cell in cells.items()},
        "tokens_per_cpu_second": {name: round(rate) for name, rate in rates.items()},
        "packed_over_padded": round(rates["packed"] / rates["padded"], 2),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
