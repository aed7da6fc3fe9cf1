"""The objective: token losses of one micro-batch, summed, with logits only where something is supervised.

What crosses: a `MicroBatch` in, a scalar float32 out, the sum over its supervised tokens. Dividing by the count of
the whole step is the loop's. Every call runs the same modules whatever the batch holds, so that ranks with and
without images make the same collectives. Shapes: B batch, S sequence, V views, P patches, E vision width, D decoder
width, N supervised positions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from xverse_v.errors import error
from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration

from .data.batches import MicroBatch
from .lora import Span, dropouts, key_of

IGNORED = -100


class Objective(nn.Module):
    """The network and its loss as one module, the root that FSDP wraps.

    features: whether the images of other batches come as stored features, so that a text-only batch runs what they run.
    loss_chunk: supervised positions whose logits exist at one time.
    """

    def __init__(
        self, network: XverseVForConditionalGeneration, *, features: bool = False, loss_chunk: int = 2048
    ) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.loss_chunk = loss_chunk
        self.gradients_finite: list[torch.Tensor] = []
        """One bool a backward pass, where the gradient entered the decoder's input; read and emptied by the loop."""

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        """Sum of the losses of the batch's supervised tokens, scalar float32; zero for a batch without any."""
        core = self.network.model
        embeds = core.get_input_embeddings()(batch.input_ids)
        embeds = self._with_images(embeds, batch)
        if torch.is_grad_enabled():
            if not embeds.requires_grad:
                embeds.requires_grad_()
            embeds.register_hook(lambda gradient: self.gradients_finite.append(gradient.isfinite().all()))
        hidden = core.language_model(
            inputs_embeds=embeds, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        targets = batch.labels[:, 1:]
        kept = targets != IGNORED
        return self._token_losses(hidden[:, :-1][kept], targets[kept])

    def _with_images(self, embeds: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        """float[B, S, D] with each placeholder's row replaced by its image token. Raises E266 if the counts differ."""
        core, config = self.network.model, self.network.config
        absent = batch.pixel_values is None and batch.image_features is None
        patches = batch.image_features
        if absent and self.features:
            patches = embeds.new_zeros(1, config.patches_per_view, config.vision_config.hidden_size)
        elif patches is None:
            patches = self._tower(embeds, batch.pixel_values)
        tokens = core.multi_modal_projector(patches.to(embeds.dtype))
        if absent:
            # A view of nothing, worth nothing: the projector and its collectives run on every rank.
            return embeds + 0.0 * tokens.sum()
        places = batch.input_ids == config.image_token_id
        if int(places.sum()) != tokens.shape[0] * tokens.shape[1]:
            raise error(
                "E266",
                placeholders=int(places.sum()),
                tokens=tokens.shape[0] * tokens.shape[1],
                samples=", ".join(batch.sample_ids),
            )
        return embeds.masked_scatter(places.unsqueeze(-1), tokens.to(embeds.dtype))

    def _tower(self, embeds: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
        """Patch vectors float[V, P, E], CLS dropped; of one black view if there is no image."""
        core = self.network.model
        if pixels is None:
            side = self.network.config.vision_config.image_size
            pixels = embeds.new_zeros(1, 3, side, side)
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in core.vision_tower.parameters())
        with torch.set_grad_enabled(trains):
            features: torch.Tensor = core.vision_tower(pixels.to(embeds.dtype)).last_hidden_state[:, 1:]
        return features

    def _token_losses(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """float[N, D], int[N] -> the summed loss. The head runs in pieces, recomputed in the backward pass if there
        are several."""
        total = hidden.sum() * 0.0 if not len(targets) else hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, max(1, len(targets)), self.loss_chunk):
            piece = hidden[start : start + self.loss_chunk], targets[start : start + self.loss_chunk]
            if len(targets) > self.loss_chunk:
                total = total + checkpoint(self._piece, *piece, use_reentrant=False, preserve_rng_state=False)
            else:
                total = total + self._piece(*piece)
        return total.float()

    def _piece(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.network.lm_head(hidden).float()
        # As in the model's own forward: the placeholder's row never weighs in a loss.
        logits[:, self.network.config.image_token_id] = torch.finfo(logits.dtype).min
        return cross_entropy(logits, targets, reduction="sum")

    def set_dropout(self, batch: MicroBatch, seed: int, step: int) -> None:
        """Tell the adapters' dropout which samples the next pass holds and which step it belongs to."""
        found = dropouts(self.network)
        if found:
            spans = sample_spans(batch, seed, step)
            for dropout in found:
                dropout.spans = spans


def sample_spans(batch: MicroBatch, seed: int, step: int) -> list[Span]:
    """Where each sample of a batch lies, and the key of its masks in this step."""
    spans = []
    names = iter(batch.sample_ids)
    for row, segments in enumerate(batch.segment_ids.tolist()):
        start = 0
        for stop in range(1, len(segments) + 1):
            if stop == len(segments) or segments[stop] != segments[start]:
                if segments[start] >= 0:
                    spans.append(Span(row, start, stop, key_of(seed, step, next(names))))
                start = stop
    return spans


def empty_batch(config: XverseVConfig) -> MicroBatch:
    """A micro-batch of two unsupervised tokens, for ranks that have fewer micro-batches than others."""
    ids = torch.full((1, 2), config.text_config.bos_token_id or 0)
    return MicroBatch(
        input_ids=ids,
        labels=torch.full_like(ids, IGNORED),
        position_ids=torch.arange(2)[None],
        segment_ids=torch.zeros_like(ids),
        pixel_values=None,
        image_features=None,
        sample_ids=("(none)",),
        supervised=0,
    )
