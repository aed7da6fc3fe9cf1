"""Loads a transformers folder that is not ours, strictly: every tensor in its place, no foreign code, no network.

What crosses: a folder in, an open `PretrainedModel` out, or the error that says what is wrong with the folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from xverse_v.errors import error
from xverse_v.inference.loading import pick_device

from .images import ImageRule
from .pretrained import PretrainedModel

_HASHED = (".json", ".jinja", ".safetensors", ".model", ".txt")


def open_folder(
    folder: Path,
    rule: ImageRule,
    *,
    name: str,
    device: str | None,
    dtype: str,
    attention: str | None,
    batch_size: int,
) -> PretrainedModel:
    """Raises E770 (kind of model, code of its own, no safetensors), E771 (tensors missing or left over), E772 (no
    chat template), E106 (device)."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    target = pick_device(device)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as reason:
        raise _unsupported(folder, "unknown", reason) from reason
    kind = str(config.model_type)
    if type(config) not in AutoModelForImageTextToText._model_mapping:
        problem = "transformers does not list it as image-text-to-text", "transformers 未将其列为 image-text-to-text"
        raise error("E770", folder=folder, model_type=kind, problem=problem[0], problem_zh=problem[1])
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        network, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=config,
            dtype=_dtype(config, dtype, target),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (ValueError, OSError, RuntimeError, ImportError) as reason:
        raise _unsupported(folder, kind, reason) from reason
    _refuse_misfits(folder, report)
    if not getattr(processor, "chat_template", None):
        raise error("E772", folder=folder)
    return PretrainedModel(network.to(target), processor, name, folder_id(folder), rule, batch_size=batch_size)


def folder_id(folder: Path) -> str:
    """12 hex digits of SHA-256 over the names and bytes of the files a model is loaded from; the same if renamed."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if path.is_file() and path.suffix in _HASHED:
            with path.open("rb") as file:
                digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def _dtype(config: Any, wanted: str, device: str) -> torch.dtype:
    """ "auto" is the format the weights are stored in; a CPU has no float16 arithmetic worth the name, so float32."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if wanted != "auto":
        if wanted not in known:
            raise error("E774", name="--dtype", got=wanted, expected=", ".join(("auto", *known)))
        return known[wanted]
    stored = getattr(config, "dtype", None)
    stored = known.get(stored, torch.float32) if isinstance(stored, str) else stored or torch.float32
    return torch.float32 if device == "cpu" and stored == torch.float16 else stored


def _refuse_misfits(folder: Path, report: dict[str, Any]) -> None:
    """Raises E771. transformers only warns of such weights and fills the gaps with random numbers."""
    missing = sorted(report.get("missing_keys") or ())
    unexpected = sorted(report.get("unexpected_keys") or ())
    mismatched = sorted(str(entry[0]) for entry in report.get("mismatched_keys") or ())
    if missing or mismatched:
        raise error(
            "E771",
            folder=folder,
            missing=len(missing),
            mismatched=len(mismatched),
            unexpected=len(unexpected),
            examples=", ".join([*missing, *mismatched][:3]),
        )


def _unsupported(folder: Path, kind: str, reason: Exception) -> Exception:
    text = " ".join(str(reason).split())[:300]
    return error("E770", folder=folder, model_type=kind, problem=text, problem_zh=text)
