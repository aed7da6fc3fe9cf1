"""The release's two YAML files, read for the paths of the three parts.

What crosses: `eval_configs/*.yaml` in (it names the CLIP folder and the adapters file; the chat folder stands in
`vxverse/configs/models/vxverse_13bchat.yaml` of the same project); paths and LoRA numbers out, and the list of all
keys that have no meaning here. A path that was never filled in is an error that names file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from xverse_v.errors import error

MODEL_YAML = "vxverse/configs/models/vxverse_13bchat.yaml"

_NUMBERS = ("lora_r", "lora_alpha")

# "Your ckpt path", "/path/to/clip", "<ckpt>", "path_to_ckpt": texts that stand where a path should.
PLACEHOLDER = re.compile(r"^\s*$|\byour\b|your[_ -]|(^|/)path[/_ ]to|^<.*>$", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A scalar of a YAML file and where it stands."""

    file: Path
    line: int
    value: object


@dataclass(frozen=True)
class ReleaseParts:
    """The three parts as two YAML files name them. `ignored` lists keys without a meaning for a conversion."""

    clip: Path
    llm: Path
    adapters: Path
    lora_alpha: float | None = None
    lora_rank: int | None = None
    ignored: list[str] = field(default_factory=list)


def parts_from_yaml(
    cfg_path: Path, *, clip: Path | None = None, llm: Path | None = None, adapters: Path | None = None
) -> ReleaseParts:
    """Read an evaluation YAML and, unless `llm` is given, the model YAML of its project. A part that is given is not
    read.

    The project is the nearest folder above that holds the model YAML; relative paths start there, as the release was
    run from there. `model.llama_model` in the evaluation YAML takes precedence, as in the release.
    Raises E300, E317 (no YAML), E320 (placeholder left), E321 (a key is missing), E323 (path does not exist).
    """
    entries = dict(scalars(cfg_path))
    root = next((parent for parent in cfg_path.resolve().parents if (parent / MODEL_YAML).is_file()), None)
    if llm is None and "model.llama_model" not in entries:
        if root is None:
            raise error("E321", file=cfg_path, key="model.llama_model", where=MODEL_YAML)
        entries = {**dict(scalars(root / MODEL_YAML)), **entries}
    base = root or cfg_path.resolve().parent
    given = {"vit_path": clip, "ckpt": adapters, "llama_model": llm}
    paths = {name: part or _path(entries, name, cfg_path, base) for name, part in given.items()}
    numbers = {name: _number(entries, name) for name in _NUMBERS}
    used = {f"model.{name}" for name in (*(name for name, part in given.items() if part is None), *_NUMBERS)}
    rank = numbers["lora_r"]
    return ReleaseParts(
        clip=paths["vit_path"],
        llm=paths["llama_model"],
        adapters=paths["ckpt"],
        lora_alpha=numbers["lora_alpha"],
        lora_rank=None if rank is None else int(rank),
        ignored=[key for key in entries if key not in used],
    )


def scalars(path: Path) -> Iterator[tuple[str, Entry]]:
    """Every scalar of a YAML file as (dotted key, entry). Raises E300, E317."""
    if not path.is_file():
        raise error("E300", path=path)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise error("E317", path=path, problem=" ".join(str(problem).split())) from None
    if not isinstance(root, yaml.MappingNode):
        raise error("E317", path=path, problem="no mapping at its top")
    yield from _walk(root, "", path)


def _walk(node: yaml.Node, prefix: str, path: Path) -> Iterator[tuple[str, Entry]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _walk(value, f"{prefix}.{key.value}" if prefix else str(key.value), path)
    elif isinstance(node, yaml.ScalarNode):
        value = None if node.tag == "tag:yaml.org,2002:null" else node.value
        yield prefix, Entry(path, node.start_mark.line + 1, value)
    else:
        yield prefix, Entry(path, node.start_mark.line + 1, [])


def _path(entries: dict[str, Entry], name: str, cfg_path: Path, base: Path) -> Path:
    key = f"model.{name}"
    if key not in entries:
        raise error("E321", file=cfg_path, key=key, where=cfg_path)
    entry = entries[key]
    text = "" if entry.value is None else str(entry.value)
    path = base / Path(text).expanduser()
    if text.strip() and path.exists():
        return path
    if PLACEHOLDER.search(text):
        raise error("E320", file=entry.file, line=entry.line, key=key, value=text)
    raise error("E323", file=entry.file, line=entry.line, key=key, value=text, path=path)


def _number(entries: dict[str, Entry], name: str) -> float | None:
    entry = entries.get(f"model.{name}")
    if entry is None or entry.value is None:
        return None
    try:
        return float(str(entry.value))
    except ValueError:
        problem = f"line {entry.line}: model.{name} is {entry.value!r}, not a number"
        raise error("E317", path=entry.file, problem=problem) from None
