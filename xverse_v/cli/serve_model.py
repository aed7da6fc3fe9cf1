"""Whose answers `xverse-v serve` gives: the model here, on one of its back ends, or another server's.

What crosses: flags in; an `Upstream`, or a function that loads the model, out. Flags that do not go together are
refused before anything listens. This file knows neither torch nor HTTP.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from xverse_v.errors import XverseError, error

if TYPE_CHECKING:
    from pathlib import Path

    from xverse_v.inference.assistant import Assistant
    from xverse_v.serving.settings import Upstream

UPSTREAM_KEY = "XVERSE_V_UPSTREAM_KEY"
ServeBackend = Literal["torch", "llamacpp", "openai"]
Source: TypeAlias = "Upstream | Callable[[], Assistant]"


def loader_of(
    model: str,
    device: str | None,
    dtype: str | None,
    quantise: str | None,
    backend: ServeBackend,
    gguf: Path | None,
    context: int | None,
    rows: int,
) -> Callable[[], Assistant]:
    """Loads the model when it is called, for ``rows`` requests at a time.

    Raises E849 and E844 for flags that do not go with the back end, E105 for a model that is not there.
    """
    from xverse_v.inference.loading import load, resolve_model

    from .backends import refuse_others

    refuse_others(backend, device, dtype, quantise, gguf, context)
    resolve_model(model)

    def loaded() -> Assistant:
        if backend == "llamacpp":
            from xverse_v.engines.llamacpp.loading import load as load_gguf

            assistant = load_gguf(model, gguf, context=context, rows=rows)
        else:
            assistant = load(model, device=device, dtype=dtype or "auto", quantise=quantise)
        # A million objects of libraries live as long as the process: a collection that looks through them stops every
        # answer for a tenth of a second.
        gc.collect()
        gc.freeze()
        return assistant

    return loaded


def upstream_of(backend: str, url: str | None, name: str | None, model: str) -> Upstream | None:
    """The other server, None with the model here. Raises E641 for flags of the one beside the other."""
    if backend != "openai":
        for flag, value in (("--upstream", url), ("--upstream-model", name)):
            if value is not None:
                raise _conflict(backend, flag, "it answers with the model here", "它用本机的模型回答")
        return None
    if url is None:
        raise _conflict(backend, "--upstream", "no address was given", "没有给出地址")
    if not url.startswith(("http://", "https://")):
        raise _conflict(backend, "--upstream", "it is not an http address", "它不是 http 地址")
    if model != "nano":
        raise _conflict(backend, "--model", "the other server has its own", "另一台服务器有自己的模型")
    from xverse_v.serving.settings import Upstream

    return Upstream(url, name, os.environ.get(UPSTREAM_KEY) or None)


def _conflict(backend: str, flag: str, problem: str, problem_zh: str) -> XverseError:
    return error("E641", backend=backend, flag=flag, problem=problem, problem_zh=problem_zh)
