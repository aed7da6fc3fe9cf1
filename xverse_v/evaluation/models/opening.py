"""From a spec to a model that can be measured: "nano", a folder, or URL#MODEL. Refuses to guess.

What crosses: a string and options in, an open `Model` out. A folder is ours or another's by the `model_type` in its
config.json, never by its name. torch, transformers and openai are loaded only for the kind that needs them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xverse_v.errors import error

from ..endpoint import KEY_VARIABLE, Endpoint, EndpointSettings
from .images import ImageRule, Reencode

if TYPE_CHECKING:
    from ..contract import Model, Profile

NANO = "nano"
OUR_TYPE = "xverse_v"


@dataclass(frozen=True)
class ModelOptions:
    """What a spec does not say. What a kind of model has no use for is ignored by it.

    ``device``, ``dtype``, ``attention`` and ``batch_size`` are of models computed here, ``quantise`` of ours alone;
    ``concurrency``, ``key_variable`` (None sends no key), ``timeout`` seconds, ``attempts`` and ``newer_fields`` of
    endpoints.
    ``batch_size`` None is 8 to 64 for our models, whose answers it cannot change (`ours.own_batch_size`), and 1 for
    others, whose it may.
    ``image_root``: image files are read below it only. ``images``: "first" of a prompt or "all", for our models.
    ``reencode`` None follows the profile. ``name`` stands in reports in place of the spec's own.
    """

    device: str | None = None
    dtype: str = "auto"
    quantise: str | None = None
    attention: str | None = None
    batch_size: int | None = None
    concurrency: int = 4
    key_variable: str | None = KEY_VARIABLE
    timeout: float = 120.0
    attempts: int = 6
    newer_fields: bool = False
    image_root: Path | None = None
    images: Literal["first", "all"] = "first"
    reencode: Reencode | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        """Raises E774 for a number below its least."""
        for flag, value in (
            ("--batch-size", self.batch_size),
            ("--concurrency", self.concurrency),
            ("--attempts", self.attempts),
        ):
            if value is not None and value < 1:
                raise error("E774", name=flag, got=value, expected=">= 1")
        if not self.timeout > 0:
            raise error("E774", name="--timeout", got=self.timeout, expected="> 0")


def open_model(spec: str, options: ModelOptions | None = None, *, profile: Profile = "vlmevalkit") -> Model:
    """Open the model ``spec`` names: "nano", a folder on this machine, or an endpoint as ``URL#MODEL``.

    ``profile`` decides how images are handed over where ``options`` do not: those of April 2024 recompress the images
    of data files and mark where several images stood (see `images.ImageRule`, `ours.folded_text`).
    Raises E765 for any other spec, E760/E761/E766 for endpoints, E770-E772 for folders, and what loading raises.
    """
    options = options or ModelOptions()
    of_2024 = profile in ("vlmevalkit-2024-04", "release")
    rule = ImageRule(options.image_root, options.reencode or ("jpeg75" if of_2024 else "none"))
    if spec.lower().startswith(("http://", "https://")):
        return _endpoint(spec, options, rule)
    if spec == NANO:
        return _ours(spec, options, rule, marks=of_2024)
    folder = Path(spec)
    if not folder.is_dir():
        kind = ("it is a file", "它是一个文件") if folder.exists() else ("there is no such folder", "没有这个目录")
        raise error("E765", spec=spec, problem=kind[0], problem_zh=kind[1])
    if _model_type(folder) == OUR_TYPE:
        return _ours(spec, options, rule, marks=of_2024)
    from .folder import open_folder

    return open_folder(
        folder,
        rule,
        name=options.name or folder.resolve().name,
        device=options.device,
        dtype=options.dtype,
        attention=options.attention,
        batch_size=options.batch_size or 1,
    )


def _endpoint(spec: str, options: ModelOptions, rule: ImageRule) -> Model:
    from .over_http import EndpointModel

    url, _, model = spec.partition("#")
    if not model.strip():
        problem = ("the model's name is missing behind a #", "# 之后缺少模型名")
        raise error("E765", spec=url, problem=problem[0], problem_zh=problem[1])
    settings = EndpointSettings(
        base_url=url,
        model=model.strip(),
        key_variable=options.key_variable,
        timeout=options.timeout,
        attempts=options.attempts,
        newer_fields=options.newer_fields,
    )
    name = options.name or settings.model
    return EndpointModel(Endpoint(settings), name, rule, concurrency=options.concurrency)


def _ours(spec: str, options: ModelOptions, rule: ImageRule, *, marks: bool) -> Model:
    from xverse_v.inference.loading import load

    from .ours import XverseModel

    assistant = load(
        spec, device=options.device, dtype=options.dtype, attention=options.attention, quantise=options.quantise
    )
    name = options.name or (NANO if spec == NANO else Path(spec).resolve().name)
    return XverseModel(assistant, name, rule, images=options.images, marks=marks, batch_size=options.batch_size)


def _model_type(folder: Path) -> str:
    """``model_type`` of config.json. Raises E765 if there is none to read."""
    try:
        document: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(document["model_type"])
    except OSError:
        problem = ("it has no config.json", "其中没有 config.json")
    except (ValueError, KeyError, TypeError):
        problem = ("its config.json names no model_type", "其 config.json 没有给出 model_type")
    raise error("E765", spec=str(folder), problem=problem[0], problem_zh=problem[1])
