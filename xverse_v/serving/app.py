"""The routes: OpenAI's chat completions and models, and health, metrics, version and tiles.

What crosses: HTTP requests that the gate let through; responses. A route checks a request's shape, hands it to the
backend and wraps what comes back. It computes nothing, and every failure leaves here in OpenAI's shape (errors.py).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from xverse_v import __version__
from xverse_v.errors import XverseError, error
from xverse_v.inference.answer import versions

from .auth import Keys, refuse_open_door
from .backend import Backend, Call
from .errors import as_error, error_response
from .gate import Facts, Gate
from .images import refuse_address
from .metrics import CONTENT_TYPE, Metrics
from .protocol import ChatRequest, TilesRequest, field_path, unknown_fields
from .refused import refuse_unsupported
from .settings import ServeSettings
from .stream import EventStream, unless_gone
from .translate import check_shape

_ERROR = {
    "description": "OpenAI's error shape, with our code",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code", "name"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": "string"},
                            "name": {"type": "string"},
                        },
                    }
                },
            }
        }
    },
}
_EVERYWHERE = ("401", "403", "503")
_OF_A_BODY = ("400", "404", "408", "413", "415", "429", "504")


def create_app(backend: Backend, settings: ServeSettings, keys: Keys, metrics: Metrics) -> Gate:
    """The whole server as one ASGI application. Raises E603 if it would stand open to others without a key."""
    refuse_open_door(settings, keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backend.start()
        yield
        await backend.close(settings.limits.grace_seconds)

    # No /docs: its page loads scripts from the web.
    app = FastAPI(title="XVERSE-V", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_handlers(app)
    _add_facts(app, backend, settings, metrics)
    _add_work(app, backend, settings, metrics)
    return Gate(app, settings, keys, metrics)


def _add_work(app: FastAPI, backend: Backend, settings: ServeSettings, metrics: Metrics) -> None:
    """The routes that cost something."""

    def looked_at(request: ChatRequest | TilesRequest, facts: Facts) -> None:
        ignored = unknown_fields(request)
        if ignored:
            metrics.ignored(len(ignored))
            facts.notes.append(f"ignored: {', '.join(ignored)}")

    @app.post("/v1/chat/completions", responses=_documented(_EVERYWHERE + _OF_A_BODY), response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation, whole or (``stream``) as server-sent events."""
        facts: Facts = request.scope["facts"]
        looked_at(body, facts)
        _check_model(body.model, settings)
        refuse_unsupported(body)
        check_shape(body, settings.limits, settings.remote)
        call = Call(body, facts)
        if body.stream:
            return EventStream(backend.stream(call), facts)
        return JSONResponse(await unless_gone(backend.complete(call), request.receive))

    @app.post("/v1/tiles", responses=_documented(_EVERYWHERE + _OF_A_BODY), response_model=None)
    async def tiles(body: TilesRequest, request: Request) -> Response:
        """What the model would see of an image: grid, views, tokens, and what shrinking loses."""
        facts: Facts = request.scope["facts"]
        looked_at(body, facts)
        refuse_address(body.image, settings.remote, "image")
        return JSONResponse(await unless_gone(backend.tiles(body, facts), request.receive))


def _add_facts(app: FastAPI, backend: Backend, settings: ServeSettings, metrics: Metrics) -> None:
    """The routes that only tell."""
    created = int(time.time())

    def model_card() -> dict[str, Any]:
        card = {"id": settings.model_name, "object": "model", "created": created, "owned_by": "xverse-v"}
        return {**card, **backend.model_facts()}

    @app.get("/health", responses=_documented(("403", "503")))
    async def health() -> JSONResponse:
        """200 when answers can be had. Needs no key and says nothing more."""
        state = backend.state
        return JSONResponse({"status": "ok" if state == "ready" else state}, 200 if state == "ready" else 503)

    @app.get("/v1/models", responses=_documented(_EVERYWHERE))
    async def models() -> JSONResponse:
        """The one model that is served."""
        return JSONResponse({"object": "list", "data": [model_card()]})

    @app.get("/v1/models/{model}", responses=_documented((*_EVERYWHERE, "404")))
    async def one_model(model: str) -> JSONResponse:
        """The model by its name."""
        _check_model(model, settings)
        return JSONResponse(model_card())

    @app.get("/version", responses=_documented(_EVERYWHERE))
    async def version() -> JSONResponse:
        """Versions of all that computes."""
        return JSONResponse(dict(versions()))

    @app.get("/metrics", responses=_documented(_EVERYWHERE), response_class=Response)
    async def prometheus() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.page(backend.gauges()), media_type=CONTENT_TYPE)


def _check_model(name: str, settings: ServeSettings) -> None:
    if name != settings.model_name:
        raise error("E612", param="model", model=name[:100], known=settings.model_name)


def _documented(statuses: tuple[str, ...]) -> dict[int | str, dict[str, Any]]:
    return {int(status): _ERROR for status in statuses}


def _add_handlers(app: FastAPI) -> None:
    """Every failure as an error document. The gate logs bugs; here they only get their answer."""

    def answer(request: Request, problem: XverseError) -> Response:
        facts: Facts = request.scope["facts"]
        facts.code = problem.code
        return error_response(problem, facts.language)

    @app.exception_handler(XverseError)
    async def ours(request: Request, problem: Exception) -> Response:
        return answer(request, as_error(problem))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, RequestValidationError)
        # Of alternatives that all failed, the one that got furthest is what the client meant.
        found = [(field_path(each["loc"]), each) for each in problem.errors()]
        where, deepest = max(found, key=lambda pair: pair[0].count(".") + pair[0].count("["))
        if deepest["type"] == "json_invalid":
            where, reason = "", f"not JSON, {deepest['ctx']['error']} at character {deepest['loc'][-1]}"
        else:
            reason = deepest["msg"]
        return answer(request, error("E610", param=where or None, field=where or "body", problem=reason))

    @app.exception_handler(HTTPException)
    async def http(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        method, path = request.method, request.url.path[:100]
        if problem.status_code == 404:
            return answer(request, error("E613", method=method, path=path))
        if problem.status_code == 405:
            allowed = (problem.headers or {}).get("Allow", "")
            return answer(request, error("E614", method=method, path=path, allowed=allowed))
        if problem.status_code == 400:
            return answer(request, error("E610", param=None, field="body", problem=str(problem.detail)))
        return answer(request, error("E619", type=f"HTTP {problem.status_code}"))

    @app.exception_handler(Exception)
    async def bug(request: Request, problem: Exception) -> Response:
        return error_response(as_error(problem), request.scope["facts"].language)
