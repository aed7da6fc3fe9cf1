"""LoRA in the release's adapters file: recognise it, merge it in float32, or keep it as a peft adapter folder.

What crosses: tensor names and shapes in, pairs (A, B) per decoder linear out; tensors in, merged rows or an
`adapter/` folder out. Two key styles are known, peft 0.2's (`...lora_A.weight`) and newer ones'
(`...lora_A.default.weight`); everything else that says "lora" is refused, because a name that matches nothing would
leave the model unadapted without a word.

Shapes: r rank, O outputs, I inputs. A float[r, I], B float[O, r], W float[O, I]; W' = W + (alpha / r) B A.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from xverse_v.errors import error

from .layout import DECODER, Shapes
from .parts import PartFile, TensorInfo, few
from .writer import FileRecord, ShardWriter, blocks

ADAPTER_FOLDER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

_RELEASE_NAME = re.compile(
    r"llama_model\.base_model\.model\.model\.layers\.(?P<layer>\d+)\."
    r"(?P<module>self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.lora_(?P<side>[AB])(?P<style>\.default)?\.weight"
)
_PEFT_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
ACCEPTED = "llama_model.base_model.model.model.layers.N.self_attn.q_proj.lora_A[.default].weight"


@dataclass(frozen=True)
class Pair:
    """The names of A and B in the adapters file, for one weight of ours."""

    a: str
    b: str


@dataclass(frozen=True)
class Lora:
    """All LoRA of an adapters file. `pairs` is keyed by the name of the weight that is changed."""

    rank: int
    alpha: float
    style: str
    pairs: Mapping[str, Pair]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def modules(self) -> tuple[str, ...]:
        """The kinds of linears that are changed, e.g. `self_attn.q_proj`."""
        prefix = re.compile(re.escape(DECODER) + r"\.layers\.\d+\.")
        return tuple(dict.fromkeys(prefix.sub("", name).removesuffix(".weight") for name in self.pairs))


def is_lora(name: str) -> bool:
    """Whether a name of the adapters file speaks of LoRA, in a known style or not."""
    return "lora_" in name.lower()


def find_lora(tensors: Mapping[str, TensorInfo], shapes: Shapes, path: Path, alpha: float | None) -> Lora:
    """The LoRA of an adapters file, complete and of one rank. `alpha` is twice the rank unless given.

    Raises E301 (an A without its B, or a layer left out), E303 (shape or rank), E308 (none, another naming, no such
    layer), E312 (the same weight twice, in both styles).
    """
    styles: set[str] = set()

    def place(name: str) -> tuple[str, str] | None:
        match = _RELEASE_NAME.fullmatch(name)
        if match is None:
            return None
        styles.add("peft 0.3 or newer" if match["style"] else "peft 0.2")
        return f"{DECODER}.layers.{int(match['layer'])}.{match['module']}.weight", match["side"]

    names = [name for name in tensors if is_lora(name)]
    sides, rank = _matched(names, place, tensors, shapes, path, ACCEPTED)
    pairs = {target: Pair(sides[target]["A"], sides[target]["B"]) for target in shapes if target in sides}
    return Lora(rank, float(2 * rank if alpha is None else alpha), " and ".join(sorted(styles)), pairs)


def check_adapter(tensors: Mapping[str, TensorInfo], shapes: Shapes, path: Path) -> int:
    """The rank of an `adapter/` folder's LoRA. Raises what `find_lora` raises; here every tensor must be LoRA's."""

    def place(name: str) -> tuple[str, str] | None:
        match = _PEFT_NAME.fullmatch(name)
        return (f"{match['module']}.weight", match["side"]) if match else None

    accepted = f"base_model.model.{DECODER}.layers.N.self_attn.q_proj.lora_A.weight"
    return _matched(list(tensors), place, tensors, shapes, path, accepted)[1]


def _matched(
    names: list[str],
    place: Callable[[str], tuple[str, str] | None],
    tensors: Mapping[str, TensorInfo],
    shapes: Shapes,
    path: Path,
    accepted: str,
) -> tuple[dict[str, dict[str, str]], int]:
    """Weight -> {"A": name, "B": name}, and the rank; nothing left over, missing, doubled or of another shape."""
    sides: dict[str, dict[str, str]] = {}
    strangers = []
    for name in names:
        placed = place(name)
        if placed is None or placed[0] not in shapes:
            strangers.append(name)
            continue
        found = sides.setdefault(placed[0], {})
        if placed[1] in found:
            raise error("E312", name=placed[0], first=found[placed[1]], second=name, folder=path)
        found[placed[1]] = name
    if strangers or not sides:
        example = strangers[0] if strangers else "-"
        matched = len(names) - len(strangers)
        raise error("E308", path=path, found=len(names), matched=matched, example=example, accepted=accepted)
    _complete(sides, shapes, path)
    return sides, _rank(sides, tensors, shapes, path)


def _complete(sides: Mapping[str, Mapping[str, str]], shapes: Shapes, path: Path) -> None:
    """Every kind of linear that LoRA changes, it changes in every layer, with both of its matrices."""
    kinds = {re.sub(r"\.layers\.\d+\.", ".layers.*.", target) for target in sides}
    wanted = [name for name in shapes if re.sub(r"\.layers\.\d+\.", ".layers.*.", name) in kinds]
    missing = [f"LoRA {side} of {name}" for name in wanted for side in "AB" if side not in sides.get(name, {})]
    if missing:
        raise error(
            "E301", folder=path, count=len(missing), expected=2 * len(wanted), examples=few(missing), unexpected="-"
        )


def _rank(sides: Mapping[str, Mapping[str, str]], tensors: Mapping[str, TensorInfo], shapes: Shapes, path: Path) -> int:
    rank = tensors[next(iter(sides.values()))["A"]].shape[0]
    for target, names in sides.items():
        outputs, inputs = shapes[target]
        for name, wanted in ((names["A"], (rank, inputs)), (names["B"], (outputs, rank))):
            if tensors[name].shape != wanted:
                raise error("E303", folder=path, count=1, name=name, found=tensors[name].shape, expected=wanted)
    return int(rank)


def merged_blocks(
    weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float, dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """Rows of W + scale B A, computed in float32 and rounded once to `dtype`, a few rows at a time."""
    a = a.float()
    for start, stop in blocks(weight.shape, 4):
        change = b[start:stop].float() @ a
        yield change.mul_(scale).add_(weight[start:stop].float()).to(dtype)


def changes_nothing(lora: Lora, read: Callable[[str], torch.Tensor]) -> bool:
    """Whether every B is zero, as LoRA starts: the file was saved before any training, or lost it."""
    return not any(bool(read(pair.b).any()) for pair in lora.pairs.values())


def adapter_tensors(lora: Lora) -> dict[str, str]:
    """peft's name -> the name in the adapters file, for `PeftModel.from_pretrained(model, folder / "adapter")`."""
    names = {}
    for target, pair in lora.pairs.items():
        module = f"base_model.model.{target.removesuffix('.weight')}"
        names[f"{module}.lora_A.weight"] = pair.a
        names[f"{module}.lora_B.weight"] = pair.b
    return names


def write_adapter(
    folder: Path, lora: Lora, part: PartFile, read: Callable[[str], torch.Tensor]
) -> dict[str, FileRecord]:
    """`adapter/` as peft reads it, tensors bit for bit as in the file. Returns records by path in `folder`.

    Raises E307 for a value that is not finite.
    """
    target = folder / ADAPTER_FOLDER
    target.mkdir()
    names, tensors = adapter_tensors(lora), part.tensors
    entries = [(name, getattr(torch, tensors[source].dtype), tensors[source].shape) for name, source in names.items()]
    with ShardWriter(target / ADAPTER_WEIGHTS, entries) as writer:
        for name, source in names.items():
            tensor = read(source)
            bad = int((~tensor.isfinite()).sum())
            if bad:
                raise error("E307", path=part.path, name=source, count=bad, dtype=tensors[source].dtype)
            writer.write(name, [tensor])
    kinds = "|".join(re.escape(module) for module in lora.modules)
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
        # A pattern, not a list of names: the vision tower has linears of the same names that LoRA must not touch.
        "target_modules": rf"{re.escape(DECODER)}\.layers\.\d+\.({kinds})",
    }
    path = target / ADAPTER_CONFIG
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return {
        f"{ADAPTER_FOLDER}/{ADAPTER_WEIGHTS}": writer.record,
        f"{ADAPTER_FOLDER}/{ADAPTER_CONFIG}": FileRecord.of(path),
    }
