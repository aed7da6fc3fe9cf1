"""/v1/tiles: what the model would see of an image, as numbers and, if wanted, as PNG data URLs of every view.

An image's address and a processor in, a document out. The inspector does the work; no weights are needed.
"""

from __future__ import annotations

from typing import Any

from xverse_v.errors import Language, error
from xverse_v.inference.assistant import tile_limit
from xverse_v.inference.prompt import PromptBuilder
from xverse_v.inspector import inspect_tiles
from xverse_v.media import ImageSource, open_image

from .images import encode_png
from .protocol import TilesRequest


def tile_document(
    request: TilesRequest, source: ImageSource, prompts: PromptBuilder, context: int, language: Language
) -> dict[str, Any]:
    """The inspector's report; with ``request.views`` each view has its 224x224 image in ``png``. Blocks.

    ``source`` is what ``request.image`` stands for. Raises E5xx for the image, E109 and E112 for the tiles.
    """
    most = tile_limit(request.detail, request.max_tiles)
    if most is not None and most > prompts.processor.image_processor.max_tiles:
        raise error("E112", got=most, most=prompts.processor.image_processor.max_tiles)
    image = open_image(source, limits=prompts.limits, paths=False)
    found = inspect_tiles(image, prompts.processor, question=request.question, max_tiles=most, context=context)
    document = found.report.as_dict(language)
    if request.views:
        for view, pixels in zip(document["views"], found.views, strict=True):
            view["png"] = encode_png(pixels)
    return {"object": "tiles", **document}
