"""What a client may send: OpenAI's chat request as pydantic models, and /v1/tiles.

Shapes and ranges only. A field that nobody knows is let through and named (`unknown_fields`), one whose meaning is not
supported here is refused by refused.py, and what a valid request *means* is worked out in translate.py. This file
knows no model and opens no image.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

_MOST_NAMED = 20  # unknown fields that are named one by one

_PART_TYPES = (
    "text",
    "image_url",
    "input_audio",
    "audio_url",
    "video_url",
    "video",
    "file",
    "refusal",
    "image",
    "input_image",
)

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Lenient(BaseModel):
    """Knows its fields and keeps what else was sent, to say so."""

    model_config = ConfigDict(extra="allow")


class ImageUrl(Lenient):
    url: StrictStr = Field(description="data:image/...;base64, or an https URL where the server allows its host")
    detail: Literal["low", "auto", "high"] = Field(
        "auto", description="low: the global view alone; auto and high: as many tiles as max_tiles allows"
    )


class TextPart(Lenient):
    type: Literal["text"]
    text: StrictStr


class ImagePart(Lenient):
    type: Literal["image_url"]
    image_url: ImageUrl


class OtherPart(Lenient):
    """input_audio, file, refusal, ...: parts that exist elsewhere. They are refused by name, not as a wrong shape."""

    type: Literal["input_audio", "audio_url", "video_url", "video", "file", "refusal", "image", "input_image"]


ContentPart = Annotated[TextPart | ImagePart | OtherPart, Field(discriminator="type")]


class ChatMessage(Lenient):
    """One message. Text parts are joined by line ends; images stand before the text, whatever their order here."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: StrictStr | list[ContentPart] | None = None
    tool_calls: Any = Field(None, description="not supported")
    function_call: Any = Field(None, description="not supported")
    audio: Any = Field(None, description="not supported")


class StreamOptions(Lenient):
    include_usage: StrictBool = False


class JsonSchema(Lenient):
    name: StrictStr = "answer"
    description: StrictStr | None = None
    # Its OpenAPI name is the field's alias; "schema" itself is a name pydantic uses.
    schema_: dict[str, Any] | StrictBool = Field(default_factory=dict, alias="schema")
    strict: StrictBool | None = None


class ResponseFormat(Lenient):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Lenient):
    """The body of ``POST /v1/chat/completions``."""

    model: StrictStr
    messages: list[ChatMessage] = Field(min_length=1)
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: StrictInt | None = Field(None, ge=1)
    max_completion_tokens: StrictInt | None = Field(None, ge=1)
    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, gt=0, le=1)
    top_k: StrictInt | None = Field(None, ge=0, description="extension: draw from the k likeliest tokens; 0 is all")
    repetition_penalty: Number | None = Field(None, gt=0, le=100, description="extension: 1 is off")
    max_tiles: StrictInt | None = Field(None, ge=1, le=64, description="extension: most tiles of an image")
    seed: StrictInt | None = Field(None, ge=0, le=2**63 - 1)
    stop: StrictStr | list[StrictStr] | None = None
    logprobs: StrictBool | None = False
    top_logprobs: StrictInt | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    # Below: fields of the protocol whose meaning is not supported. They are named so that refused.py can tell a value
    # that changes nothing (n = 1) from one that would be ignored to the client's harm (n = 2).
    n: StrictInt | None = 1
    tools: Any = Field(None, description="not supported")
    tool_choice: Any = Field(None, description="not supported")
    parallel_tool_calls: StrictBool | None = None
    functions: Any = Field(None, description="not supported")
    function_call: Any = Field(None, description="not supported")
    logit_bias: Any = Field(None, description="not supported")
    presence_penalty: Number | None = Field(0, description="not supported; only 0")
    frequency_penalty: Number | None = Field(0, description="not supported; only 0")
    modalities: list[StrictStr] | None = None
    audio: Any = Field(None, description="not supported")
    prediction: Any = Field(None, description="not supported")
    web_search_options: Any = Field(None, description="not supported")
    reasoning_effort: StrictStr | None = None
    verbosity: StrictStr | None = None
    store: StrictBool | None = False


class TilesRequest(Lenient):
    """The body of ``POST /v1/tiles``: what would the model see of this image?"""

    image: StrictStr = Field(description="as image_url.url of a chat request")
    question: StrictStr | None = None
    max_tiles: StrictInt | None = Field(None, ge=1, le=64)
    detail: Literal["low", "auto", "high"] = "auto"
    views: StrictBool = Field(False, description="also give every view as a PNG data URL")


def field_path(location: tuple[int | str, ...]) -> str:
    """Where a value stands, from pydantic's location: ``("body", "messages", 0, "role")`` is ``messages[0].role``.

    Pydantic also names the alternative it tried (``str``, ``list[...]``, a part's type), which is no field.
    """
    path = ""
    for before, step in pairwise(location):
        if isinstance(step, int):
            path += f"[{step}]"
        elif step in ("str", "bool") or "[" in step or (step in _PART_TYPES and isinstance(before, int)):
            continue
        else:
            path += f".{step}" if path else step
    return path[:200]


def unknown_fields(request: BaseModel) -> list[str]:
    """Names of fields that were sent and mean nothing here: ``user``, ``messages[0].name``. At most 20."""
    found = list(_unknown(request, ""))
    return found if len(found) <= _MOST_NAMED else [*found[:_MOST_NAMED], f"{len(found) - _MOST_NAMED} more"]


def _unknown(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, f"{path}[{index}]")
    elif isinstance(value, BaseModel):
        prefix = f"{path}." if path else ""
        if not isinstance(value, OtherPart):  # refused as a whole
            yield from (prefix + (name if name.strip() else repr(name)) for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), prefix + name)
