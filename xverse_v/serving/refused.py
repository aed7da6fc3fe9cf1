"""Meanings of the protocol that are not supported here, each refused by its name rather than ignored.

A request goes in, and either nothing happens or E611/E620 is raised. Values that change nothing (``n`` = 1, ``tools`` =
[], penalties of 0) pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xverse_v.errors import XverseError, error

from .protocol import ChatMessage, ChatRequest, OtherPart

_NOT_SUPPORTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda value: value in (None, 1), "1"),
    "tools": (lambda value: not value, "[]"),
    "tool_choice": (lambda value: value in (None, "none", "auto"), '"none"'),
    "functions": (lambda value: not value, "[]"),
    "function_call": (lambda value: value in (None, "none", "auto"), '"none"'),
    "logit_bias": (lambda value: not value, "{}"),
    "presence_penalty": (lambda value: not value, "0"),
    "frequency_penalty": (lambda value: not value, "0"),
    "modalities": (lambda value: value in (None, ["text"]), '["text"]'),
    "audio": (lambda value: value is None, "null"),
    "prediction": (lambda value: value is None, "null"),
    "web_search_options": (lambda value: value is None, "null"),
    "reasoning_effort": (lambda value: value in (None, "none"), '"none"'),
    "verbosity": (lambda value: value in (None, "medium"), '"medium"'),
    "store": (lambda value: not value, "false"),
}
_OF_A_MESSAGE = ("tool_calls", "function_call", "audio")


def refuse_unsupported(request: ChatRequest) -> None:
    """Raises E611 for a field whose value means something that is not done here, and for combinations that conflict."""
    for name, (harmless, expected) in _NOT_SUPPORTED.items():
        if not harmless(getattr(request, name)):
            raise _unsupported(name, getattr(request, name), expected)
    if request.stream_options is not None and not request.stream:
        raise _unsupported("stream_options", "stream is false", "stream true")
    if request.top_logprobs and not request.logprobs:
        raise _unsupported("top_logprobs", "logprobs is false", "logprobs true")
    limits = (request.max_tokens, request.max_completion_tokens)
    if None not in limits and limits[0] != limits[1]:
        raise _unsupported("max_tokens", f"{limits[0]} beside max_completion_tokens {limits[1]}", "one of the two")
    if request.response_format is not None:
        _refuse_format(request)
    for index, message in enumerate(request.messages):
        _refuse_in_message(message, f"messages[{index}]")


def _refuse_format(request: ChatRequest) -> None:
    wanted = request.response_format
    assert wanted is not None
    if wanted.type == "json_schema" and wanted.json_schema is None:
        raise _unsupported("response_format.json_schema", "missing", "a name and a schema")
    if wanted.type != "json_schema" and wanted.json_schema is not None:
        raise _unsupported("response_format.json_schema", f"beside type {wanted.type}", 'type "json_schema"')


def _refuse_in_message(message: ChatMessage, path: str) -> None:
    if message.role in ("tool", "function"):
        raise _unsupported(f"{path}.role", message.role, "system, developer, user or assistant")
    for name in _OF_A_MESSAGE:
        if getattr(message, name):
            raise _unsupported(f"{path}.{name}", getattr(message, name), "null")
    for index, part in enumerate(message.content if isinstance(message.content, list) else []):
        if isinstance(part, OtherPart):
            raise _unsupported(f"{path}.content[{index}].type", part.type, "text or image_url")


def _unsupported(field: str, got: object, expected: str) -> XverseError:
    shown = str(got)
    return error("E611", param=field, got=shown if len(shown) <= 100 else shown[:100] + "…", expected=expected)
