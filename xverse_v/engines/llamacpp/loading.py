"""From a model folder and its GGUF file to an `Assistant`: images in torch, the decoder in llama.cpp.

What crosses: names in, a loaded assistant out, which answers, streams, batches and serves as any other. Of the folder
only vision tower, projector, tokenizer and settings are read. Which GGUF file belongs to it is said by the weights id
inside the file, never by its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import GenerationConfig

from xverse_v.elementwise import use_cached_steps
from xverse_v.engines.gguf import files, metadata
from xverse_v.engines.gguf.export import FOLDER, folder_identity
from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import Conditions
from xverse_v.inference.assistant import NO_PROFILE, Assistant
from xverse_v.inference.cache import DEFAULT_FEATURE_BYTES, FeatureCache, PrefixCache
from xverse_v.inference.loading import read_profiles, resolve_model
from xverse_v.inference.prompt import PromptBuilder
from xverse_v.inference.sampling import SamplingSettings, bad_setting
from xverse_v.linears import use_fast_linears
from xverse_v.media import DEFAULT_LIMITS, MediaLimits
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.weights.inspect import inspect_folder
from xverse_v.weights.layout import PROJECTOR, VISION
from xverse_v.weights.load import skeleton, weight_map
from xverse_v.weights.parts import read_json
from xverse_v.weights.plan_machine import free_memory

from .context import MAX_ROWS, Context
from .decoder import GgufEmbedding, LlamaCppDecoder
from .engine import LlamaCppEngine

DEFAULT_CONTEXT = 4096
"""Tokens of prompt and answer: the largest image takes 2,560. All of it is reserved at once, so more is asked for."""
_CACHE_BYTES = {"F16": 2, "F32": 4}


def load(
    model: str | Path,
    gguf: Path | None = None,
    *,
    context: int | None = None,
    rows: int = 1,
    threads: int | None = None,
    cache: bool = True,
    cache_type: str = "F16",
    feature_cache_bytes: int = DEFAULT_FEATURE_BYTES,
    profile: str | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Assistant:
    """Load a model folder whose decoder runs in llama.cpp.

    - ``gguf``: the decoder, made from this folder by ``xverse-v export gguf``; None takes the one in its ``gguf/``.
    - ``context``: most tokens of prompt and answer; None is 4096 or the model's own, whichever is less.
    - ``rows``: how many requests may decode together, at most 64; memory for keys and values grows with it.
    - ``threads``: of llama.cpp; None is torch's own number.
    - ``cache``: keep prefilled beginnings of prompts. ``cache_type``: of keys and values, "F16" or "F32".

    Raises E101, E830 and E831 (extras), E837 to E840, E848, E105, E107, E108, and what inspecting the folder finds.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise bad_setting("rows", rows, f"1 to {MAX_ROWS} requests at once", f"1 到 {MAX_ROWS} 个同时进行的请求")
    folder = resolve_model(model)
    profiles = read_profiles(folder)
    config = _config(folder)
    path = gguf or only_decoder(folder)
    table = GgufEmbedding(path, checked_decoder(path, folder, config))
    cells = _cells(config, context)
    threads = threads or torch.get_num_threads()
    per_token = _bytes_per_token(config, _CACHE_BYTES[cache_type])
    native = _reserved(path, cells, rows, threads, cache_type, per_token)
    network = _network(folder, config, table)
    use_fast_linears(network)
    use_cached_steps(network)
    config.text_config.max_position_embeddings = cells
    processor = XverseVProcessor.from_pretrained(folder)
    conditions = Conditions(
        weights_id=folder_identity(folder),
        dtype=f"{table.kind} (llama.cpp)",
        device="cpu",
        attention="llama.cpp",
        orientation=processor.image_processor.orientation,
        threads=threads,
    )
    prefixes = PrefixCache(native.cells * per_token if cache else 0)
    engine = LlamaCppEngine(
        network, processor.tokenizer, conditions, prefixes, FeatureCache(feature_cache_bytes), native, rows, per_token
    )
    known = {NO_PROFILE: SamplingSettings(), **profiles}
    chosen = profile or ("demo" if "demo" in known else NO_PROFILE)
    return Assistant(engine, PromptBuilder(processor, limits), known, chosen)


def only_decoder(folder: Path) -> Path:
    """The one decoder file in ``gguf/`` of a model folder. Raises E837 if there is none, or more than one."""
    found = []
    for path in sorted((folder / FOLDER).glob("*.gguf")):
        if files.value(files.open_file(path), "general.architecture") == "llama":
            found.append(path)
    if len(found) != 1:
        raise error("E837", count=len(found), folder=folder, names=", ".join(path.name for path in found) or "-")
    return found[0]


def checked_decoder(path: Path, folder: Path, config: XverseVConfig) -> Any:
    """The opened GGUF file. Raises E839 (not one of ours, or another size) and E838 (of other weights)."""
    if not path.is_file():
        raise error("E839", path=path, problem="there is no such file")
    file = files.open_file(path)
    for key, expected in (
        ("general.architecture", "llama"),
        ("llama.embedding_length", config.text_config.hidden_size),
    ):
        if (found := files.value(file, key)) != expected:
            raise error("E839", path=path, problem=f"{key} is {found}, expected {expected}")
    found, expected = files.value(file, metadata.WEIGHTS_ID), folder_identity(folder)
    if found != expected:
        raise error("E838", path=path, folder=folder, found=found, expected=expected)
    return file


def _config(folder: Path) -> XverseVConfig:
    """The configuration of a model folder that passes inspection."""
    report = inspect_folder(folder)
    if report.kind != "model":
        raise error("E318", folder=folder, kind=report.kind)
    problem: XverseError | None = next(iter(report.problems), None)
    if problem is not None:
        raise problem
    config = XverseVConfig.from_pretrained(folder)
    assert isinstance(config, XverseVConfig)
    return config


def _network(folder: Path, config: XverseVConfig, table: GgufEmbedding) -> XverseVForConditionalGeneration:
    """Vision tower and projector in float32, with llama.cpp in place of decoder and head."""
    network = skeleton(config, attention=None, dtype=torch.float32)
    network.model.language_model = LlamaCppDecoder(table)
    network.lm_head = nn.Identity()  # type: ignore[assignment]  # llama.cpp's head has done its work
    state: dict[str, Tensor] = {}
    for name, path in weight_map(folder).items():
        if name.startswith((f"{VISION}.", f"{PROJECTOR}.")):
            with safe_open(path, framework="pt") as file:
                state[name] = file.get_tensor(name).float()
    network.load_state_dict(state, strict=True, assign=True)
    settings = folder / "generation_config.json"
    if settings.is_file():
        network.generation_config = GenerationConfig(eos_token_id=read_json(settings).get("eos_token_id"))
    return network.eval()


def _cells(config: XverseVConfig, context: int | None) -> int:
    """Raises E848."""
    most, least = int(config.text_config.max_position_embeddings), 2 * config.patches_per_view
    if context is None:
        return min(DEFAULT_CONTEXT, most)
    if not least <= context <= most:
        raise error("E848", found=context, least=least, most=most, view=config.patches_per_view)
    return context


def _reserved(path: Path, cells: int, rows: int, threads: int, cache_type: str, per_token: int) -> Context:
    """The decoder with its memory for keys and values. Raises E840 where that is more than there is."""
    needed, free = cells * rows * per_token, free_memory("cpu")
    facts = {"context": cells, "rows": rows, "mib": needed >> 20, "half": cells // 2}
    if needed > free.bytes:
        raise error("E840", reason=f"{free.bytes >> 20} MiB {free.source}", **facts)
    try:
        return Context(path, cells * rows, threads, cache_type)
    except MemoryError as reason:
        raise error("E840", reason=reason, **facts) from reason


def _bytes_per_token(config: XverseVConfig, itemsize: int) -> int:
    text = config.text_config
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * itemsize)
