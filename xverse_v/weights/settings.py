"""The small files of a model folder: config, processor, tokenizer, chat template, generation profiles.

What crosses: the JSON files of the CLIP folder and the chat folder in, read field by field through allow-lists; our
files out. A field that has no meaning here is listed, never obeyed. This file touches no tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from xverse_v import __version__
from xverse_v.errors import error
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration, XverseVImageProcessor, XverseVProcessor
from xverse_v.model.prompt import IMAGE_TOKEN, chat_template, native_tokenizer, special_strings, tokenizer_size
from xverse_v.model.tiling import Orientation

from .parts import read_json

_VISION_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
_TEXT_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "vocab_size",
    "initializer_range",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
# Fields that may stand in a config, but only with the value that this model computes with.
_TEXT_REQUIRED: Mapping[str, object] = {"tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False}
# Read in their own way, or without influence on an answer.
_TEXT_KNOWN = ("model_type", "architectures", "torch_dtype", "dtype", "transformers_version", "use_cache")
_ROPE_FIELDS = ("rope_theta", "rope_scaling", "rope_parameters")
_ROPE_BASE = 10000.0
_ROPE_TYPES = ("default", "linear")  # what the parity check of a conversion can compute on its own
_SPECIALS = ("bos_token", "eos_token", "pad_token", "unk_token")
_NO_LIMIT = 10**30  # how the ecosystem writes "no limit" in model_max_length

# The demo's chat defaults and the evaluation's; they differ in more than length, so both are named.
DEMO_PROFILE: Mapping[str, object] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_p": 0.8,
    "top_k": 30,
    "repetition_penalty": 1.05,
    "max_new_tokens": 2048,
}
EVAL_PROFILE: Mapping[str, object] = {"do_sample": False, "repetition_penalty": 1.0, "max_new_tokens": 16}


@dataclass(frozen=True)
class TokenizerPlan:
    """The tokenizer to write and the row of the embedding that its placeholder token uses."""

    json: Mapping[str, Any]
    settings: Mapping[str, Any]
    ids: int  # of the source, without the placeholder
    rows: int  # of the stored embedding
    image_token_id: int

    @property
    def appended_rows(self) -> int:
        """1 if every row of the embedding is taken, else 0: an unused row serves."""
        return int(self.image_token_id >= self.rows)


def vision_config(folder: Path) -> CLIPVisionConfig:
    """The vision tower of a CLIP folder without its last layer. Raises E311 if it is no CLIP."""
    path = folder / "config.json"
    source = read_json(path)
    kind = source.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise error("E311", path=path, field="model_type", found=repr(kind), expected="clip, clip_vision_model")
    vision = source.get("vision_config", {}) if kind == "clip" else source
    config = CLIPVisionConfig(**{name: vision[name] for name in _VISION_FIELDS if name in vision})
    if config.num_hidden_layers < 2:
        raise error("E311", path=path, field="num_hidden_layers", found=config.num_hidden_layers, expected="2 …")
    config.num_hidden_layers -= 1
    return config


def text_config(folder: Path) -> tuple[LlamaConfig, list[str]]:
    """The decoder of a chat folder, of type llama or xverse, and the names of the fields that were not used.

    Raises E311 for another type or a field whose value this decoder does not compute with.
    """
    path = folder / "config.json"
    source = read_json(path)
    kind = source.get("model_type")
    if kind not in ("llama", "xverse"):
        raise error("E311", path=path, field="model_type", found=repr(kind), expected="llama, xverse")
    for name, wanted in _TEXT_REQUIRED.items():
        if source.get(name, wanted) != wanted:
            raise error("E311", path=path, field=name, found=source[name], expected=wanted)
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if not isinstance(source.get(name), int):
            raise error("E311", path=path, field=name, found=repr(source.get(name)), expected="1, 2, 3 …")
    fields = {name: source[name] for name in _TEXT_FIELDS if name in source}
    config = LlamaConfig(**fields, rope_parameters=_rope(source, path), tie_word_embeddings=False)
    known = {*_TEXT_FIELDS, *_TEXT_REQUIRED, *_TEXT_KNOWN, *_ROPE_FIELDS}
    return config, sorted(name for name in source if name not in known)


def _rope(source: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Rotary settings in transformers 5's form; XVERSE's own config may carry none: base 10000."""
    scaling = source.get("rope_parameters") or source.get("rope_scaling") or {}
    settings = {"rope_type": "default", **{("rope_type" if k == "type" else k): v for k, v in scaling.items()}}
    settings.setdefault("rope_theta", float(source.get("rope_theta") or _ROPE_BASE))
    if settings["rope_type"] not in _ROPE_TYPES:
        raise error("E311", path=path, field="rope_type", found=settings["rope_type"], expected=", ".join(_ROPE_TYPES))
    return settings


def plan_tokenizer(folder: Path, rows: int) -> TokenizerPlan:
    """The chat folder's tokenizer with the placeholder token, which takes the first id that is free.

    Raises E302 if the tokenizer has more ids than the embedding has rows, or other special ids than the config says.
    """
    path = folder / "tokenizer.json"
    source = read_json(path)
    try:
        ids = tokenizer_size(source)
        native = native_tokenizer(source)
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise error("E317", path=path, problem=problem) from None
    if ids > rows:
        raise error("E302", folder=folder, ids=ids, rows=rows, detail=f"{ids} > {rows}")
    settings = _tokenizer_settings(folder)
    by_name = {**source["model"]["vocab"], **{token["content"]: token["id"] for token in source["added_tokens"]}}
    config = read_json(folder / "config.json")
    for name in _SPECIALS[:3]:
        told, own = config.get(f"{name}_id"), by_name.get(settings.get(name))
        if told is not None and settings.get(name) is not None and told != own:
            detail = f"{name} {settings[name]} = {own}, config.json: {told}"
            raise error("E302", folder=folder, ids=ids, rows=rows, detail=detail)
    return TokenizerPlan(native, settings, ids, rows, ids)


def _tokenizer_settings(folder: Path) -> dict[str, Any]:
    """`tokenizer_config.json` of a converted folder: the special tokens and the length limit of the source."""
    sources = [
        read_json(p) for p in (folder / "special_tokens_map.json", folder / "tokenizer_config.json") if p.is_file()
    ]
    given = {name: value for source in sources for name, value in source.items() if value is not None}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",  # a batch is continued at its right edge
    }
    for name in _SPECIALS:
        value = given.get(name)
        if value is not None:
            settings[name] = value["content"] if isinstance(value, dict) else value
    limit = given.get("model_max_length")
    settings["model_max_length"] = limit if isinstance(limit, int | float) else _NO_LIMIT
    return settings


def model_config(
    vision: CLIPVisionConfig, text: LlamaConfig, tokenizer: TokenizerPlan, dtype: torch.dtype
) -> XverseVConfig:
    """The whole configuration, with the special ids that generation reads."""
    text.vocab_size = tokenizer.rows + tokenizer.appended_rows
    config = XverseVConfig(vision, text, image_token_id=tokenizer.image_token_id, projector_layer_norm_eps=1e-5)
    config.architectures = [XverseVForConditionalGeneration.__name__]
    config.dtype = dtype
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, name, getattr(text, name))
    config.xverse_v_version = __version__
    return config


def write_settings(folder: Path, config: XverseVConfig, tokenizer: TokenizerPlan, orientation: Orientation) -> None:
    """All small files of a model folder. EXIF turning belongs to `upright`; the released weights never saw it."""
    config.save_pretrained(folder)
    _write_json(folder / "tokenizer.json", tokenizer.json)
    _write_json(folder / "tokenizer_config.json", tokenizer.settings)
    _write_json(folder / "special_tokens_map.json", {k: v for k, v in tokenizer.settings.items() if k in _SPECIALS})
    images = XverseVImageProcessor(
        tile_size=config.vision_config.image_size, orientation=orientation, apply_exif=orientation == "upright"
    )
    template = chat_template(special_strings(dict(tokenizer.json)), tokenizer.settings["eos_token"])
    loaded = PreTrainedTokenizerFast.from_pretrained(folder)
    XverseVProcessor(images, loaded, template, config.patches_per_view).save_pretrained(folder)
    # The processor saves the tokenizer as it understood it; what stays on disk is the source's own file and the
    # placeholder.
    _write_json(folder / "tokenizer.json", tokenizer.json)
    _write_json(folder / "tokenizer_config.json", tokenizer.settings)
    ids = {name: getattr(config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    _write_json(folder / "generation_config.json", {**ids, **DEMO_PROFILE})
    _write_json(folder / "generation_profiles.json", {"demo": DEMO_PROFILE, "eval": EVAL_PROFILE})


def release_prompt_ids(folder: Path, question: str, image_tokens: int, image_token_id: int) -> list[int]:
    """The ids of an evaluation prompt as the release makes them: the source's tokenizer, segment by segment."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    before = tokenizer.encode("Human: ", add_special_tokens=True).ids
    after = tokenizer.encode(f"\n{question}\nAssistant: ", add_special_tokens=False).ids
    return [*before, *[image_token_id] * image_tokens, *after]


def placeholder_id(folder: Path) -> int | None:
    """The id of the placeholder in a folder's tokenizer, or None."""
    tokens = read_json(folder / "tokenizer.json").get("added_tokens", [])
    return next((token["id"] for token in tokens if token["content"] == IMAGE_TOKEN), None)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
