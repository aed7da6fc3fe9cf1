"""From a model's name or folder to an `Assistant`: which folder, which device, which generation profiles.

What crosses: a name in, a loaded assistant out. Weights are read by `xverse_v.weights`, strictly; everything that is
decided is decided from files inside the folder, never from its name. Nothing is downloaded.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xverse_v.elementwise import use_cached_steps
from xverse_v.errors import error
from xverse_v.linears import use_fast_linears
from xverse_v.media import DEFAULT_LIMITS, MediaLimits
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.model.tiling import Grid
from xverse_v.weights.load import load_model, weights_id

from .answer import UNQUANTISED, Conditions
from .assistant import NO_PROFILE, Assistant
from .cache import DEFAULT_FEATURE_BYTES, DEFAULT_PREFIX_BYTES, FeatureCache, PrefixCache
from .engine import Engine
from .prompt import PromptBuilder
from .sampling import SamplingSettings

if TYPE_CHECKING:
    from xverse_v.quantisation.quantised import QuantiseReport

NANO = "nano"
PROFILES_FILE = "generation_profiles.json"
_TEXT_BESIDE_AN_IMAGE = 512  # tokens of text that the default prefix cache has room for beside one image
_SAMPLING_KEYS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens")


def load(
    model: str | Path = NANO,
    *,
    device: str | None = None,
    dtype: str = "auto",
    attention: str | None = None,
    cache_bytes: int | None = None,
    feature_cache_bytes: int = DEFAULT_FEATURE_BYTES,
    profile: str | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    quantise: str | None = None,
    on_quantised: Callable[[QuantiseReport], None] | None = None,
) -> Assistant:
    """Load a model and be ready to ask.

    - ``model``: "nano", the built-in one, or a model folder.
    - ``device``: "cpu", "cuda", "cuda:1", "mps"; None takes cuda, else mps, else the CPU. The receipt says which.
    - ``dtype``, ``attention``: see `xverse_v.weights.load.load_model`.
    - ``cache_bytes``: bound of the prefix cache, 0 is off; None is 1 GiB or one full context, whichever is more, so
    that
      the largest image always fits. ``feature_cache_bytes``: bound of the image-token cache.
    - ``profile``: which of the folder's generation profiles gives the defaults; None is "demo" where there is one.
    - ``quantise``: "int8" or "int4" for the decoder's linears and the head, where a kernel is faster than float here;
    ``on_quantised`` is told which one runs and why.

    Raises E105 (no such model), E106 (no such device), E107/E108 (profiles), what loading the weights raises (E3xx),
    and E860 to E864 if they cannot be quantised.
    """
    folder = resolve_model(model)
    target = pick_device(device)
    profiles = read_profiles(folder)
    kernels = UNQUANTISED
    if quantise is None:
        network = load_model(folder, device=target, dtype=dtype, attention=attention)
    else:
        network, report = load_quantised(folder, quantise, device=target, dtype=dtype, attention=attention)
        kernels = report.label
        if on_quantised is not None:
            on_quantised(report)
    processor = XverseVProcessor.from_pretrained(folder)
    return assemble(
        network,
        processor,
        weights_id=weights_id(folder),
        cache_bytes=cache_bytes,
        feature_cache_bytes=feature_cache_bytes,
        profiles=profiles,
        profile=profile,
        limits=limits,
        quantised=kernels,
    )


def load_quantised(
    folder: Path,
    kind: str,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    attention: str | None = None,
    refuse_slow: bool = True,
) -> tuple[XverseVForConditionalGeneration, QuantiseReport]:
    """The model of a folder with quantised linears; see `xverse_v.quantisation.quantised.quantise_decoder`.

    On the CPU the tensors are mapped in the dtype they are stored in and turned to eight bits one by one, so that there
    is never a float32 copy of them all. Raises E864 for another ``dtype`` there than "auto" and "float32".
    """
    from xverse_v.quantisation.quantised import quantise_decoder

    if device == "cpu":
        if dtype not in ("auto", "float32"):
            raise error("E864", dtype=dtype, kind=kind)
        dtype = str(XverseVConfig.from_pretrained(folder).dtype or "float32").removeprefix("torch.")
    network = load_model(folder, device=device, dtype=dtype, attention=attention)
    return network, quantise_decoder(network, kind, refuse_slow=refuse_slow)


def assemble(
    network: XverseVForConditionalGeneration,
    processor: XverseVProcessor,
    *,
    weights_id: str,
    cache_bytes: int | None = None,
    feature_cache_bytes: int = DEFAULT_FEATURE_BYTES,
    profiles: Mapping[str, SamplingSettings] | None = None,
    profile: str | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    quantised: str = UNQUANTISED,
) -> Assistant:
    """An assistant around a network that is in memory already. ``weights_id`` must name its weights, and ``quantised``
    the kernels they were rounded for: caches rely on both.
    """
    if network.device.type == "cpu":
        use_fast_linears(network)
        use_cached_steps(network)
    conditions = Conditions(
        weights_id=weights_id,
        dtype=str(network.dtype).removeprefix("torch."),
        device=str(network.device),
        attention=network.config.text_config._attn_implementation or "eager",
        orientation=processor.image_processor.orientation,
        threads=torch.get_num_threads(),
        quantised=quantised,
    )
    engine = Engine(network, processor.tokenizer, conditions, PrefixCache(0), FeatureCache(feature_cache_bytes))
    if cache_bytes is None:
        views = Grid(1, processor.image_processor.max_tiles).views
        tokens = min(engine.max_context, views * processor.patches_per_view + _TEXT_BESIDE_AN_IMAGE)
        cache_bytes = max(DEFAULT_PREFIX_BYTES, tokens * engine.kv_bytes_per_token)
    engine.prefix_cache = PrefixCache(cache_bytes)
    known = {NO_PROFILE: SamplingSettings(), **(profiles or {})}
    if profile is None:
        profile = "demo" if "demo" in known else NO_PROFILE
    return Assistant(engine, PromptBuilder(processor, limits), known, profile)


def resolve_model(model: str | Path) -> Path:
    """The folder of "nano" or of a path. Raises E105 with the nearest name if there is none."""
    if str(model) == NANO:
        return Path(str(files("xverse_v.nano") / "weights"))
    folder = Path(model)
    if not folder.is_dir():
        near = _neighbours(folder)
        kind, kind_zh = ("a file, not a folder", "是文件而不是目录") if folder.exists() else ("missing", "不存在")
        raise error("E105", model=str(model), kind=kind, kind_zh=kind_zh, near=near or NANO)
    return folder


def pick_device(device: str | None) -> str:
    """A device torch can use here. Raises E106 for one it cannot, naming those it can."""
    usable = ["cpu"]
    if torch.backends.mps.is_available():
        usable.insert(0, "mps")
    if torch.cuda.is_available():
        usable[:0] = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if device is None:
        return usable[0]
    if device not in usable:
        raise error("E106", device=device, usable=", ".join(usable))
    return device


def read_profiles(folder: Path) -> dict[str, SamplingSettings]:
    """The named settings of ``generation_profiles.json``; none if the folder has no such file. Raises E107.

    A profile is written in transformers' words. ``do_sample`` false means greedy; its top-p and top-k then wait for a
    temperature that somebody asks for.
    """
    path = folder / PROFILES_FILE
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {name: _profile(path, name, fields) for name, fields in document.items()}
    except (ValueError, AttributeError, TypeError) as reason:
        raise error("E107", path=path, problem=reason) from reason


def _profile(path: Path, name: str, fields: Mapping[str, Any]) -> SamplingSettings:
    unknown = sorted(set(fields) - {*_SAMPLING_KEYS, "do_sample"})
    if unknown:
        raise error("E107", path=path, problem=f"{name}: {', '.join(unknown)}")
    given = {key: fields[key] for key in _SAMPLING_KEYS if key in fields}
    if not fields.get("do_sample", False):
        given["temperature"] = 0.0
    return SamplingSettings(**given)


def _neighbours(folder: Path) -> str:
    """Folders beside the one that is missing whose names are close to it."""
    parent = folder.parent
    names = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    return ", ".join(str(parent / name) for name in difflib.get_close_matches(folder.name, names, n=3, cutoff=0.5))
