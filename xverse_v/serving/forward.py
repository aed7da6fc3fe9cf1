"""A checked request as another OpenAI-compatible server is sent it: known fields only, images as PNGs.

What crosses: a `ChatRequest` in, a JSON document out. A field this package does not know is not passed on: what it
would mean there is nobody's promise here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from xverse_v.errors import error
from xverse_v.media import RemotePolicy

from .images import png_data_url
from .protocol import ChatMessage, ChatRequest, ImagePart, TextPart
from .settings import Limits

_AS_SENT = ("temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "logprobs", "top_logprobs")


async def forwarded(
    request: ChatRequest, model: str, remote: RemotePolicy | None, limits: Limits, side: asyncio.Semaphore
) -> dict[str, Any]:
    """The body for ``POST chat/completions`` there. Raises E5xx for an image, E611 for ``max_tiles``.

    ``side`` bounds how many images are opened at the same time.
    """
    if request.max_tiles is not None:
        raise error("E611", param="max_tiles", got=request.max_tiles, expected="null with --backend openai")
    body: dict[str, Any] = {
        "model": model,
        "messages": [await _message(message, remote, side) for message in request.messages],
        "stream": bool(request.stream),
    }
    for name in _AS_SENT:
        value = getattr(request, name)
        if value is not None and value is not False:
            body[name] = value
    length = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    if length is not None or limits.answer_tokens is not None:
        body["max_tokens"] = length if length is not None else limits.answer_tokens
    if request.stream:
        # Always asked for, since the counters need it; the chunk is kept back from a client that did not ask.
        body["stream_options"] = {"include_usage": True}
    if request.response_format is not None:
        body["response_format"] = request.response_format.model_dump(by_alias=True, exclude_none=True)
    return body


async def _message(message: ChatMessage, remote: RemotePolicy | None, side: asyncio.Semaphore) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    if not isinstance(message.content, list):
        return {"role": role, "content": message.content}
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, TextPart):
            parts.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            async with side:
                url = await asyncio.to_thread(png_data_url, part.image_url.url, remote)
            parts.append({"type": "image_url", "image_url": {"url": url, "detail": part.image_url.detail}})
    return {"role": role, "content": parts}
