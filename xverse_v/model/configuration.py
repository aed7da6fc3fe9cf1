"""The model's configuration: a CLIP vision tower, a projector and a Llama decoder, nothing guessed.

The vision tower stores and runs exactly the layers whose output is used: the released model's features are
`hidden_states[-2]` of 24 layers, which is the output of the 23rd, so its `vision_config` says 23.
"""

from __future__ import annotations

from typing import Any

from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedConfig


class XverseVConfig(PreTrainedConfig):
    """Configuration of `XverseVForConditionalGeneration`.

    vision_config: CLIP vision tower; its last layer's patch vectors, CLS dropped, are the features.
    text_config: Llama decoder; its vocabulary includes the placeholder token.
    image_token_id: the placeholder token; one stands for each image token and it is never generated.
    projector_hidden_act: between the projector's two linears; the release uses the exact GELU.
    projector_layer_norm_eps: of the LayerNorm in front of them.

    Raises `ValueError` for a placeholder id outside the vocabulary.
    """

    model_type = "xverse_v"
    sub_configs = {
        "vision_config": CLIPVisionConfig,
        "text_config": LlamaConfig,
    }

    def __init__(
        self,
        vision_config: CLIPVisionConfig | dict[str, Any] | None = None,
        text_config: LlamaConfig | dict[str, Any] | None = None,
        image_token_id: int | None = None,
        projector_hidden_act: str = "gelu",
        projector_layer_norm_eps: float = 1e-5,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _sub_config(CLIPVisionConfig, vision_config)
        self.text_config = _sub_config(LlamaConfig, text_config)
        vocabulary = self.text_config.vocab_size
        self.image_token_id = vocabulary - 1 if image_token_id is None else image_token_id
        if not 0 <= self.image_token_id < vocabulary:
            raise ValueError(f"image_token_id is {self.image_token_id}, but the vocabulary has {vocabulary} ids")
        self.projector_hidden_act = projector_hidden_act
        self.projector_layer_norm_eps = projector_layer_norm_eps
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    @property
    def patches_per_view(self) -> int:
        """Image tokens of one view: 256 in the released model."""
        return (self.vision_config.image_size // self.vision_config.patch_size) ** 2


def _sub_config(kind: type[PreTrainedConfig], given: PreTrainedConfig | dict[str, Any] | None) -> PreTrainedConfig:
    if given is None:
        return kind()
    if isinstance(given, dict):
        found = given.get("model_type", kind.model_type)
        if found != kind.model_type:
            raise ValueError(f"expected a {kind.model_type} configuration, got model_type {found!r}")
        return kind(**given)
    return given
