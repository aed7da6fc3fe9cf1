"""Attention of rows that begin alike: the beginning is read once for all of them, not once a row.

Rows that ask about one image hold the same keys and values in their first columns. There the queries of all rows meet
*one* copy in one matrix product, which a machine does far faster than the same numbers read row by row; behind it every
row meets its own. The softmax goes over both halves, so the result is that of the plain kernel up to rounding.

What crosses: queries, keys, values and a mask of the open rows in, as transformers hands them to any kernel, with the
`Group`s of those rows. The file knows no cache, no model and no request.

Shapes: B rows of a pass, R of a group, S tokens of each, H heads, L key-value heads (each for H / L of them), K
head width, C columns of the cache, c of them shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NAME = "xverse_v_shared"

_ROWS_A_GROUP = 4  # fewer, and the extra steps of a group cost more than they save
_MOST_BYTES = 2**26  # of attention weights at one time, in float32, where they are written out


@dataclass(frozen=True, eq=False)
class Group:
    """``rows`` among the open ones that begin with the same keys and values, a tensor [L, c, K] a layer; a row that
    shares nothing is a group without any.
    """

    rows: tuple[int, ...]
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()

    @property
    def columns(self) -> int:
        """Columns shared."""
        return self.keys[0].shape[1] if self.keys else 0


def worth_sharing(groups: Sequence[Group], columns: int) -> bool:
    """Whether the rows of a pass are many and alike enough: more than half of all that is read is saved."""
    rows = sum(len(group.rows) for group in groups)
    saved = sum((len(group.rows) - 1) * group.columns for group in groups)
    return rows >= _ROWS_A_GROUP * len(groups) and 2 * saved > rows * columns


@contextmanager
def sharing(config: PreTrainedConfig) -> Iterator[None]:
    """Within it, the decoder of this config takes `shared_attention` and its ``groups``."""
    # Not at the top: it belongs to the modules of models, which whoever imports this file may not have loaded yet.
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = config._attn_implementation
    if NAME not in ALL_ATTENTION_FUNCTIONS:
        ALL_ATTENTION_FUNCTIONS.register(NAME, shared_attention)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def shared_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    groups: Sequence[Group],
    **_: object,
) -> tuple[Tensor, None]:
    """[B, H, S, K], twice [B, L, C, K] and a mask float[B, 1, S, C] to add -> [B, S, H, K].

    No mask means that every token sees every column, as in a decode step of rows of equal length. Of the columns that
    a group shares nothing is read here: they need not be written.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    query = query * scaling
    found = torch.empty_like(query.transpose(1, 2))
    most = max(1, _MOST_BYTES // (4 * query.shape[1] * query.shape[2] * key.shape[2]))  # rows at one time
    for group in groups:
        beginning = (group.keys[layer], group.values[layer]) if group.keys else (key[0, :, :0], value[0, :, :0])
        for some in range(0, len(group.rows), most):
            rows = _index(group.rows[some : some + most])
            own = key[rows, :, group.columns :], value[rows, :, group.columns :]
            mask = None if attention_mask is None else attention_mask[rows]
            found[rows] = _merged(query[rows], beginning, own, mask)
    return found, None


def _index(rows: tuple[int, ...]) -> slice | list[int]:
    """Neighbours as a slice, which gathers nothing."""
    return slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else list(rows)


def _merged(query: Tensor, beginning: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
    """Scaled [R, H, S, K], what is shared [L, c, K] and what is each row's own [R, L, C - c, K] -> [R, S, H, K]."""
    count, heads, tokens, width = query.shape
    kinds, columns = beginning[0].shape[:2]
    each, rest = heads // kinds, own[0].shape[2]
    apart = query.reshape(count, kinds, each * tokens, width)
    scores = torch.matmul(apart, own[0].transpose(2, 3)).view(count, kinds, each, tokens, rest)
    if mask is not None:
        scores = scores + mask[:, :, None, :, columns:]
    if not columns:
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        found = torch.matmul(weights.view(count, kinds, each * tokens, rest), own[1])
        return found.view(count, heads, tokens, width).transpose(1, 2)
    together = apart.transpose(0, 1).reshape(kinds, count * each * tokens, width)
    first, log_sum = _whole(together, *beginning)
    first = first.view(kinds, count, each, tokens, width).transpose(0, 1)
    log_sum = log_sum.view(kinds, count, each, tokens, 1).transpose(0, 1)
    # The softmax over both halves, each knowing the sum of the other.
    scores = scores.float()
    own_sum = scores.logsumexp(-1, keepdim=True)
    weights = torch.exp(scores - torch.logaddexp(own_sum, log_sum)).to(query.dtype)
    found = torch.matmul(weights.view(count, kinds, each * tokens, rest), own[1])
    share = torch.sigmoid(log_sum - own_sum).to(query.dtype)
    found = torch.addcmul(found.view(count, kinds, each, tokens, width), first, share)
    return found.reshape(count, heads, tokens, width).transpose(1, 2)


def _whole(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled [L, Q, K] over all of [L, c, K] -> what it finds [L, Q, K], and float32[L, Q]: the logarithm of the sum
    that its softmax divides by.
    """
    if query.device.type != "cpu":
        return _written(query, keys, values)
    # The kernel behind scaled_dot_product_attention, which keeps that logarithm to itself. It writes no weights; for
    # ends of prompts it is 2.5 to 3 times as fast as the two products.
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    found, log_sum = fused(query[None], keys[None], values[None], scale=1.0)
    return found[0], log_sum.reshape(query.shape[:2])


def _written(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The same in two products, with all weights written out."""
    scores = torch.matmul(query, keys.transpose(1, 2)).float()
    log_sum = scores.logsumexp(-1)
    return torch.matmul(torch.exp(scores - log_sum[..., None]).to(query.dtype), values), log_sum
