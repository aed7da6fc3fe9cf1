"""What a folder holds, from headers alone: no tensor is read, nothing is unpickled that is not plain tensors.

What crosses: a model folder, or one of the release's parts, in; a report out in which every expected name is found,
missing or of the wrong shape, every other name is unexpected, and every fault is an error with its code. Loading
raises the first of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from xverse_v.errors import XverseError, error
from xverse_v.model import XverseVConfig
from xverse_v.model.prompt import tokenizer_size

from .layout import expected_tensors, group_of
from .lora import ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS, check_adapter, is_lora
from .manifest import check_manifest, weights_id
from .parts import (
    PartFile,
    TensorInfo,
    few,
    file_format,
    read_header,
    read_json,
    read_part,
    safetensors_header,
    weight_files,
)
from .pickled import is_harmless, pickle_globals
from .settings import placeholder_id

Kind = Literal["model", "clip", "decoder", "adapters"]


@dataclass
class InspectReport:
    """Everything `inspect` prints. `problems` is empty for a folder that loads."""

    folder: str
    kind: Kind
    files: list[dict[str, Any]] = field(default_factory=list)
    expected: int = 0
    found: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[dict[str, Any]] = field(default_factory=list)
    dtypes: dict[str, dict[str, int]] = field(default_factory=dict)
    parameters: int = 0
    total_bytes: int = 0
    tokenizer: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    orientation: str | None = None
    weights_id: str | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[XverseError] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        plain = asdict(self, dict_factory=lambda pairs: {k: v for k, v in pairs if k != "problems"})
        return {**plain, "problems": [problem.as_dict() for problem in self.problems]}


def inspect_folder(folder: str | Path, *, hashes: bool = False) -> InspectReport:
    """Inspect a model folder, a CLIP folder, a chat folder, or an adapters file. With `hashes` every byte is read
    and compared.

    Raises E300 (nothing there) and E311 (a folder of another kind of model); all else is in the report.
    """
    path = Path(folder)
    if path.is_file():
        return _part(path, "adapters", [path])
    if not path.is_dir():
        raise error("E300", path=path)
    kind = read_json(path / "config.json").get("model_type")
    if kind == XverseVConfig.model_type:
        return _model(path, hashes)
    if kind not in ("clip", "clip_vision_model", "llama", "xverse"):
        expected = "xverse_v, clip, llama, xverse"
        raise error("E311", path=path / "config.json", field="model_type", found=repr(kind), expected=expected)
    part: Kind = "clip" if kind.startswith("clip") else "decoder"
    try:
        files = weight_files(path)
    except XverseError as problem:
        return InspectReport(str(path), part, problems=[problem])
    report = _part(path, part, files)
    if part == "decoder":
        _source_tokenizer(path, report)
    return report


def _model(folder: Path, hashes: bool) -> InspectReport:
    report = InspectReport(str(folder), "model")
    try:
        config = XverseVConfig.from_pretrained(folder)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        first = str(problem).splitlines()[0]
        report.problems.append(error("E311", path=folder / "config.json", field="-", found=first, expected="xverse_v"))
        return report
    # What is wrong with a file says more than that it changed: the manifest comes last.
    _check(report, lambda: _check_tensors(folder, config, report))
    _check(report, lambda: _check_tokenizer(folder, config, report))
    _check(report, lambda: _check_adapter(folder, config, report))
    _check(report, lambda: _check_manifest(folder, report, hashes))
    return report


def _check(report: InspectReport, step: Any) -> None:
    """Run one step; an error it raises is a problem of the report and the next step still runs."""
    try:
        step()
    except XverseError as problem:
        report.problems.append(problem)


def _check_tensors(folder: Path, config: XverseVConfig, report: InspectReport) -> None:
    for path in weight_files(folder):
        if file_format(path) == "pickle":
            foreign = [name for name in pickle_globals(path) if not is_harmless(name)]
            raise (
                error("E341", path=path, names=few(foreign))
                if foreign
                else error("E319", folder=folder, missing="model.safetensors")
            )
    files = read_part(folder)
    _describe(report, files)
    tensors = {name: info for file in files for name, info in file.tensors.items()}
    expected = expected_tensors(config)
    report.expected, report.found = len(expected), sum(name in tensors for name in expected)
    report.missing = [name for name in expected if name not in tensors]
    report.unexpected = [name for name in tensors if name not in expected]
    report.wrong_shape = [
        {"name": name, "found": list(tensors[name].shape), "expected": list(shape)}
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    report.problems += tensor_problems(folder, report)
    _check_dtypes(folder, config, tensors, report)


def tensor_problems(folder: Path, report: InspectReport) -> list[XverseError]:
    """E301, E304 and E303 for what a report lists."""
    problems = []
    if report.missing:
        problems.append(
            error(
                "E301",
                folder=folder,
                count=len(report.missing),
                expected=report.expected,
                examples=few(report.missing),
                unexpected=few(report.unexpected),
            )
        )
    elif report.unexpected:
        problems.append(error("E304", folder=folder, count=len(report.unexpected), examples=few(report.unexpected)))
    if report.wrong_shape:
        first = report.wrong_shape[0]
        found, expected = tuple(first["found"]), tuple(first["expected"])
        count = len(report.wrong_shape)
        problems.append(error("E303", folder=folder, count=count, name=first["name"], found=found, expected=expected))
    return problems


def _check_dtypes(
    folder: Path, config: XverseVConfig, tensors: Mapping[str, TensorInfo], report: InspectReport
) -> None:
    """All tensors share one dtype, the one that config.json names."""
    counted = Counter(info.dtype for info in tensors.values())
    told = str(config.dtype).removeprefix("torch.") if isinstance(config.dtype, torch.dtype) else None
    wanted = told or counted.most_common(1)[0][0]
    if set(counted) - {wanted}:
        found = ", ".join(f"{group}: {_counts(dtypes)}" for group, dtypes in report.dtypes.items())
        report.problems.append(error("E305", folder=folder, expected=wanted, found=found))


def _check_tokenizer(folder: Path, config: XverseVConfig, report: InspectReport) -> None:
    rows = config.text_config.vocab_size
    ids = tokenizer_size(read_json(folder / "tokenizer.json"))
    placeholder = placeholder_id(folder)
    report.tokenizer = {"ids": ids, "rows": rows, "image_token_id": placeholder}
    if ids > rows or placeholder != config.image_token_id:
        detail = f"<|image|> = {placeholder}, config.json: {config.image_token_id}"
        raise error("E302", folder=folder, ids=ids, rows=rows, detail=detail)


def _check_adapter(folder: Path, config: XverseVConfig, report: InspectReport) -> None:
    path = folder / ADAPTER_FOLDER
    if not path.is_dir():
        return
    settings = read_json(path / ADAPTER_CONFIG)
    weights = path / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise error("E319", folder=path, missing=ADAPTER_WEIGHTS)
    tensors = safetensors_header(weights)
    rank = check_adapter(tensors, expected_tensors(config), weights)
    dtypes = dict(Counter(info.dtype for info in tensors.values()))
    report.adapter = {"rank": [rank], "alpha": settings.get("lora_alpha"), "tensors": len(tensors), "dtypes": dtypes}
    report.total_bytes += weights.stat().st_size
    if rank != settings.get("r"):
        raise error("E315", path=weights, found=rank, expected=settings.get("r"), told_by=ADAPTER_CONFIG)


def _check_manifest(folder: Path, report: InspectReport, hashes: bool) -> None:
    state = check_manifest(folder, hashes=hashes)
    report.manifest = {
        "present": state.present,
        "files": state.files,
        "compared": "sha256" if hashes else "size",
        "changed": [list(entry) for entry in state.changed],
        "unlisted": list(state.unlisted) if state.present else [],
    }
    if state.present:
        report.weights_id = weights_id(folder)
    else:
        report.notes.append("no manifest.json: sizes and hashes cannot be checked")
    processor = folder / "processor_config.json"
    if processor.is_file():
        report.orientation = read_json(processor).get("image_processor", {}).get("orientation")
    problem = state.problem(folder)
    if problem:
        raise problem


def _part(path: Path, kind: Kind, files: list[Path]) -> InspectReport:
    """A CLIP folder, a chat folder or an adapters file: what is in it, and whether it is only tensors."""
    report = InspectReport(str(path), kind)
    readable = []
    for file in files:
        try:
            if file_format(file) == "pickle":
                names = pickle_globals(file)
                foreign = [name for name in names if not is_harmless(name)]
                report.notes.append(f"{file.name}: pickled, refers to {', '.join(names)}")
                if foreign:
                    raise error("E341", path=file, names=", ".join(foreign))
            readable.append(read_header(file))
        except XverseError as problem:
            report.problems.append(problem)
    _describe(report, readable)
    names = [name for file in readable for name in file.tensors]
    report.found = len(names)
    for entry in (f"{file.path.name}: {name}" for file in readable for name in file.other):
        report.notes.append(f"besides tensors: {entry}")
    if kind == "adapters":
        ranks = {i.shape[0] for f in readable for n, i in f.tensors.items() if is_lora(n) and "lora_a" in n.lower()}
        report.adapter = {"rank": sorted(ranks), "tensors": sum(is_lora(name) for name in names)}
    return report


def _source_tokenizer(folder: Path, report: InspectReport) -> None:
    rows = read_json(folder / "config.json").get("vocab_size", 0)
    if not (folder / "tokenizer.json").is_file():
        report.problems.append(error("E319", folder=folder, missing="tokenizer.json"))
        return
    ids = tokenizer_size(read_json(folder / "tokenizer.json"))
    report.tokenizer = {"ids": ids, "rows": rows}
    if ids > rows:
        report.problems.append(error("E302", folder=folder, ids=ids, rows=rows, detail=f"{ids} > {rows}"))


def _describe(report: InspectReport, files: list[PartFile]) -> None:
    for file in files:
        entry = {"name": file.path.name, "format": file.format, "bytes": file.bytes, "tensors": len(file.tensors)}
        report.files.append(entry)
        report.total_bytes += file.bytes
        for name, info in file.tensors.items():
            group = group_of(name) if report.kind == "model" else report.kind
            counted = report.dtypes.setdefault(group, {})
            counted[info.dtype] = counted.get(info.dtype, 0) + 1
            size = 1
            for side in info.shape:
                size *= side
            report.parameters += size


def _counts(counted: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {dtype}" for dtype, count in counted.items())
