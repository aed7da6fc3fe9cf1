"""The processor: messages and images to model inputs. Placeholders are expanded here and nowhere else.

What crosses: a prompt with one `<|image|>` an image, and the images; out come `input_ids` int[B, S] in which each
image has (its views) x (patches a view) placeholder tokens, `attention_mask`, and `pixel_values` float32[V, 3, T, T].
It knows neither the network nor where images come from, and it never cuts a prompt.

Annotations stay live in this file and in image_processing.py (no `from __future__ import annotations`): transformers
reads the argument types of both at run time.
"""

from collections.abc import Sequence
from typing import Any

from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import make_flat_list_of_images
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin

from .image_processing import XverseVImageProcessor, XverseVImagesKwargs
from .prompt import IMAGE_TOKEN


class XverseVProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    """Arguments of one call: the image processor's under `images_kwargs` or flat, the tokenizer's under
    `text_kwargs`."""

    images_kwargs: XverseVImagesKwargs
    # Read by transformers as a default table; it is not a field of the dictionary.
    _defaults = {"text_kwargs": {"padding": False}, "common_kwargs": {"return_tensors": "pt"}}


class XverseVProcessor(ProcessorMixin):
    """Image processor, tokenizer and chat template under one roof.

    patches_per_view: image tokens of one view, 256 in the released model; saved with the processor.
    """

    valid_processor_kwargs = XverseVProcessorKwargs
    image_processor: XverseVImageProcessor

    def __init__(
        self,
        image_processor: XverseVImageProcessor,
        tokenizer: Any,
        chat_template: str | None = None,
        patches_per_view: int = 256,
    ) -> None:
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ValueError(f"the tokenizer has no {IMAGE_TOKEN} token; convert it first (model/prompt.py)")
        self.patches_per_view = patches_per_view
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @property
    def unused_input_names(self) -> list[str]:
        """Helper outputs of the image processor that the network does not take."""
        return ["num_views"]

    def validate_inputs(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> None:
        """One placeholder an image over the whole batch, else `ValueError`; older transformers do not check."""
        super().validate_inputs(images=images, text=text, videos=videos, audio=audio, **kwargs)
        places = sum(sample.count(self.image_token) for sample in text or [])
        given = 0 if images is None else len(make_flat_list_of_images(images))
        if text is not None and places != given:
            raise ValueError(f"{places} {self.image_token} in the text, but {given} images")

    def replace_image_token(self, image_inputs: BatchFeature, image_idx: int, **kwargs: object) -> str:
        """The placeholders of one image, one for each of its image tokens."""
        return self.image_token * (int(image_inputs["num_views"][image_idx]) * self.patches_per_view)

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Views and image tokens of images given as (height, width) alone; serving engines plan with it."""
        if image_sizes is None:
            return MultiModalData()
        views = [self.image_processor.get_number_of_image_patches(h, w, kwargs) for h, w in image_sizes]
        return MultiModalData(num_image_tokens=[v * self.patches_per_view for v in views], num_image_patches=views)
