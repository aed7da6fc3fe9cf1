"""Peak memory of a conversion: at most 1.05 times the largest input file plus the LoRA, measured in a process of its
own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from tests.weights.tiny_parts import ADAPTERS, CLIP, LLM, Parts, change_json, change_pickle, golden_parts

WIDTH, INNER, LAYERS, SHARDS, RANK = 1024, 2816, 16, 2, 16

# The tiny conversion first: it brings every import and every cache into the baseline.
_MEASURE = """
import json, resource, sys
from pathlib import Path
from xverse_v.weights.convert import convert
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
small, large, out = sys.argv[1:4], sys.argv[4:7], Path(sys.argv[7])
keep = sys.argv[8] == "keep"
convert(*map(Path, small), out / "small", keep_lora=keep)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = status("VmRSS:")
report = convert(*map(Path, large), out / "large", keep_lora=keep, max_shard_bytes=150_000_000)
print(json.dumps({"before": before, "peak": status("VmHWM:"), "files": len(report.files)}))
"""


def linears() -> dict[str, tuple[int, int]]:
    square = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"}
    wide = {f"mlp.{name}_proj": (INNER, WIDTH) for name in ("gate", "up")}
    return {**square, **wide, "mlp.down_proj": (WIDTH, INNER)}


def write_large_parts(folder: Path) -> Parts:
    """A decoder of two shards of some 200 MB in bfloat16, a LoRA of 20 MB in float32, the recordings' CLIP."""
    shutil.copytree(TINY / CLIP, folder / CLIP, copy_function=shutil.copyfile)
    shutil.copytree(TINY / LLM, folder / LLM, copy_function=shutil.copyfile)
    for path in (folder / LLM).glob("pytorch_model-*"):
        path.unlink()
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 8}
    change_json(folder / LLM / "config.json", lambda config: config.update(sizes))
    where = {}
    for number in range(SHARDS):
        state = {"model.embed_tokens.weight": torch.randn(512, WIDTH)} if number == 0 else {}
        for layer in range(number * LAYERS // SHARDS, (number + 1) * LAYERS // SHARDS):
            prefix = f"model.layers.{layer}"
            state |= {f"{prefix}.{name}.weight": torch.randn(shape) * 0.02 for name, shape in linears().items()}
            state |= {
                f"{prefix}.{n}.weight": torch.ones(WIDTH) for n in ("input_layernorm", "post_attention_layernorm")
            }
        if number == SHARDS - 1:
            state |= {"model.norm.weight": torch.ones(WIDTH), "lm_head.weight": torch.randn(512, WIDTH)}
        name = f"pytorch_model-{number}.bin"
        torch.save({key: tensor.bfloat16() for key, tensor in state.items()}, folder / LLM / name)
        where |= dict.fromkeys(state, name)
    (folder / LLM / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    shutil.copyfile(TINY / ADAPTERS, folder / ADAPTERS)
    change_pickle(folder / ADAPTERS, widen)
    return Parts(folder / CLIP, folder / LLM, folder / ADAPTERS)


def widen(state: dict[str, torch.Tensor]) -> None:
    """The recordings' adapters for the wider decoder."""
    vision_width = state["ln_vision.weight"].shape[0]
    for name in [name for name in state if "lora_" in name]:
        del state[name]
    for layer in range(LAYERS):
        for name, (outputs, inputs) in linears().items():
            prefix = f"llama_model.base_model.model.model.layers.{layer}.{name}"
            state[f"{prefix}.lora_A.weight"] = torch.randn(RANK, inputs) * 0.02
            state[f"{prefix}.lora_B.weight"] = torch.randn(outputs, RANK) * 0.02
    state["llama_proj.0.weight"], state["llama_proj.0.bias"] = torch.randn(WIDTH, vision_width), torch.zeros(WIDTH)
    state["llama_proj.2.weight"], state["llama_proj.2.bias"] = torch.randn(WIDTH, WIDTH) * 0.02, torch.zeros(WIDTH)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize("lora", ["merge", "keep"])
def test_peak_memory_is_the_largest_file_and_the_lora(lora, tmp_path):
    large = write_large_parts(tmp_path)
    small = golden_parts()
    paths = [str(path) for parts in (small, large) for path in (parts.clip, parts.llm, parts.adapters)]
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, *paths, str(tmp_path), lora],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    measured = json.loads(result.stdout)
    largest = max(path.stat().st_size for path in large.llm.glob("*.bin"))
    adapters = large.adapters.stat().st_size
    assert largest > 200_000_000 and measured["files"] >= 3
    used = measured["peak"] - measured["before"]
    print(f"used {used / 1e6:.1f} MB, largest file {largest / 1e6:.1f} MB, adapters {adapters / 1e6:.1f} MB")
    assert used <= 1.05 * largest + adapters
