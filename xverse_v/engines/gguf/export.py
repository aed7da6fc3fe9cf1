"""A model folder as GGUF: the decoder, or vision tower and projector, for llama.cpp.

What crosses: a folder in, one file and a report out. Weights are read tensor by tensor; the file gets its name when it
has been read back. Types f32, f16, bf16 and q8_0 are written here; q4_k_m is made by llama.cpp's own quantiser from a
file beside it that is then deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from xverse_v.errors import error
from xverse_v.model import XverseVConfig, XverseVImageProcessor
from xverse_v.weights.inspect import inspect_folder
from xverse_v.weights.load import weight_map
from xverse_v.weights.lora import ADAPTER_FOLDER
from xverse_v.weights.manifest import MANIFEST, folder_files, weights_id
from xverse_v.weights.parts import read_json
from xverse_v.weights.writer import FileRecord

from . import files, metadata, names, tokenizer

Type = Literal["f32", "f16", "bf16", "q8_0", "q4_k_m"]
TYPES: tuple[str, ...] = get_args(Type)
FOLDER = "gguf"
"""Where in a model folder its GGUF files are looked for."""
_FILE_TYPES = {"f32": ("F32", 0), "f16": ("F16", 1), "bf16": ("BF16", 32), "q8_0": ("Q8_0", 7)}
_MMPROJ_TYPES = ("f16",)


@dataclass(frozen=True)
class ExportReport:
    """What was written. ``texts``: how many sample texts were compared; ``differing``: those with other ids there."""

    path: str
    part: str
    type: str
    weights_id: str
    bytes: int
    tensors: int
    types: Mapping[str, int]
    texts: int = 0
    differing: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def export_decoder(
    folder: Path, out: Path, kind: str = "f16", progress: Callable[[str], None] = lambda step: None
) -> ExportReport:
    """Write the decoder with tokenizer and prompt form.

    Raises E832 (not llama.cpp's graph), E845 (LoRA that is not merged), E847 (unknown type), E830 (q4_k_m without
    llama.cpp), what `files.write_file` raises, and what inspecting the folder finds.
    """
    if kind not in TYPES:
        raise error("E847", found=kind, expected=", ".join(TYPES))
    config = _checked(folder)
    document = read_json(folder / "tokenizer.json")
    vocabulary = tokenizer.read_vocabulary(document, config.text_config.vocab_size, _specials(folder))
    identity = folder_identity(folder)
    first = kind if kind in _FILE_TYPES else _between(config)
    stored = names.decoder_tensors(config)
    word, number = _FILE_TYPES[first]
    entries = [
        *metadata.general("XVERSE-V decoder", identity, number),
        *metadata.decoder(config),
        *metadata.tokenizer(vocabulary, _specials(folder)["eos"] or ""),
    ]
    read = _reader(folder)
    if first == kind:
        report = files.write_file(out, "llama", entries, stored, read, word, progress)
    else:
        from xverse_v.engines.llamacpp.library import library
        from xverse_v.engines.llamacpp.quantising import quantise

        library()  # before an hour of work, not after it
        files.check_room(out, 0)
        between = out.with_name(f".{out.name}.{first}")
        between.unlink(missing_ok=True)  # of a run that was killed
        try:
            files.write_file(between, "llama", entries, stored, read, word, progress)
            report = quantise(between, out, kind, torch.get_num_threads(), progress)
        finally:
            between.unlink(missing_ok=True)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    differing = tokenizer.differing(
        lambda text: ours.encode(text, add_special_tokens=False).ids, lambda text: tokenizer.spm_ids(vocabulary, text)
    )
    return ExportReport(
        part="decoder",
        type=kind,
        weights_id=identity,
        texts=len(tokenizer.SAMPLES),
        differing=differing,
        **asdict(report),
    )


def export_vision(
    folder: Path, out: Path, kind: str = "f16", progress: Callable[[str], None] = lambda step: None
) -> ExportReport:
    """Write vision tower and projector (mmproj) in float16. Raises as `export_decoder`."""
    if kind not in _MMPROJ_TYPES:
        raise error("E847", found=kind, expected=", ".join(_MMPROJ_TYPES))
    config = _checked(folder)
    identity = folder_identity(folder)
    images = XverseVImageProcessor.from_pretrained(folder)
    word, number = _FILE_TYPES[kind]
    entries = [*metadata.general("XVERSE-V vision", identity, number), *metadata.vision(config, images)]
    report = files.write_file(out, "clip", entries, names.vision_tensors(config), _reader(folder), word, progress)
    return ExportReport(part="vision", type=kind, weights_id=identity, **asdict(report))


def folder_identity(folder: Path) -> str:
    """The weights id of a folder. One without a manifest is named by its files except those in ``gguf/``, so that
    putting an export there does not make it another folder.
    """
    if (folder / MANIFEST).is_file():
        return weights_id(folder)
    covered = [name for name in folder_files(folder) if not name.startswith(f"{FOLDER}/")]
    lines = "\n".join(f"{name} {FileRecord.of(folder / name).sha256}" for name in covered)
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def _checked(folder: Path) -> XverseVConfig:
    """The configuration of a whole model folder; what `inspect` finds is raised, and E845 for an adapter."""
    report = inspect_folder(folder)
    if report.kind != "model":
        raise error("E318", folder=folder, kind=report.kind)
    for problem in report.problems:
        raise problem
    if (folder / ADAPTER_FOLDER).is_dir():
        raise error("E845", folder=folder)
    config = XverseVConfig.from_pretrained(folder)
    assert isinstance(config, XverseVConfig)
    return config


def _between(config: XverseVConfig) -> str:
    """The type that llama.cpp's quantiser starts from: what is stored, so that nothing is rounded twice for nothing."""
    return "bf16" if str(config.dtype) == "torch.bfloat16" else "f16"


def _specials(folder: Path) -> dict[str, str | None]:
    settings = read_json(folder / "tokenizer_config.json")
    return {name: settings.get(f"{name}_token") for name in ("bos", "eos", "unk", "pad")}


def _reader(folder: Path) -> files.Read:
    where = weight_map(folder)

    def read(name: str) -> Tensor:
        # Opened anew for each tensor, so that the mapped pages of one are let go before the next.
        with safe_open(where[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    return read
