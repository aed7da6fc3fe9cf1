"""The network: vision tower, projector, decoder, and the one place where image tokens meet text.

Shapes: B batch, S sequence, V views of the whole batch, P patches a view (256 in the released model), E vision width,
D decoder width. Placeholders are already expanded in `input_ids`: this file replaces them one for one and refuses a
count that does not match. It knows no images, no prompts and no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, torch_compilable_check

from .configuration import XverseVConfig


@dataclass
class XverseVModelOutput(BaseModelOutputWithPast):
    """`last_hidden_state` float[B, S, D], the cache, and `image_hidden_states` float[V, P, D] if images were given."""

    image_hidden_states: torch.FloatTensor | None = None


@dataclass
class XverseVOutput(ModelOutput):
    """`logits` float[B, kept, vocabulary]; `loss`, a scalar, when labels were given; the cache; the image tokens."""

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    image_hidden_states: torch.FloatTensor | None = None


class XverseVProjector(nn.Module):
    """float[V, P, E] -> float[V, P, D]: LayerNorm, Linear, GELU, Linear. The release calls it the bridge."""

    def __init__(self, config: XverseVConfig) -> None:
        super().__init__()
        vision_width, width = config.vision_config.hidden_size, config.text_config.hidden_size
        self.layer_norm = nn.LayerNorm(vision_width, eps=config.projector_layer_norm_eps)
        self.linear_1 = nn.Linear(vision_width, width)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(width, width)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.linear_2(self.act(self.linear_1(self.layer_norm(patches))))


class XverseVPreTrainedModel(PreTrainedModel):
    """What every class here can do, in the library's own flags."""

    config: XverseVConfig
    config_class = XverseVConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CLIPEncoderLayer", "LlamaDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True


class XverseVModel(XverseVPreTrainedModel):
    """Everything but the head. Submodules: `vision_tower`, `multi_modal_projector`, `language_model`."""

    def __init__(self, config: XverseVConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        # CLIP's last norm only touches the pooled CLS vector, which no one reads: not run with weights, not stored.
        self.vision_tower.post_layernorm = nn.Identity()
        self.multi_modal_projector = XverseVProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """`pixel_values` float[V, 3, T, T] -> `pooler_output` float[V, P, D], the image tokens.

        `last_hidden_state` float[V, 1 + P, E] is the vision tower's, CLS first.
        """
        tower = self.vision_tower(pixel_values.to(self.vision_tower.dtype), return_dict=True, **kwargs)
        tower.pooler_output = self.multi_modal_projector(tower.last_hidden_state[:, 1:])
        return tower

    def get_placeholder_mask(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor, image_features: torch.Tensor
    ) -> torch.Tensor:
        """bool[B, S, 1], true where an image token goes. Raises `ValueError` unless there is one place for each."""
        if input_ids is None:
            row = self.get_input_embeddings()(torch.tensor(self.config.image_token_id, device=inputs_embeds.device))
            mask = (inputs_embeds == row).all(-1)
        else:
            mask = input_ids == self.config.image_token_id
        wanted = image_features.shape[0] * image_features.shape[1]
        torch_compilable_check(
            mask.sum() == wanted,
            lambda: f"{int(mask.sum())} placeholder tokens in the prompt, but {wanted} image tokens from the views",
        )
        return mask.unsqueeze(-1).to(inputs_embeds.device)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | XverseVModelOutput:
        """`input_ids` int[B, S] or `inputs_embeds` float[B, S, D]; `pixel_values` float[V, 3, T, T] or None."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        image_features = None
        if pixel_values is not None:
            image_features = self.get_image_features(pixel_values, return_dict=True).pooler_output
            image_features = image_features.to(inputs_embeds.device, inputs_embeds.dtype)
            mask = self.get_placeholder_mask(input_ids, inputs_embeds, image_features)
            inputs_embeds = inputs_embeds.masked_scatter(mask, image_features)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        return XverseVModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_features,
        )


class XverseVForConditionalGeneration(XverseVPreTrainedModel, GenerationMixin):
    """The whole model: `model` and `lm_head`."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: XverseVConfig) -> None:
        super().__init__(config)
        self.model = XverseVModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(
        self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """`pixel_values` float[V, 3, T, T] -> `pooler_output` float[V, P, D], the image tokens."""
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | XverseVOutput:
        """Logits float[B, kept, vocabulary] and, with `labels` int[B, S] (-100 = not supervised), the mean loss.

        `logits_to_keep`: the last n positions (0 = all) or an index tensor; saves the head on a long prompt.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        # The placeholder's row must never win and never weigh in a loss: the other logits stay the release's own.
        logits[..., self.config.image_token_id] = torch.finfo(logits.dtype).min
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.text_config.vocab_size, **kwargs)
        return XverseVOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )
