"""What a visitor chose in the settings, as the engine takes it.

What crosses: raw values of the page's controls in, a `Choices` out, every value checked by the engine's own rules
(E101). Values come from a browser, so their types are whatever it sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xverse_v.inference.sampling import SamplingOptions, SamplingSettings, with_options
from xverse_v.model.prompt import RELEASE_SYSTEM

#: The release's chat sampled at this temperature once its box was ticked; a greedy profile says nothing of it.
RELEASE_TEMPERATURE = 1.0
#: Alternatives kept for each token, for the confidence panel.
LOGPROBS = 3

#: Order of the values that `read` takes, and of the page's controls.
NAMES = (
    "system",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "max_new_tokens",
    "seed",
    "max_tiles",
)


@dataclass(frozen=True)
class Choices:
    """Settings of one question. ``options`` go to the conversation; ``max_tiles`` to its images."""

    system: str | None
    max_tiles: int
    options: SamplingOptions


def defaults(profile: SamplingSettings, most_tiles: int) -> dict[str, object]:
    """What the controls show at first: the model's own profile and the release's system text."""
    return {
        "system": RELEASE_SYSTEM,
        "do_sample": not profile.greedy,
        "temperature": profile.temperature or RELEASE_TEMPERATURE,
        "top_p": profile.top_p,
        "top_k": profile.top_k,
        "repetition_penalty": profile.repetition_penalty,
        "max_new_tokens": profile.max_new_tokens,
        "seed": profile.seed,
        "max_tiles": most_tiles,
    }


def read(values: Sequence[object], profile: SamplingSettings) -> Choices:
    """``values`` in the order of `NAMES`. Raises E101 for one that cannot be used.

    An empty system text is none. The profile's own length of an answer may shrink to what fits behind the prompt;
    another one is passed on, and must fit.
    """
    given = dict(zip(NAMES, values, strict=True))
    options: SamplingOptions = {
        "temperature": _number(given["temperature"]) if given["do_sample"] is True else 0.0,  # type: ignore[typeddict-item]
        "top_p": _number(given["top_p"]),  # type: ignore[typeddict-item]
        "top_k": _number(given["top_k"]),  # type: ignore[typeddict-item]
        "repetition_penalty": _number(given["repetition_penalty"]),  # type: ignore[typeddict-item]
        "seed": _number(given["seed"]),  # type: ignore[typeddict-item]
        "logprobs": LOGPROBS,
    }
    length = _number(given["max_new_tokens"])
    if length != profile.max_new_tokens:
        options["max_new_tokens"] = length  # type: ignore[typeddict-item]
    with_options(profile, options)  # the engine's own check of every value
    system = given["system"] if isinstance(given["system"], str) else ""
    return Choices(system if system.strip() else None, _number(given["max_tiles"]), options)  # type: ignore[arg-type]


def _number(value: object) -> object:
    """7.0 as 7: a browser has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
