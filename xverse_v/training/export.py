"""From a run back to a model folder: merged, or with the adapter beside the weights.

What crosses: a run folder in, a finished and verified model folder out. The base folder's files are read a few rows
at a time and written again with what was trained in its place, in the stored number format; LoRA is merged in
float32 and rounded once. The folder gets its name when it is complete and verified. This file computes no gradients
and knows no data.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from xverse_v.errors import error
from xverse_v.model import XverseVImageProcessor
from xverse_v.weights.load import weights_id
from xverse_v.weights.lora import Lora, Pair, merged_blocks, write_adapter
from xverse_v.weights.manifest import MANIFEST, PARITY_FILE, write_manifest
from xverse_v.weights.parity import record_parity
from xverse_v.weights.parts import PartFile, TensorInfo, safetensors_header, weight_files
from xverse_v.weights.verify import VerifyReport, verify_folder
from xverse_v.weights.writer import FileRecord, ShardWriter, blocks

from .build import model_folder
from .checkpoint import complete_steps, folder_of, read_record, read_weights
from .config import TrainConfig
from .lora import ADAPTER

_DOWN, _UP = f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight"


@dataclass(frozen=True)
class ExportReport:
    """What was written. `replaced` are whole tensors that were trained, `adapted` linears with LoRA."""

    out: str
    step: int
    merged: bool
    replaced: int
    adapted: int
    weights_id: str
    verified: VerifyReport

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        facts = {name: value for name, value in vars(self).items() if name != "verified"}
        return {**facts, "verified": self.verified.as_dict()}


def export(run: Path, out: Path, *, merge: bool, step: int | None = None, base: Path | None = None) -> ExportReport:
    """Write the model folder `out` from a run's newest checkpoint, or that of `step`. `base`: where the base weights
    are now.

    Raises E260 and E261 for the checkpoint, E270 if the base weights are others, E271 if `out` is in use, and what
    verifying finds.
    """
    steps = complete_steps(run)
    if not steps or (step is not None and step not in steps):
        there = ", ".join(map(str, steps)) or "-"
        raise error("E261", run=run, wanted="" if step is None else f" ({step})", steps=there)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise error("E271", folder=out)
    step = steps[-1] if step is None else step
    record = read_record(run, step)
    config = TrainConfig.model_validate(record.settings)
    base = base or model_folder(config.model)
    found = weights_id(base)
    if found != record.weights_id:
        raise error("E270", run=run, expected=record.weights_id, folder=base, found=found)
    trained = _Trained(folder_of(run, step), read_weights(run, step), config)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        identity, verified = _write(
            partial, base, trained, merge, {"run": run.name, "step": step, "base": record.weights_id}
        )
        if out.is_dir():
            out.rmdir()  # empty, as checked above
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return ExportReport(
        str(out), step, merge, len(trained.whole), len(trained.lora.pairs) if trained.lora else 0, identity, verified
    )


class _Trained:
    """A checkpoint's tensors, as whole replacements and as LoRA pairs, under the names that model folders use."""

    def __init__(self, folder: Path, tensors: Mapping[str, torch.Tensor], config: TrainConfig) -> None:
        self.tensors = tensors
        shapes = {name: TensorInfo(tuple(tensor.shape), "float32") for name, tensor in tensors.items()}
        self.part = PartFile(folder, "safetensors", sum(tensor.nbytes for tensor in tensors.values()), shapes)
        self.whole = {name.replace(".base_layer.", "."): t for name, t in tensors.items() if ".lora_" not in name}
        modules = sorted({name.removesuffix(_DOWN) for name in tensors if name.endswith(_DOWN)})
        self.lora: Lora | None = None
        if modules:
            settings = config.stage.lora
            assert settings is not None, "adapters in a checkpoint of a stage without them"
            pairs = {f"{module}.weight": Pair(module + _DOWN, module + _UP) for module in modules}
            self.lora = Lora(settings.rank, settings.alpha, "peft", pairs)

    def rows(self, name: str, stored: torch.Tensor, merge: bool) -> Iterator[torch.Tensor]:
        """A tensor of the output in blocks of rows, in the stored format."""
        source = self.whole.get(name, stored)
        pair = self.lora.pairs.get(name) if self.lora is not None and merge else None
        if pair is not None:
            assert self.lora is not None
            yield from merged_blocks(source, self.tensors[pair.a], self.tensors[pair.b], self.lora.scale, stored.dtype)
            return
        for start, stop in blocks(source.shape, 4):
            yield source[start:stop].to(stored.dtype)


def _write(
    folder: Path, base: Path, trained: _Trained, merge: bool, source: Mapping[str, object]
) -> tuple[str, VerifyReport]:
    """All files of the folder; its identity and what verifying it found. Raises the first problem of verifying."""
    weights = weight_files(base)
    records: dict[str, FileRecord] = {}
    unused = set(trained.whole)
    for path in weights:
        header = safetensors_header(path)
        entries = [(name, getattr(torch, info.dtype), info.shape) for name, info in header.items()]
        with safe_open(path, framework="pt") as file, ShardWriter(folder / path.name, entries) as writer:
            for name in header:
                writer.write(name, trained.rows(name, file.get_tensor(name), merge))
        records[path.name] = writer.record
        unused -= set(header)
    assert not unused, f"trained tensors without a place in {base}: {sorted(unused)[:3]}"
    if trained.lora is not None and not merge:
        records |= write_adapter(folder, trained.lora, trained.part, trained.tensors.__getitem__)
    left_out = {MANIFEST, PARITY_FILE, *(path.name for path in weights)}
    for path in base.iterdir():
        if path.is_file() and path.name not in left_out and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)
    record_parity(folder)
    orientation = XverseVImageProcessor.from_pretrained(folder).orientation
    write_manifest(folder, tiler=orientation, source={"trained": source}, records=records)
    report = verify_folder(folder)
    for problem in report.problems:
        raise problem
    return weights_id(folder), report
