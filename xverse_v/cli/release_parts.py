"""The model of the release's YAML files: their three parts, put together once into one folder for all the release's
lines (`demo.py`, `eval_vqa.py`, `eval_chat.py`). Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xverse_v.errors import error

from .common import note, say

DEFAULT_FOLDER = Path("xverse-v-13b")
PartsFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where the parts are put together into a model folder, once.")
]


def folder_of_parts(cfg_path: Path, out: Path) -> Path:
    """The model folder made from the parts a YAML names; made now if it is not there.

    Raises E320 and E323 for a path that was never filled in or leads nowhere, E670 for a folder made from other parts.
    """
    from xverse_v.weights.manifest import MANIFEST, check_manifest
    from xverse_v.weights.release_yaml import parts_from_yaml

    parts = parts_from_yaml(cfg_path)
    if (out / MANIFEST).is_file():
        source = check_manifest(out).source
        found = source.get("adapters", {}) if isinstance(source, dict) else {}
        expected = {parts.adapters.name: parts.adapters.stat().st_size}
        if found != expected:
            raise error("E670", folder=out, yaml=cfg_path, part="adapters", found=found, expected=expected)
        note(say(f"Using {out}, made from these parts before.", f"使用先前由这些部件生成的 {out}。"))
        return out
    from xverse_v.weights.convert import convert

    note(say(f"Putting the three parts together into {out}, once.", f"正在把三个部件合并到 {out}（仅此一次）。"))
    convert(
        parts.clip,
        parts.llm,
        parts.adapters,
        out,
        lora_alpha=parts.lora_alpha,
        lora_rank=parts.lora_rank,
        progress=note,
    )
    return out
