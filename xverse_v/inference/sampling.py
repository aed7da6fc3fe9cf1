"""From logits to the next token: settings, pure functions on float32[B, N], one seeded draw a row.

What crosses: logits in, token ids and log-probabilities out. This file knows no model, no tokenizer and no text.
Letters: B rows of the batch, N the size of the vocabulary.

The rules are those the release's generation follows: first the repetition penalty, then temperature, then top-k, then
top-p. Greedy decoding (temperature 0) takes the first of equal maxima. Nothing here mixes rows, and every request
owns its random generator, so what a request draws does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from xverse_v.errors import XverseError, error

MAX_LOGPROBS = 100
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class SamplingSettings:
    """How an answer is drawn. Raises E101 with what was got and what was expected.

    - ``max_new_tokens``: most tokens of the answer, the end token included.
    - ``temperature``: 0 is greedy; above 0 the logits are divided by it before the draw.
    - ``top_p``: draw from the smallest set of tokens whose probabilities sum to at least this; 1 keeps all.
    - ``top_k``: draw from the k likeliest tokens; 0 keeps all.
    - ``repetition_penalty``: logits of tokens *already generated in this answer* are divided (positive) or multiplied
      (negative) by it, as the release's chat does; the prompt does not count (see `penalise`). 1 is off.
    - ``seed``: of this request's own generator.
    - ``stop``: strings that end the answer; they are not part of it.
    - ``logprobs``: 0 is off; n reports the chosen token and the n likeliest of every position.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int = 0

    def __post_init__(self) -> None:
        given: object = self.stop  # a caller without types may pass one string, or a list
        stop = (given,) if isinstance(given, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        _check_integer("max_new_tokens", self.max_new_tokens, 1, None)
        _check_number("temperature", self.temperature, 0.0, 100.0, low_open=False)
        _check_number("top_p", self.top_p, 0.0, 1.0, low_open=True)
        _check_integer("top_k", self.top_k, 0, None)
        _check_number("repetition_penalty", self.repetition_penalty, 0.0, 100.0, low_open=True)
        _check_integer("seed", self.seed, 0, MAX_SEED)
        _check_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if not all(isinstance(text, str) and text for text in stop):
            raise bad_setting("stop", self.stop, "strings of at least one character", "至少含一个字符的字符串")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingSettings` as keywords of one call; what is not given keeps the model's own value."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int
    stop: Sequence[str] | str
    logprobs: int


def with_options(settings: SamplingSettings, options: SamplingOptions) -> SamplingSettings:
    """``settings`` with the given fields replaced. Raises E102 for an unknown field, E101 for a bad value."""
    known = [field.name for field in fields(SamplingSettings)]
    given: dict[str, Any] = dict(options)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise error("E102", name=name, known=", ".join(known), suggestion=close[0] if close else known[0])
    return replace(settings, **given)


def penalise(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Repetition penalty. ``logits`` float32[B, N], ``seen`` bool[B, N], ``penalty`` float32[B] -> float32[B, N].

    A seen token's logit is divided by the penalty where positive and multiplied where negative (Keskar et al. 2019,
    CTRL). Which tokens are *seen* is the caller's rule. Ours is: those generated in this answer. The release hands
    embeddings, not ids, to its generation, so there too the prompt never counts (golden rows `rep15` and the chat
    rows hold us to it); a model that is given prompt ids would count them.
    """
    penalty = penalty[:, None]
    changed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, changed, logits)


def sorted_distribution(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """What may be drawn, likeliest first. float32[B, N] and three [B] -> ids int64[B, N], probabilities float64[B, N].

    Tokens cut by top-k or top-p have probability 0; each row of probabilities sums to 1; equal logits stay in id
    order. A ``top_k`` of 0 keeps all. The token that crosses ``top_p`` is kept, so at least one always is.
    ``temperature`` is above 0.
    """
    scaled, ids = torch.sort(logits.double() / temperature.double()[:, None], dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)[None, :]
    limit = torch.where(top_k > 0, top_k, logits.shape[-1])[:, None]
    probabilities = torch.softmax(scaled.masked_fill(rank >= limit, -torch.inf), dim=-1)
    before = probabilities.cumsum(-1) - probabilities
    kept = (before < top_p.double()[:, None]) | (top_p[:, None] >= 1.0)
    probabilities = probabilities.masked_fill(~kept, 0.0)
    return ids, probabilities / probabilities.sum(-1, keepdim=True)


def draw(ids: Tensor, probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverse of the cumulative distribution: one number float64[B] in [0, 1) picks one id of each row -> int64[B]."""
    cumulative = probabilities.cumsum(-1)
    place = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    # Rounding may leave the sum a hair below the number drawn: the last token that can be drawn at all is meant then.
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(place, last)).squeeze(-1)


def choose(
    logits: Tensor,
    settings: Sequence[SamplingSettings],
    seen: Tensor | None,
    generators: Sequence[torch.Generator],
    allowed: Tensor | None = None,
) -> Tensor:
    """The next token of every row: float32[B, N] -> int64[B].

    ``seen`` bool[B, N] may be None when no row has a penalty, ``allowed`` bool[B, N] when any token may come.
    ``generators`` live on the CPU, one a row; a greedy row never touches its own, and a sampling row takes exactly one
    number from it, whatever the device of the logits is.
    """
    if seen is not None:
        penalties = logits.new_tensor([row.repetition_penalty for row in settings])
        logits = penalise(logits, seen, penalties)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    tokens = logits.argmax(-1)
    rows = [index for index, row in enumerate(settings) if not row.greedy]
    if rows:
        chosen = [settings[index] for index in rows]
        uniform = torch.stack([torch.rand((), dtype=torch.float64, generator=generators[index]) for index in rows])
        ids, probabilities = sorted_distribution(
            logits[rows],
            logits.new_tensor([row.temperature for row in chosen]),
            torch.tensor([row.top_k for row in chosen], device=logits.device),
            logits.new_tensor([row.top_p for row in chosen]),
        )
        tokens[rows] = draw(ids, probabilities, uniform.to(logits.device))
    return tokens


def token_logprobs(logits: Tensor, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Log-probability of ``token`` and the ``count`` likeliest (id, log-probability) of one row float32[N].

    They come from the model's raw logits: before penalty, temperature, top-k and top-p, so they compare across
    settings.
    """
    raw = torch.log_softmax(logits.float(), dim=-1)
    values, ids = torch.topk(raw, min(count, raw.shape[-1]))
    return float(raw[token]), list(zip(ids.tolist(), values.tolist(), strict=True))


def new_generator(seed: int) -> torch.Generator:
    """The generator of one request, on the CPU whatever the model's device, so a seed means the same everywhere."""
    return torch.Generator(device="cpu").manual_seed(seed)


def bad_setting(name: str, got: object, expected: str, expected_zh: str) -> XverseError:
    """E101, built."""
    return error("E101", name=name, got=repr(got), expected=expected, expected_zh=expected_zh)


def _check_integer(name: str, got: object, low: int, high: int | None) -> None:
    if isinstance(got, int) and not isinstance(got, bool) and low <= got and (high is None or got <= high):
        return
    upper, upper_zh = ("", "") if high is None else (f" and at most {high}", f"、不大于 {high}")
    raise bad_setting(name, got, f"a whole number, at least {low}{upper}", f"不小于 {low}{upper_zh} 的整数")


def _check_number(name: str, got: object, low: float, high: float, *, low_open: bool) -> None:
    number = got if isinstance(got, int | float) and not isinstance(got, bool) else float("nan")
    if low <= number <= high and not (low_open and number == low):  # NaN fails it
        return
    relation, relation_zh = ("above", "大于") if low_open else ("at least", "不小于")
    raise bad_setting(
        name,
        got,
        f"a number, {relation} {low:g} and at most {high:g}",
        f"{relation_zh} {low:g}、不大于 {high:g} 的数",
    )
