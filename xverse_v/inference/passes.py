"""The passes of the decoder: `prefill` over a part of one prompt, `prefill_together` over several ends, `decode`.

What crosses: token ids, image tokens and a `RowCache` in, logits out. Nothing here knows requests, text or batches that
come and go.

Shapes: B rows, S tokens of a row, C columns of the cache, N vocabulary, n image tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from xverse_v.model import XverseVForConditionalGeneration

from .kv import RowCache
from .shared import Group, sharing, worth_sharing


@torch.inference_mode()
def prefill(
    model: XverseVForConditionalGeneration, cache: RowCache, row: int, token_ids: Tensor, features: Tensor | None = None
) -> Tensor:
    """Append one part of a prompt to ``row``: int64[S] and the image tokens float[n, D] that replace its placeholders.

    Returns the logits after its last token, float32[N]. Only that position passes the head.
    """
    embeds = model.get_input_embeddings()(token_ids)
    places = token_ids == model.config.image_token_id
    wanted = 0 if features is None else features.shape[0]
    if int(places.sum()) != wanted:
        raise ValueError(f"{int(places.sum())} placeholder tokens in this part, but {wanted} image tokens")
    if features is not None:
        embeds[places] = features.to(embeds.dtype)
    return _append(model, cache, row, [len(token_ids)], embeds[None])[0]


@torch.inference_mode()
def prefill_together(
    model: XverseVForConditionalGeneration, cache: RowCache, first: int, parts: Sequence[Sequence[int]]
) -> Tensor:
    """Append a part without images to each of B rows from ``first`` on, of any lengths -> the logits after each,
    float32[B, N]. Shorter parts are filled up in front; what fills up is computed and not kept.
    """
    counts = [len(part) for part in parts]
    filled = [[0] * (max(counts) - len(part)) + list(part) for part in parts]
    embeds = model.get_input_embeddings()(torch.tensor(filled, device=model.device))
    return _append(model, cache, first, counts, embeds)


@torch.inference_mode()
def decode(model: XverseVForConditionalGeneration, cache: RowCache, tokens: Tensor) -> Tensor:
    """One token for each of the first B rows: int64[B] -> the logits after it, float32[B, N]."""
    return _append(model, cache, 0, [1] * len(tokens), model.get_input_embeddings()(tokens)[:, None])


def can_prefill_together(model: XverseVForConditionalGeneration) -> bool:
    """Whether the attention kernel takes a mask for every token of every row; flash attention takes one a row."""
    return model.config.text_config._attn_implementation in ("eager", "sdpa")


def _append(
    model: XverseVForConditionalGeneration, cache: RowCache, first: int, counts: Sequence[int], embeds: Tensor
) -> Tensor:
    """float[B, S, D], of each row the last ``counts`` positions -> the logits after the last one, float32[B, N]."""
    places = cache.open_rows(first, counts, embeds.device)
    groups = _groups(model, cache, len(counts))
    cache.shared = bool(groups)
    if not groups:
        cache.settle()
    mask = None
    if cache.uneven or (groups and embeds.shape[1] > 1):
        seen = torch.arange(cache.columns, device=embeds.device) <= places[:, :, None]  # bool[B, S, C]
        if can_prefill_together(model):
            # Of numbers, because eager attention adds it; sdpa takes it too.
            mask = torch.zeros(seen.shape, dtype=embeds.dtype, device=embeds.device)
            mask = mask.masked_fill_(~seen, torch.finfo(embeds.dtype).min)[:, None]
        else:
            mask = seen[:, -1]
    with sharing(model.model.language_model.config) if groups else nullcontext():
        logits: Tensor = model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **({"groups": groups} if groups else {}),
        ).logits
    cache.close()
    return logits[:, -1].float()


def _groups(model: XverseVForConditionalGeneration, cache: RowCache, rows: int) -> list[Group]:
    """The open rows by their common beginnings, where attention over these is to be shared; else none."""
    if rows < 2 or not can_prefill_together(model):
        return []
    found = cache.groups()
    return found if worth_sharing(found, cache.columns) else []
