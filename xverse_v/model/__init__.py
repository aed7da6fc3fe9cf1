"""The model as transformers sees it: configuration, image processor, processor, network, registered with the Auto
classes.

This is the only room that could be copied to a model hub: it depends on torch, transformers, numpy and Pillow alone.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

# Some 5.x releases export a placeholder under the top-level name that asks for torchvision; the class itself does not
# need it.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from .configuration import XverseVConfig
from .image_processing import XverseVImageProcessor
from .modeling import XverseVForConditionalGeneration, XverseVModel
from .processing import XverseVProcessor

AutoConfig.register(XverseVConfig.model_type, XverseVConfig, exist_ok=True)
AutoModel.register(XverseVConfig, XverseVModel, exist_ok=True)
AutoModelForImageTextToText.register(XverseVConfig, XverseVForConditionalGeneration, exist_ok=True)
AutoImageProcessor.register(XverseVConfig, image_processor_classes={"pil": XverseVImageProcessor}, exist_ok=True)
AutoProcessor.register(XverseVConfig, XverseVProcessor, exist_ok=True)

__all__ = [
    "XverseVConfig",
    "XverseVForConditionalGeneration",
    "XverseVImageProcessor",
    "XverseVModel",
    "XverseVProcessor",
]
