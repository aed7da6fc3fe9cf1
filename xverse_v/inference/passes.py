"""The two passes of the decoder: `prefill` over a part of one prompt, `decode` of one token for every row.

What crosses: token ids, image tokens and a `RowCache` in, logits out. Nothing here knows requests, text or batches that
come and go.

Shapes: B rows, S tokens of a part, N vocabulary, n image tokens, D decoder width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xverse_v.model import XverseVForConditionalGeneration

from .kv import RowCache


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
    start, new = cache.length(row), token_ids.shape[0]
    positions = torch.arange(start, start + new, device=token_ids.device)
    cache.open_row(row)
    logits: Tensor = model(
        inputs_embeds=embeds[None],
        position_ids=positions[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    cache.close(new)
    return logits[0, -1].float()


@torch.inference_mode()
def decode(model: XverseVForConditionalGeneration, cache: RowCache, tokens: Tensor) -> Tensor:
    """One token for each of the first B rows: int64[B] -> the logits after it, float32[B, N]."""
    count = tokens.shape[0]
    lengths = cache.open_rows(count, tokens.device)
    mask = None
    if cache.uneven:
        columns = torch.arange(cache.longest + 1, device=tokens.device)
        mask = columns[None, :] <= lengths[:, None]
    logits: Tensor = model(
        input_ids=tokens[:, None],
        attention_mask=mask,
        position_ids=lengths[:, None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    cache.close(1)
    return logits[:, -1].float()
