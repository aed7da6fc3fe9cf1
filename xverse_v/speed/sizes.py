"""Models of a chosen size with random weights, made on the spot: speed does not depend on what a model has learned.

What crosses: a size's name in; a `ModelShape`, a network, a processor, or a model folder out. The network is built
without memory first and each tensor is then drawn in its own dtype on its own device, so nothing exists twice. The same
seed gives the same weights, whatever was drawn before. No answer ends early: the end token is one that is never
generated. Nothing is measured here.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from xverse_v.errors import error
from xverse_v.inference.assistant import Assistant
from xverse_v.inference.loading import assemble
from xverse_v.model import XverseVForConditionalGeneration, XverseVImageProcessor, XverseVProcessor
from xverse_v.model.prompt import chat_template, native_tokenizer, special_strings
from xverse_v.weights.load import DTYPES, skeleton
from xverse_v.weights.manifest import write_manifest
from xverse_v.weights.shapes import (
    PUBLISHED,
    RELEASED_VISION,
    DecoderShape,
    ModelShape,
    VisionShape,
    config_from_shape,
)

_TINY_VISION = VisionShape(width=64, layers=2, heads=2, feed_forward=128, image_size=224, patch_size=14)
_TINY = DecoderShape(64, 2, heads=2, kv_heads=2, head_width=32, feed_forward=160, vocabulary=400, context=16_384)
_SMALL_VISION = VisionShape(width=512, layers=6, heads=8, feed_forward=2048, image_size=224, patch_size=14)
_SMALL = DecoderShape(1024, 4, heads=8, kv_heads=8, head_width=128, feed_forward=2816, vocabulary=8000, context=16_384)
_MIDDLE = DecoderShape(
    2048, 8, heads=16, kv_heads=16, head_width=128, feed_forward=5632, vocabulary=32_000, context=8192
)

SIZES: dict[str, ModelShape] = {
    "tiny": ModelShape("tiny", _TINY_VISION, _TINY, "float32", "random weights, made on the spot"),
    "small": ModelShape("small", _SMALL_VISION, _SMALL, "float32", "random weights, made on the spot"),
    "middle": ModelShape("middle", RELEASED_VISION, _MIDDLE, "float32", "random weights, made on the spot"),
    "13b": PUBLISHED["13b"],
}
"""middle: the released vision tower (CLIP ViT-L/14, 23 layers) with a decoder of a tenth of the 13B's layers' size.
small: for what needs many runs (growth, training); its weights are still far larger than a core's caches."""

_LOUDER = {"q_proj": 3.0, "k_proj": 3.0, "o_proj": 4.0}
"""How much larger these weights of the decoder are drawn."""

_SPECIAL = ("<pad>", "<|startoftext|>", "<|endoftext|>", "<unk>")


def shape_of(size: str) -> ModelShape:
    """Raises E810 for a size that is not one."""
    if size not in SIZES:
        raise error("E810", size=size, known=", ".join(SIZES))
    return SIZES[size]


def build_network(
    shape: ModelShape,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    attention: str | None = None,
    seed: int = 0,
) -> XverseVForConditionalGeneration:
    """The network with random weights, eval mode. Each is uniform with variance 1 / fan-in, so that activations keep
    their size through any depth, but for the decoder's attention, which is made sharp and loud (`_LOUDER`): otherwise
    an answer would depend on its last token alone and equal answers would prove nothing. Norms are 1 and biases 0.
    Needs the bytes of its weights once."""
    wanted = DTYPES[dtype]
    network = skeleton(config_from_shape(shape), attention=attention, dtype=wanted)
    state = {name: _drawn(name, p.shape, wanted, device, seed) for name, p in network.named_parameters()}
    # The placeholder never wins, also where nobody masks it: a score of exactly zero is below thousands of others.
    state["lm_head.weight"][network.config.image_token_id].zero_()
    network.load_state_dict(state, strict=True, assign=True)
    network.to(device)  # the buffers; the tensors are there already
    never = network.config.image_token_id
    network.generation_config = GenerationConfig(eos_token_id=never, pad_token_id=0, do_sample=False)
    return network.requires_grad_(False).eval()


def build_processor(shape: ModelShape) -> XverseVProcessor:
    """A processor with the release's tiling and a tokenizer of the release's kind that knows nothing but bytes, whose
    ids fill the shape's vocabulary."""
    known = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [*known, *(f"word{index}" for index in range(shape.decoder.vocabulary - 1 - len(known)))]
    vocabulary = {word: index for index, word in enumerate(words)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    made.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="never"), decoders.ByteFallback()])
    made.add_special_tokens([AddedToken(text, special=True) for text in _SPECIAL])
    native = native_tokenizer(json.loads(made.to_str()))
    pad, start, end, unknown = _SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(native)),
        pad_token=pad,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        padding_side="left",
    )
    images = XverseVImageProcessor(orientation="release", apply_exif=False)
    template = chat_template(special_strings(native), end)
    return XverseVProcessor(images, tokenizer, chat_template=template, patches_per_view=shape.vision.patches)


def assemble_assistant(
    network: XverseVForConditionalGeneration, processor: XverseVProcessor, shape: ModelShape, *, seed: int = 0
) -> Assistant:
    """The engine around such a network, with its default caches."""
    return assemble(network, processor, weights_id=f"random-{shape.name}-{seed}")


def write_folder(network: XverseVForConditionalGeneration, processor: XverseVProcessor, folder: Path) -> None:
    """The network as a finished model folder, with a manifest, as `convert` leaves one."""
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_manifest(folder, tiler="release", source={"made": "xverse-v speed", "weights": "random"})


def _drawn(name: str, shape: torch.Size, dtype: torch.dtype, device: str, seed: int) -> torch.Tensor:
    value = torch.empty(shape, dtype=dtype, device=device)
    if name.endswith(".bias"):
        return value.zero_()
    if len(shape) < 2 and "embedding" not in name:
        return value.fill_(1.0)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    generator = torch.Generator(device).manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    louder = _LOUDER.get(name.split(".")[-2], 1.0) if ".language_model." in name else 1.0
    bound = louder * math.sqrt(3.0 / fan_in)
    return value.uniform_(-bound, bound, generator=generator)
