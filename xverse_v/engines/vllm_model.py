"""Our model as vLLM builds it: vLLM's Transformers backend, and the two things that backend cannot know.

What crosses: vLLM's own calls. The placeholder token is never generated and weighs nothing in a log-probability, as in
`model/modeling.py`; and a folder whose LoRA stands beside the weights is refused unless vLLM was told to serve
adapters, because vLLM would answer with the base weights and not say so. Only vLLM imports this file, see
`vllm_plugin`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from vllm.model_executor.models.transformers import TransformersMultiModalForCausalLM

from xverse_v.errors import error
from xverse_v.weights.lora import ADAPTER_CONFIG, ADAPTER_FOLDER

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class XverseVForVllm(TransformersMultiModalForCausalLM):
    """Vision tower, projector and decoder of `XverseVModel`, with vLLM's head."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        """Raises E850 for a folder with an adapter when adapters are not served."""
        adapter = Path(vllm_config.model_config.model) / ADAPTER_FOLDER
        if vllm_config.lora_config is None and (adapter / ADAPTER_CONFIG).is_file():
            raise error("E850", adapter=adapter)
        super().__init__(vllm_config=vllm_config, prefix=prefix)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """float[B, vocabulary], the placeholder's the smallest number; None on ranks that do not sample."""
        logits: torch.Tensor | None = super().compute_logits(hidden_states)
        if logits is not None:
            logits[..., self.config.image_token_id] = torch.finfo(logits.dtype).min
        return logits
