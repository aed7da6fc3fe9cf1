"""Decoding with float32 against quantised weights: CPU milliseconds a token of a middle-size random decoder.

    python benchmarks/quantised_decode.py [--kinds int8,int4] [--layers 8] [--tokens 24] [--threads 1]

8 layers, 2048 wide, 5504 feed-forward, 100,000 words, random weights: what `docs/quantisation.md` reports. Steps are
taken in turns, float32 first, so that a busy machine slows all of them; the medians are CPU time of the process. Prints
a table on stderr and one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration
from xverse_v.quantisation.quantised import quantise_decoder
from xverse_v.weights.load import skeleton

PROMPT = 64


def middle_size(layers: int) -> XverseVForConditionalGeneration:
    """The decoder of the known figures, with a vision tower that is as small as can be."""
    vision = dict(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=64)
    decoder = dict(hidden_size=2048, intermediate_size=5504, num_attention_heads=16, vocab_size=100_000)
    decoder |= dict(num_hidden_layers=layers, num_key_value_heads=16, max_position_embeddings=4096)
    config = XverseVConfig(
        vision_config=vision | {"image_size": 224, "patch_size": 14}, text_config=decoder, image_token_id=99_999
    )
    model = skeleton(config, attention="sdpa", dtype=torch.float32)
    some = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02
    # Repeated, because drawing half a thousand million numbers takes longer than the measurement.
    state = {
        name: some.repeat(-(-value.numel() // len(some)))[: value.numel()].view(value.shape)
        for name, value in model.named_parameters()
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model


def stepper(model: XverseVForConditionalGeneration, layers: int) -> tuple[Callable[[], float], float]:
    """A decode step that returns its CPU milliseconds, and those of the prefill of the prompt."""
    cache = RowCache(layers, 1)
    began = time.process_time()
    token = prefill(model, cache, 0, torch.arange(1, PROMPT + 1)).argmax()[None]
    taken = (time.process_time() - began) * 1000

    def step() -> float:
        nonlocal token
        began = time.process_time()
        token = decode(model, cache, token).argmax(-1)
        return (time.process_time() - began) * 1000

    return step, taken


def measure(kinds: list[str], layers: int, tokens: int) -> list[dict[str, Any]]:
    """One row a kind, float32 first."""
    models = {"float32": middle_size(layers)}
    reports = {}
    for kind in kinds:
        models[kind] = middle_size(layers)
        reports[kind] = quantise_decoder(models[kind], kind)
        print(reports[kind].text(), file=sys.stderr, flush=True)
    steps, prefills = {}, {}
    for kind, model in models.items():
        steps[kind], prefills[kind] = stepper(model, layers)
        steps[kind]()
    spent: dict[str, list[float]] = {kind: [] for kind in models}
    for _ in range(tokens):
        for kind, step in steps.items():
            spent[kind].append(step())
    plain = statistics.median(spent["float32"])
    return [
        {
            "weights": kind,
            "kernel": reports[kind].label if kind in reports else "float32",
            "decode_cpu_ms": round(statistics.median(times), 2),
            "decode_speedup": round(plain / statistics.median(times), 2),
            "prefill_cpu_ms": round(prefills[kind], 1),
            "linear_bytes": reports[kind].bytes_after if kind in reports else None,
        }
        for kind, times in spent.items()
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Decode with float32 and with quantised weights.")
    parser.add_argument("--kinds", default="int8,int4", help="separated by commas")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24, help="decode steps that are measured")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = measure(given.kinds.split(","), given.layers, given.tokens)
    for row in rows:
        print(
            f"{row['weights']:8}  {row['decode_cpu_ms']:8.2f} ms a token  {row['decode_speedup']:5.2f}x  "
            f"prefill of {PROMPT}: {row['prefill_cpu_ms']:8.1f} ms  {row['kernel']}",
            file=sys.stderr,
        )
    facts = {"layers": given.layers, "tokens": given.tokens, "threads": given.threads, "torch": torch.__version__}
    print(json.dumps({**facts, "processor": torch.backends.cpu.get_cpu_capability(), "rows": rows}))


if __name__ == "__main__":
    main()
