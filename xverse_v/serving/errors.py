"""From a failure to what a client reads: a status and a body in OpenAI's shape, with our code.

What crosses: an `XverseError` in; a status, headers and ``{"error": {...}}`` out, as a response or as an event of a
stream. Every code that may reach a client has its status here and nowhere else; 500 is left for our own mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from xverse_v.errors import Language, XverseError, error

CLOSED_BY_CLIENT = 499  # never sent: nobody is there; logs and metrics know it, as in nginx

_STATUS = {
    "E104": 500,  # a model folder that cannot work
    "E130": 503,  # memory ran out
    "E131": 500,
    "E132": 500,
    "E144": 429,
    "E145": 504,
    "E146": 503,
    "E147": 503,
    "E148": 500,
    "E149": 500,
    "E525": 500,  # an image of a type no request can hold
    "E600": 503,
    "E601": 401,
    "E602": 403,
    "E607": 413,
    "E608": 408,
    "E609": 415,
    "E610": 400,
    "E611": 400,
    "E612": 404,
    "E613": 404,
    "E614": 405,
    "E615": 429,
    "E616": 429,
    "E618": 503,
    "E619": 500,
    "E620": 400,
    "E621": 400,
    "E623": 429,
    "E624": 400,
    "E630": 503,
    "E631": 400,
    "E632": 502,
    "E633": 504,
    "E634": 429,
    "E635": 502,
    "E636": 404,
    "E800": 500,
}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    499: "closed_by_client",
}
_RETRY_LATER = {429: 1, 503: 2}  # seconds to wait where the error does not know better
# Texts are written for the command line; a client's fields have other names.
_FIELD_WORDS = {
    "--max-new-tokens": "max_tokens",
    "--max-tiles": "max_tiles",
    "--detail low": 'detail "low"',
    "max_new_tokens": "max_tokens",
}


def status_of(problem: XverseError) -> int:
    """The HTTP status of a failure. One that only the request can have caused is 400; an unknown one is ours, 500."""
    known = _STATUS.get(problem.code)
    if known is not None:
        return known
    of_an_image = problem.code.startswith("E5")
    return 400 if of_an_image or problem.exit_code == 2 else 500


def error_document(problem: XverseError, language: Language = "en") -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code", "name"}}``.

    ``message`` is fact, cause and next step in one line; ``param`` is the field at fault where the error knows it
    (its fact ``param``); ``name`` is the code's name for programs.
    """
    status = status_of(problem)
    default = "server_error" if status >= 500 else "invalid_request_error"
    parts = problem.parts(language)
    message = f"{problem.code} {parts['fact']} {parts['cause']} {parts['next']}"
    for flag, field in _FIELD_WORDS.items():
        message = message.replace(flag, field)
    return {
        "error": {
            "message": message,
            "type": _TYPES.get(status, default),
            "param": problem.facts.get("param"),
            "code": problem.code,
            "name": problem.name,
        }
    }


def error_headers(problem: XverseError) -> dict[str, str]:
    """``Retry-After`` where waiting helps, ``WWW-Authenticate`` with 401, ``Allow`` with 405."""
    status, headers = status_of(problem), {}
    if status in _RETRY_LATER:
        headers["Retry-After"] = str(problem.facts.get("retry_after", _RETRY_LATER[status]))
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 405:
        headers["Allow"] = problem.facts["allowed"]
    if status in (408, 413):
        headers["Connection"] = "close"  # what is left of the body will not be read
    return headers


def error_response(problem: XverseError, language: Language = "en") -> Response:
    """The whole answer to a request that failed."""
    return JSONResponse(error_document(problem, language), status_of(problem), error_headers(problem))


def error_event(problem: XverseError, language: Language = "en") -> bytes:
    """A failure in a stream that has begun: one event with the same document."""
    return f"data: {json.dumps(error_document(problem, language), ensure_ascii=False)}\n\n".encode()


def reader_language(headers: Mapping[str, str]) -> Language:
    """Chinese for a client whose ``Accept-Language`` begins with it, else English."""
    return "zh" if headers.get("accept-language", "").strip().lower().startswith("zh") else "en"


def as_error(problem: Exception) -> XverseError:
    """Ours as it is; anything else is a bug of ours, of which a client learns the type and no more."""
    return problem if isinstance(problem, XverseError) else error("E619", type=type(problem).__name__)
