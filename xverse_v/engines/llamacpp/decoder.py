"""The decoder as a torch module whose work llama.cpp does, in the place of `language_model`; head included.

What crosses: vectors float[B, S, D] in, logits out. Text becomes vectors here, too, from the GGUF file's own table, so
that a prompt with images goes through in one piece and llama.cpp never sees a token or a character.

Shapes: B rows, S tokens, D decoder width, N vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from xverse_v.engines.gguf import files
from xverse_v.errors import error

from .rows import LlamaRows

_TABLE = "token_embd.weight"


class GgufEmbedding(nn.Module):
    """Rows of a GGUF file's embedding, mapped and dequantised when they are asked for; a table in memory it is not."""

    def __init__(self, path: Path, file: Any) -> None:
        """``file``: what `files.open_file` gave for ``path``. Raises E839 if it has no embedding."""
        super().__init__()
        self._gguf = files.library()
        table = next((tensor for tensor in file.tensors if tensor.name == _TABLE), None)
        if table is None:
            raise error("E839", path=path, problem=f"no {_TABLE}")
        self._rows, self._kind = table.data, table.tensor_type
        self.kind = str(self._kind.name).lower()
        self.width, self.rows = (int(side) for side in table.shape)

    def forward(self, ids: Tensor) -> Tensor:
        """int64[...] -> float32[..., D]"""
        different, places = torch.unique(ids, return_inverse=True)
        found = self._gguf.quants.dequantize(self._rows[different.numpy()], self._kind)
        return torch.from_numpy(found).to(torch.float32)[places]


class LlamaCppDecoder(nn.Module):
    """What `XverseVModel` asks of its ``language_model``. ``last_hidden_state`` holds logits, float32[B, 1, N]."""

    def __init__(self, embedding: GgufEmbedding) -> None:
        super().__init__()
        self.embed_tokens = embedding

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = True,
        return_dict: bool = True,
    ) -> BaseModelOutputWithPast:
        """Mask and places are llama.cpp's own affair: it knows both from the rows. Raises E844 without such rows."""
        if not isinstance(past_key_values, LlamaRows):
            # Whoever passes a whole prompt and asks for every position, as `inference.evidence` does.
            raise error("E844", option="evidence", found=f"{inputs_embeds.shape[0]} whole prompts")
        logits = past_key_values.append_vectors(inputs_embeds)[:, None]
        return BaseModelOutputWithPast(last_hidden_state=logits, past_key_values=past_key_values)
