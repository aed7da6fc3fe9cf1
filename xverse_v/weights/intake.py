"""The release's three parts, accounted for key by key before a single tensor is read.

What crosses: the paths of the CLIP folder, the chat folder and the adapters file in; a plan out that says, for every
tensor of the folder to be written, which stored tensor it comes from, and for every stored tensor that has no place,
why. A part that leaves anything unexplained is refused. Headers and JSON only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from xverse_v.errors import error
from xverse_v.model import XverseVConfig

from .inspect import InspectReport, tensor_problems
from .layout import (
    EMBEDDING,
    HEAD,
    LAYER_NORM,
    Dropped,
    Shapes,
    clip_target,
    decoder_target,
    expected_tensors,
    projector_target,
)
from .lora import Lora, find_lora, is_lora
from .parts import PartFile, TensorInfo, read_header, read_part
from .settings import TokenizerPlan, model_config, plan_tokenizer, text_config, vision_config

_FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Source:
    """Where a tensor comes from: a file and the name it has there."""

    file: PartFile
    name: str


@dataclass(frozen=True)
class Plan:
    """A conversion, decided. `sources` is in the order of the parts' files, so that each file is read once."""

    clip: list[PartFile]
    llm: list[PartFile]
    adapters: PartFile
    config: XverseVConfig
    shapes: Shapes
    tokenizer: TokenizerPlan
    lora: Lora
    sources: dict[str, Source]
    generated: tuple[str, ...]  # not in any part: the norm at its initial values
    dropped: dict[str, int]  # reason -> tensors
    read: int  # tensors found in the parts
    notes: list[str]
    ignored_fields: list[str]

    @property
    def largest_file(self) -> int:
        """Bytes of the largest input file, the unit of the memory a conversion needs."""
        return max(file.bytes for file in (*self.clip, *self.llm, self.adapters))


def plan_conversion(clip: Path, llm: Path, adapters: Path, *, dtype: torch.dtype, lora_alpha: float | None) -> Plan:
    """Read all headers and configurations and match every key.

    Raises E300, E306, E311, E312, E317, E319, E341 to E343 (unreadable parts), E301 to E304 and E308 (keys), E314 (a
    dtype that is no plain float).
    """
    clip_files, llm_files, adapter_file = read_part(clip), read_part(llm), read_header(adapters)
    vision = vision_config(clip)
    text, ignored = text_config(llm)
    source_config = XverseVConfig(vision, text)
    shapes = expected_tensors(source_config)
    lora = find_lora(adapter_file.tensors, shapes, adapters, lora_alpha)
    sources, dropped = _match(clip_files, llm_files, adapter_file, vision.num_hidden_layers, shapes)
    generated = tuple(name for name in LAYER_NORM if name not in sources)
    if len(generated) == 1:
        generated = ()  # half a norm is a broken file: reported as missing below
    _check(sources, {name: shape for name, shape in shapes.items() if name not in generated}, llm)
    tokenizer = plan_tokenizer(llm, text.vocab_size)
    config = model_config(vision, text, tokenizer, dtype)
    read = sum(len(file.tensors) for file in (*clip_files, *llm_files, adapter_file))
    notes = list(_notes(clip_files, llm_files, adapter_file, llm, generated, tokenizer))
    return Plan(
        clip_files, llm_files, adapter_file, config, expected_tensors(config), tokenizer, lora, sources,
        generated, dropped, read, notes, ignored,
    )  # fmt: skip


def _match(
    clip: list[PartFile], llm: list[PartFile], adapters: PartFile, vision_layers: int, shapes: Shapes
) -> tuple[dict[str, Source], dict[str, int]]:
    """Our name -> source, and how many tensors were dropped for which reason. Raises E304, E301."""
    sources: dict[str, Source] = {}
    dropped: Counter[str] = Counter()
    unexpected: list[tuple[PartFile, str]] = []

    def place(file: PartFile, name: str, target: str | Dropped | None) -> None:
        if isinstance(target, Dropped):
            dropped[target.reason] += 1
        elif target is None or target not in shapes or target in sources:
            unexpected.append((file, name))
        else:
            sources[target] = Source(file, name)

    for file in clip:
        for name in file.tensors:
            place(file, name, clip_target(name, vision_layers))
    for name in adapters.tensors:
        if not is_lora(name):
            place(adapters, name, projector_target(name))
    for file in llm:
        for name in file.tensors:
            place(file, name, decoder_target(name))
    if unexpected:
        _refuse(unexpected, sources, shapes)
    return sources, dict(dropped)


def _refuse(unexpected: list[tuple[PartFile, str]], sources: dict[str, Source], shapes: Shapes) -> None:
    """A renamed tensor is both unexpected and missing: what is missing is then the fact, the rest a hint."""
    missing = [name for name in shapes if name not in sources and name not in LAYER_NORM]
    report = InspectReport(str(unexpected[0][0].path.parent), "model", expected=len(shapes))
    report.missing, report.unexpected = missing, [name for _, name in unexpected]
    raise tensor_problems(unexpected[0][0].path, report)[0]


def _check(sources: dict[str, Source], shapes: Shapes, llm: Path) -> None:
    """Raises E301 (missing), E303 (shape), E314 (dtype)."""
    found: dict[str, TensorInfo] = {name: source.file.tensors[source.name] for name, source in sources.items()}
    report = InspectReport(str(llm), "model", expected=len(shapes))
    report.missing = [name for name in shapes if name not in found]
    report.wrong_shape = [
        {
            "name": f"{sources[name].name} ({sources[name].file.path.name})",
            "found": info.shape,
            "expected": shapes[name],
        }
        for name, info in found.items()
        if info.shape != shapes[name]
    ]
    for problem in tensor_problems(llm, report):
        raise problem
    for name, info in found.items():
        if info.dtype not in _FLOATS:
            raise error("E314", name=sources[name].name, found=info.dtype, expected=", ".join(_FLOATS))


def _notes(
    clip: list[PartFile],
    llm: list[PartFile],
    adapters: PartFile,
    folder: Path,
    generated: tuple[str, ...],
    tokenizer: TokenizerPlan,
) -> Iterator[str]:
    """What a reader of the report should know besides the counts."""
    for file in (*clip, *llm, adapters):
        if file.other:
            yield f"{file.path.name} also holds, unused: {', '.join(file.other)}"
    code = sorted(path.name for path in folder.glob("*.py"))
    if code:
        yield f"Python files of the chat folder, never run: {', '.join(code)}"
    if generated:
        yield "the adapters file has no ln_vision: the norm starts at its initial values (weight 1, bias 0, eps 1e-5)"
    if tokenizer.appended_rows:
        yield f"placeholder token: id {tokenizer.image_token_id}, one row appended to {EMBEDDING} and {HEAD}, zeros"
    else:
        yield f"placeholder token: id {tokenizer.image_token_id}, a row without an id in the source"
