"""What a chat request means to our own engine: messages, images, settings, and what was done another way than sent.

What crosses: a `ChatRequest` in, an `inference` `Request` out. Nothing is opened or computed: an image stays the data
URL it came as, until the scheduler's threads open it through the media door. A path never gets that far.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from xverse_v.errors import XverseError, error
from xverse_v.inference.assistant import Detail, Request
from xverse_v.inference.prompt import ImageInput, Message, Role
from xverse_v.inference.sampling import SamplingOptions, SamplingSettings, with_options
from xverse_v.media import RemotePolicy

from .images import refuse_address
from .protocol import ChatMessage, ChatRequest, ImageUrl
from .settings import Limits

_MOST_STOPS = 16


@dataclass(frozen=True)
class Meaning:
    """``fixed_length``: the client chose the answer's length, so it must fit. ``notes``: what a client should know."""

    request: Request
    fixed_length: bool
    notes: tuple[str, ...]


def check_shape(request: ChatRequest, limits: Limits, remote: RemotePolicy | None) -> None:
    """Raises E620 for messages in an order no prompt can have, E621 and E624 for too many of something,
    and what the media door says of an address it does not open."""
    if len(request.messages) > limits.messages:
        raise error("E624", param="messages", got=len(request.messages), limit=limits.messages)
    images = 0
    for index, message in enumerate(request.messages):
        path, role = f"messages[{index}]", message.role
        if role in ("system", "developer") and index > 0:
            raise _bad_message(path, f"a {role} message at place {index + 1}", "one system message at most, the first")
        if message.content is None or message.content == []:
            raise _bad_message(path, "no content", "text, or for a user a list of parts")
        found = images_of(message)
        if found and role != "user":
            raise _bad_message(path, f"{len(found)} image(s) in a {role} message", "images in user messages only")
        images += len(found)
    for place, image in image_places(request):
        refuse_address(image.url, remote, place)
    if images > limits.images:
        raise error("E621", param="messages", got=images, limit=limits.images)
    if request.messages[-1].role != "user":
        raise _bad_message("messages", f"a last message of role {request.messages[-1].role}", "a user message last")
    for name in ("max_tokens", "max_completion_tokens"):
        wanted = getattr(request, name)
        if wanted is not None and limits.answer_tokens is not None and wanted > limits.answer_tokens:
            raise error("E624", param=name, got=wanted, limit=limits.answer_tokens)
    stops = request.stop if isinstance(request.stop, list) else []
    if len(stops) > _MOST_STOPS:
        raise error("E624", param="stop", got=len(stops), limit=_MOST_STOPS)


def translate(
    request: ChatRequest,
    settings: SamplingSettings,
    limits: Limits,
    tenant: str,
    image: Callable[[ImageUrl], ImageInput],
) -> Meaning:
    """``settings``: the model's own, for what the request leaves open. ``image``: what the engine is
    to open for an image of the request.

    Raises E101 for a value the engine refuses. The shape was checked by `check_shape`.
    """
    options = _options(request)
    length = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    if length is not None:
        options["max_new_tokens"] = length
    elif limits.answer_tokens is not None:
        options["max_new_tokens"] = min(settings.max_new_tokens, limits.answer_tokens)
    chosen = with_options(settings, options)
    if request.seed is None:
        # OpenAI's rule: without a seed two draws differ. The header X-Seed says which one it was.
        chosen = replace(chosen, seed=0 if chosen.greedy else secrets.randbelow(2**31))
    messages, notes = [], []
    for index, message in enumerate(request.messages):
        messages.append(_message(message, image))
        if _image_behind_text(message):
            notes.append(f"messages[{index}]: images moved before the text")
    system = messages.pop(0).text if messages[0].role == "system" else None
    last = messages.pop()
    wanted = Request(
        question=last.text,
        images=last.images,
        system=system,
        history=tuple(messages),
        max_tiles=request.max_tiles,
        detail=common_detail(request) or "auto",
        settings=chosen,
        tenant=tenant,
        schema=json_schema(request),
    )
    return Meaning(wanted, length is not None, tuple(notes))


def json_schema(request: ChatRequest) -> dict[str, Any] | None:
    """The schema an answer must follow; None is free text. ``json_object`` is any object."""
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None or wanted.type == "json_object":
        return {"type": "object"}
    schema = wanted.json_schema.schema_
    if isinstance(schema, bool):  # JSON Schema's own short forms of "anything" and "nothing"
        return {} if schema else {"not": {}}
    return schema


def images_of(message: ChatMessage) -> list[ImageUrl]:
    """Images of a message in order."""
    parts = message.content if isinstance(message.content, list) else []
    return [part.image_url for part in parts if part.type == "image_url"]


def image_places(request: ChatRequest) -> Iterator[tuple[str, ImageUrl]]:
    """Every image with the name of its field: ``messages[0].content[1].image_url``."""
    for index, message in enumerate(request.messages):
        for number, part in enumerate(message.content if isinstance(message.content, list) else []):
            if part.type == "image_url":
                yield f"messages[{index}].content[{number}].image_url", part.image_url


def text_of(message: ChatMessage) -> str:
    """Its text parts, joined by line ends as the chat template would."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content or [] if part.type == "text")


def common_detail(request: ChatRequest) -> Detail | None:
    """The one detail of all images ("auto" where there are none); None where some are low and some are not."""
    low = {image.detail == "low" for message in request.messages for image in images_of(message)}
    if len(low) == 2:
        return None
    return "low" if True in low else "auto"


def _message(message: ChatMessage, image: Callable[[ImageUrl], ImageInput]) -> Message:
    role: Role = "assistant" if message.role == "assistant" else "user" if message.role == "user" else "system"
    return Message(role, text_of(message), tuple(image(found) for found in images_of(message)))


def _image_behind_text(message: ChatMessage) -> bool:
    kinds = [part.type for part in message.content] if isinstance(message.content, list) else []
    return "text" in kinds and "image_url" in kinds[kinds.index("text") :]


def _options(request: ChatRequest) -> SamplingOptions:
    options: SamplingOptions = {}
    if request.temperature is not None:
        options["temperature"] = request.temperature
    if request.top_p is not None:
        options["top_p"] = request.top_p
    if request.top_k is not None:
        options["top_k"] = request.top_k
    if request.repetition_penalty is not None:
        options["repetition_penalty"] = request.repetition_penalty
    if request.seed is not None:
        options["seed"] = request.seed
    if request.stop is not None:
        options["stop"] = request.stop
    if request.logprobs:
        options["logprobs"] = max(1, request.top_logprobs or 0)
    return options


def _bad_message(param: str, got: str, expected: str) -> XverseError:
    return error("E620", param=param, got=got, expected=expected)
