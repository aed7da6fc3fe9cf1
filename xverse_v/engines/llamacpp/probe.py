"""Whether this machine's llama.cpp computes our image tokens itself: one image through its vision code and ours.

What crosses: a model folder and its two GGUF files in; nothing out, or the error that says what is wrong. The graph for
CLIP in llama.cpp has long joined the class token *behind* the patches while places were counted as if it came first
(ggml-org/llama.cpp issue 25814), so that fault is computed here too and told by its name.

Shapes: P patches a view, E vision width, D decoder width, T side of a view in pixels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xverse_v.errors import error
from xverse_v.model import XverseVForConditionalGeneration, XverseVImageProcessor

from .library import complaints, library, vision_library

LEAST_COSINE = 0.999
_MARKER = b"<__media__>"


def check_vision(folder: Path, decoder: Path, vision: Path) -> float:
    """Cosine of llama.cpp's image tokens to ours, at least `LEAST_COSINE`.

    ``decoder`` and ``vision`` are the files of ``xverse-v export gguf`` without and with ``--mmproj``. Raises E842 for
    the fault with the class token, E843 for any other difference, E839 for a file that cannot be loaded, E830.
    """
    from .loading import load

    assistant = load(folder, decoder, context=None, cache=False)
    network = assistant.engine.model
    tiler = assistant.prompts.processor.image_processor
    pixels = _made_image(tiler.tile_size)
    found = mtmd_image_tokens(decoder, vision, pixels, network.config.text_config.hidden_size)
    views = _views(tiler, pixels)
    with torch.inference_mode():
        ours = network.get_image_features(views, return_dict=True).pooler_output
        faulty = _with_class_token_behind(network, views)
    cosine, shifted = _cosine(found, ours), _cosine(found, faulty)
    if cosine >= LEAST_COSINE:
        return cosine
    if shifted >= LEAST_COSINE:
        raise error("E842", cosine=f"{cosine:.4f}", shifted=f"{shifted:.4f}")
    raise error("E843", cosine=f"{cosine:.4f}", expected=LEAST_COSINE)


def mtmd_image_tokens(decoder: Path, vision: Path, pixels: Any, width: int) -> Tensor:
    """uint8[T, T, 3] of one view -> llama.cpp's own image tokens, float32[P, D]. Raises E830 and E839."""
    llama, mtmd = library(), vision_library()
    with ExitStack() as stack:
        model = stack.enter_context(_freed(llama.llama_model_free, decoder, _model(llama, decoder)))
        settings = mtmd.mtmd_context_params_default()
        settings.use_gpu = settings.print_timings = settings.warmup = False
        settings.media_marker = _MARKER
        complaints()
        context = mtmd.mtmd_init_from_file(bytes(vision), model, settings)
        stack.enter_context(_freed(mtmd.mtmd_free, vision, context))
        side = pixels.shape[0]
        data = (ctypes.c_uint8 * pixels.size).from_buffer_copy(pixels.tobytes())
        bitmap = mtmd.mtmd_bitmap_init(side, side, data)
        stack.enter_context(_freed(mtmd.mtmd_bitmap_free, vision, bitmap))
        chunks = mtmd.mtmd_input_chunks_init()
        stack.enter_context(_freed(mtmd.mtmd_input_chunks_free, vision, chunks))
        text = mtmd.mtmd_input_text(_MARKER, len(_MARKER), False, True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        if mtmd.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1):
            raise error("E839", path=vision, problem=complaints())
        for index in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, index)
            if mtmd.mtmd_input_chunk_get_type(chunk) != mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                continue
            if mtmd.mtmd_encode_chunk(context, chunk):
                raise error("E839", path=vision, problem=complaints())
            count = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
            found = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), (count, width))
            return torch.from_numpy(found.copy())
    raise error("E839", path=vision, problem="no image tokens came out")


def _model(llama: Any, decoder: Path) -> Any:
    complaints()
    return llama.llama_model_load_from_file(bytes(decoder), llama.llama_model_default_params())


@contextmanager
def _freed(free: Any, path: Path, held: Any) -> Iterator[Any]:
    """Something of C's, given back in the end. Raises E839 if C gave nothing."""
    if not held:
        raise error("E839", path=path, problem=complaints())
    try:
        yield held
    finally:
        free(held)


def _made_image(side: int) -> Any:
    """uint8[T, T, 3] without symmetry, so that no shifted or turned version is like it."""
    y, x = np.mgrid[0:side, 0:side]
    red, green = x * 255 // (side - 1), y * 255 // (side - 1)
    blue = ((x // 16 + y // 24) % 2) * 200 + (x * 7 + y * 13) % 56
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def _views(tiler: XverseVImageProcessor, pixels: Any) -> Tensor:
    """float32[1, 3, T, T] of an image that is a view already."""
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (tiler.image_mean, tiler.image_std))
    return ((scaled - mean) / std)[None]


def _with_class_token_behind(network: XverseVForConditionalGeneration, views: Tensor) -> Tensor:
    """The image tokens a build with the fault computes: float[1, P, D], the last of them the class token's."""
    tower = network.model.vision_tower
    patches = tower.embeddings.patch_embedding(views).flatten(2).transpose(1, 2)  # float[1, P, E]
    behind = torch.cat([patches, tower.embeddings.class_embedding.expand(1, 1, -1)], dim=1)
    hidden = tower.pre_layrnorm(behind + tower.embeddings.position_embedding.weight)
    hidden = tower.encoder(inputs_embeds=hidden).last_hidden_state
    found: Tensor = network.model.multi_modal_projector(hidden[:, 1:])
    return found


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten(), other.flatten().float(), dim=0))
