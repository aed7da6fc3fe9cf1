"""Three parts of the release -> one model folder, shard by shard, checked before it gets its name.

What crosses: a plan from intake.py in, a finished folder and a report out. Memory holds the pages of one mapped
input file, the adapters, and a few rows. The folder is written under a temporary name beside its place and renamed
at the very end: a folder called `out` is complete, hashed, loadable and has passed the parity check, or it does not
exist.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from xverse_v.errors import error
from xverse_v.model.tiling import Orientation

from . import oracle, parity
from .intake import Plan, plan_conversion
from .layout import EMBEDDING, HEAD, LAYER_NORM
from .load import DTYPES, load_model, weight_map, weights_id
from .lora import changes_nothing, merged_blocks, write_adapter
from .manifest import write_manifest
from .parts import OpenFiles, PartFile
from .settings import release_prompt_ids, write_settings
from .writer import Entry, FileRecord, ShardWriter, blocks, plan_shards, shard_names, tensor_bytes

MAX_SHARD_BYTES = 5_000_000_000
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did. `as_dict` is what `--json` prints."""

    out: str
    weights_id: str
    dtype: str
    orientation: str
    tensors: Mapping[str, int]  # read, written, dropped, lora, generated
    dropped: Mapping[str, int]
    lora: Mapping[str, Any]
    placeholder: Mapping[str, int]
    files: Mapping[str, int]
    parity: Mapping[str, Any]
    seconds: float
    ignored_fields: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def convert(
    clip: Path,
    llm: Path,
    adapters: Path,
    out: Path,
    *,
    lora_alpha: float | None = None,
    lora_rank: int | None = None,
    keep_lora: bool = False,
    grid: Orientation = "release",
    dtype: str = "bfloat16",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[str], None] = lambda step: None,
) -> ConversionReport:
    """Write the model folder `out` from a CLIP folder, a chat folder and an adapters file.

    lora_alpha: twice the rank unless given. lora_rank: what a configuration says the rank is; E315 if the tensors
    say otherwise. keep_lora: an `adapter/` folder for peft instead of merged weights. grid: which way the tile grid
    lies, stored in the processor. Raises E313 if `out` has something in it, E307 for a value that is not finite,
    E310 if the result does not compute what the parts compute, and whatever `plan_conversion` raises.
    """
    started = time.monotonic()
    if dtype not in DTYPES:
        raise error("E314", name="--dtype", found=dtype, expected=", ".join(DTYPES))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise error("E313", folder=out)
    plan = plan_conversion(clip, llm, adapters, dtype=DTYPES[dtype], lora_alpha=lora_alpha)
    if lora_rank not in (None, plan.lora.rank):
        raise error("E315", path=adapters, found=plan.lora.rank, expected=lora_rank, told_by="model.lora_r")
    leftovers = sorted(str(path) for path in out.parent.glob(f".{out.name}.partial-*"))
    plan.notes.extend(f"left by an interrupted conversion, safe to delete: {path}" for path in leftovers)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    out.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir()
    try:
        records = _write_tensors(partial, plan, DTYPES[dtype], keep_lora, max_shard_bytes, progress)
        write_settings(partial, plan.config, plan.tokenizer, grid)
        progress("comparing every tensor and the logits of a made image with the three parts")
        checked = check_parity(partial, plan, llm, keep_lora=keep_lora)
        write_manifest(partial, tiler=grid, source=_source(plan), records=records)
        identity = weights_id(partial)
        _to_disk(partial)
        if out.is_dir():
            out.rmdir()  # empty, as checked above
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    files = {name: record.bytes for name, record in records.items()}
    return _report(out, plan, identity, dtype, grid, keep_lora, files, checked, time.monotonic() - started)


def _to_disk(folder: Path) -> None:
    """Flush every file and folder, so that after a power cut the name does not stand for empty files."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_tensors(
    folder: Path,
    plan: Plan,
    dtype: torch.dtype,
    keep_lora: bool,
    max_shard_bytes: int,
    progress: Callable[[str], None],
) -> dict[str, FileRecord]:
    """All shards, their index, and the adapter if it is kept. Returns hashes by file."""
    entries: list[Entry] = [(name, dtype, plan.shapes[name]) for name in (*plan.generated, *plan.sources)]
    shards = plan_shards(entries, max_shard_bytes)
    records: dict[str, FileRecord] = {}
    where: dict[str, str] = {}
    with OpenFiles() as files:

        def adapter(name: str) -> torch.Tensor:
            return files.read("adapters", plan.adapters, name)

        if changes_nothing(plan.lora, adapter):
            plan.notes.append("every lora_B is zero: this LoRA changes nothing, as if it had never been trained")
        for shard_name, shard in zip(shard_names(len(shards)), shards, strict=True):
            progress(f"writing {shard_name}, {len(shard)} tensors")
            with ShardWriter(folder / shard_name, shard) as writer:
                for name, _, shape in shard:
                    writer.write(name, _finite(name, _rows(name, shape, plan, files, dtype, keep_lora), plan))
                    where[name] = shard_name
            records[shard_name] = writer.record
        if keep_lora:
            records |= write_adapter(folder, plan.lora, plan.adapters, adapter)
    if len(shards) > 1:
        total = sum(tensor_bytes(kind, shape) for _, kind, shape in entries)
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return records


def _rows(
    name: str, shape: tuple[int, ...], plan: Plan, files: OpenFiles, dtype: torch.dtype, keep_lora: bool
) -> Iterator[torch.Tensor]:
    """One tensor of the output in blocks of rows, in its final dtype."""
    if name in plan.generated:
        yield torch.full(shape, float(name == LAYER_NORM[0]), dtype=dtype)
        return
    source = plan.sources[name]
    kind = "adapters" if source.file is plan.adapters else "base"
    tensor = files.read(kind, source.file, source.name)
    pair = plan.lora.pairs.get(name)
    if pair is not None and not keep_lora:
        a, b = (files.read("adapters", plan.adapters, name) for name in (pair.a, pair.b))
        yield from merged_blocks(tensor, a, b, plan.lora.scale, dtype)
        return
    for start, stop in blocks(tensor.shape, 4):
        yield tensor[start:stop].to(dtype)
    if name in (EMBEDDING, HEAD) and plan.tokenizer.appended_rows:
        # The placeholder is replaced before it is read and masked before it is chosen; zeros are as good as anything.
        yield torch.zeros(plan.tokenizer.appended_rows, shape[1], dtype=dtype)


def _finite(name: str, rows: Iterator[torch.Tensor], plan: Plan) -> Iterator[torch.Tensor]:
    """The same rows. Raises E307 at the first block that holds NaN or infinity."""
    for block in rows:
        bad = int(block.numel() - block.isfinite().sum())
        if bad:
            origin = plan.sources[name].file.path if name in plan.sources else plan.adapters.path
            raise error("E307", path=origin, name=name, count=bad, dtype=str(block.dtype).removeprefix("torch."))
        yield block


def check_parity(folder: Path, plan: Plan, llm: Path, *, keep_lora: bool) -> dict[str, Any]:
    """Compare the finished folder with the parts: it loads, each tensor is the parts', the prompt is, the logits are.

    Writes `parity.json`. Raises E310 with what differs, or what loading raises.
    """
    dtype = plan.config.dtype
    assert isinstance(dtype, torch.dtype)
    load_model(folder, dtype=str(dtype).removeprefix("torch."))
    tensors = compare_tensors(folder, plan, dtype, keep_lora)
    input_ids, pixel_values = parity.prompt_inputs(folder)
    image_tokens = len(pixel_values) * plan.config.patches_per_view
    if input_ids != release_prompt_ids(llm, parity.QUESTION, image_tokens, plan.config.image_token_id):
        raise error("E310", folder=folder, difference="prompt ids", tolerance="0", against=llm / "tokenizer.json")
    found = parity.streamed_logits(folder, input_ids, pixel_values)
    scale = plan.lora.scale
    with oracle.Parts(plan.clip, plan.llm, plan.adapters, dtype=dtype, scale=scale, merged=not keep_lora) as parts:
        wanted = oracle.last_logits(parts, plan.config, input_ids, pixel_values)
    worst = parity.difference(found, wanted, plan.config.image_token_id)
    if not worst <= parity.TOLERANCE:
        tolerance = f"{parity.TOLERANCE:.0e}"
        raise error("E310", folder=folder, difference=f"{worst:.2g}", tolerance=tolerance, against="the three parts")
    record = parity.record(folder, input_ids, found)
    return {"tensors": tensors, "largest_relative_difference": worst, "top_id": record.top_ids[0], "passed": True}


def compare_tensors(folder: Path, plan: Plan, dtype: torch.dtype, keep_lora: bool) -> int:
    """Rows of every tensor on disk against the parts, by the release's names. Returns how many tensors. Raises E310."""
    files = weight_map(folder)
    scale = 0.0 if keep_lora else plan.lora.scale
    with oracle.Parts(plan.clip, plan.llm, plan.adapters, dtype=dtype, scale=scale, merged=True) as parts:
        for name in (*plan.generated, *plan.sources):
            with safe_open(files[name], framework="pt") as file:
                rows = file.get_slice(name)
                count = plan.shapes[name][0]
                for row in sorted({0, count // 3, 2 * count // 3, count - 1}):
                    wanted = oracle.row(parts, name, row)
                    found = rows[row : row + 1].float().flatten()
                    slack = torch.finfo(dtype).eps * wanted.abs() + 1e-6 * wanted.abs().max()
                    if name not in plan.lora.pairs or keep_lora:
                        slack = torch.zeros(())
                    if found.shape != wanted.shape or bool(((found - wanted).abs() > slack).any()):
                        raise error(
                            "E310", folder=folder, difference=f"{name}[{row}]", tolerance="0", against="the three parts"
                        )
    return len(plan.shapes)


def _source(plan: Plan) -> dict[str, Any]:
    """Where the weights came from, without the paths of anybody's machine."""

    def listed(files: list[PartFile]) -> dict[str, int]:
        return {file.path.name: file.bytes for file in files}

    return {
        "clip": listed(plan.clip),
        "decoder": listed(plan.llm),
        "adapters": listed([plan.adapters]),
        "lora": {"rank": plan.lora.rank, "alpha": plan.lora.alpha},
    }


def _report(
    out: Path,
    plan: Plan,
    identity: str,
    dtype: str,
    grid: str,
    keep_lora: bool,
    files: dict[str, int],
    checked: dict[str, Any],
    seconds: float,
) -> ConversionReport:
    lora = {
        "rank": plan.lora.rank,
        "alpha": plan.lora.alpha,
        "names": plan.lora.style,
        "linears": len(plan.lora.pairs),
        "kept": keep_lora,
    }
    tensors = {
        "read": plan.read,
        "written": len(plan.shapes),
        "dropped": sum(plan.dropped.values()),
        "lora": 2 * len(plan.lora.pairs),
        "generated": len(plan.generated),
    }
    placeholder = {"id": plan.tokenizer.image_token_id, "appended_rows": plan.tokenizer.appended_rows}
    return ConversionReport(
        str(out), identity, dtype, grid, tensors, plan.dropped, lora, placeholder, files, checked, round(seconds, 1),
        plan.ignored_fields, plan.notes,
    )  # fmt: skip
