"""`xverse-v serve`: the model behind OpenAI's protocol. Parses, checks, runs; the serving room answers."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xverse_v.errors import error

from .backends import Context, Gguf
from .common import Device, Dtype, Model, Quantise, note, say
from .serve_model import UPSTREAM_KEY, ServeBackend, Source, loader_of, upstream_of

if TYPE_CHECKING:
    from xverse_v.media import RemotePolicy
    from xverse_v.serving.auth import Keys
    from xverse_v.serving.backend import Backend
    from xverse_v.serving.metrics import Metrics
    from xverse_v.serving.run import Server
    from xverse_v.serving.settings import ServeSettings, Upstream

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "httpx")
_SWITCH_SECONDS = 0.0005
_LOGGED = {"xverse_v": logging.INFO, "uvicorn": logging.WARNING}
_SAFETY, _LIMITS, _OTHER = "Who may ask", "Limits", "Another server"


def serve(
    model: Model = "nano",
    device: Device = None,
    dtype: Dtype = None,
    quantise: Quantise = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; beyond this machine only with a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one and says which.")] = 8000,
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", metavar="NAME", help="The name clients ask for. Default: nano, or the folder's."),
    ] = None,
    backend: Annotated[
        ServeBackend,
        typer.Option(
            "--backend", help="torch: the model here. llamacpp: its decoder from a GGUF file. openai: --upstream."
        ),
    ] = "torch",
    gguf: Gguf = None,
    context: Context = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            metavar="URL",
            help=f"A vLLM or llama.cpp server, for example http://127.0.0.1:8001/v1; its key in {UPSTREAM_KEY}.",
            rich_help_panel=_OTHER,
        ),
    ] = None,
    upstream_model: Annotated[
        str | None,
        typer.Option(
            "--upstream-model",
            metavar="NAME",
            help="The model's name there. Default: the first it lists.",
            rich_help_panel=_OTHER,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            help="Keys, one a line; also XVERSE_V_API_KEYS. Every route but /health then needs one.",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="A name the server goes by; may be given again. * allows any.",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    remote_host: Annotated[
        list[str] | None,
        typer.Option(
            "--remote-host",
            metavar="HOST",
            help="A host that images may be fetched from by https, such as *.example.com; may be given again. "
            "Default: none, images come in the request.",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    log_prompts: Annotated[
        bool,
        typer.Option(
            "--log-prompts", help="Write questions and answers to the log. Else no word is.", rich_help_panel=_SAFETY
        ),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="N", help="Requests a minute for each key. Default: no limit.", rich_help_panel=_LIMITS
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, metavar="N", help="Requests decoded together.", rich_help_panel=_LIMITS)
    ] = 8,
    queue: Annotated[
        int, typer.Option("--queue", min=1, metavar="N", help="Requests that may wait.", rich_help_panel=_LIMITS)
    ] = 256,
    max_seconds: Annotated[
        float,
        typer.Option(
            "--max-seconds", metavar="S", help="Wall clock of one request, waiting included.", rich_help_panel=_LIMITS
        ),
    ] = 300.0,
    max_answer: Annotated[
        int | None,
        typer.Option("--max-answer", min=1, metavar="N", help="Most tokens of an answer.", rich_help_panel=_LIMITS),
    ] = None,
    max_images: Annotated[
        int, typer.Option("--max-images", min=0, metavar="N", help="Most of one request.", rich_help_panel=_LIMITS)
    ] = 16,
    max_body_mib: Annotated[
        int, typer.Option("--max-body-mib", min=1, metavar="N", help="Largest request.", rich_help_panel=_LIMITS)
    ] = 32,
    grace_seconds: Annotated[
        float,
        typer.Option(
            "--grace-seconds", min=0, metavar="S", help="For running answers after SIGTERM.", rich_help_panel=_LIMITS
        ),
    ] = 30.0,
) -> None:
    """Serve the model over HTTP, as OpenAI's API: chat completions with images, streaming, JSON answers.

    On this machine it needs no key; beyond it, it does not start without one. Nothing is fetched from the web and no
    prompt is logged unless you say so. Ctrl-C or SIGTERM ends it after the running answers.
    """
    _refuse_missing_packages()
    other = upstream_of(backend, upstream, upstream_model, model)
    from xverse_v.serving.auth import read_keys
    from xverse_v.serving.settings import MIB, Limits, ServeSettings

    limits = Limits(
        body_bytes=max_body_mib * MIB,
        held_bytes=max(16 * max_body_mib, 512) * MIB,
        images=max_images,
        answer_tokens=max_answer,
        batch=batch,
        queue=queue,
        request_seconds=max_seconds,
        per_minute=rate,
        grace_seconds=grace_seconds,
    )
    settings = ServeSettings(
        host=host,
        port=port,
        model_name=model_name or _name_of(model, other),
        allowed_hosts=tuple(allowed_host or ()),
        remote=_remote(remote_host),
        log_prompts=log_prompts,
        limits=limits,
    )
    source = other or loader_of(model, device, dtype, quantise, backend, gguf, context, batch)
    _run(settings, read_keys(api_key_file), source)


def _run(settings: ServeSettings, keys: Keys, source: Source) -> None:
    """Serve until told to stop. Raises what loading the model raised."""
    from xverse_v.serving.app import create_app
    from xverse_v.serving.auth import refuse_open_door
    from xverse_v.serving.metrics import Metrics
    from xverse_v.serving.run import listen, make_server, url_of

    refuse_open_door(settings, keys)
    metrics, stop = Metrics(), _Stop()
    answers = _backend(settings, metrics, source, stop)
    server = stop.server = make_server(create_app(answers, settings, keys, metrics), answers, settings)
    with listen(settings) as bound, _log_to_stderr():
        # One thread computes while another writes to clients, and Python lets the first keep the interpreter for this
        # long. At its own 5 ms pieces of text wait longer than a small model needs to make them.
        sys.setswitchinterval(_SWITCH_SECONDS)
        url = url_of(bound)
        asked = say("with a key", "需要密钥") if keys else say("without a key", "无需密钥")
        note(
            say(
                f"{settings.model_name} at {url}/v1 ({asked}); loading ...",
                f"{settings.model_name}：{url}/v1（{asked}）；正在加载……",
            )
        )
        # uvicorn raises the signal again once it has stopped; by then it has done its work.
        signal.signal(signal.SIGTERM, lambda *_: None)
        server.run(sockets=[bound])
    if answers.failure is not None:
        raise answers.failure


class _Stop:
    """Stops the server from the thread that failed to load its model; the server is made after the backend."""

    server: Server | None = None

    def __call__(self) -> None:
        if self.server is not None:
            self.server.should_exit = True


def _backend(settings: ServeSettings, metrics: Metrics, source: Source, failed: _Stop) -> Backend:
    if not callable(source):
        from xverse_v.serving.backend_openai import ProxyBackend

        return ProxyBackend(source, settings, metrics)
    from xverse_v.serving.backend_local import LocalBackend

    return LocalBackend(source, settings, metrics, failed)


def _refuse_missing_packages() -> None:
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise error("E640", package=package)


def _remote(hosts: list[str] | None) -> RemotePolicy | None:
    if not hosts:
        return None
    from xverse_v.media import RemotePolicy

    return RemotePolicy(tuple(hosts))


def _name_of(model: str, other: Upstream | None) -> str:
    """What clients ask for: a label only, nothing is decided by it."""
    if other is not None:
        return other.model or "xverse-v"
    return Path(model).resolve().name if model != "nano" else model


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Within it the package's log and uvicorn's warnings come out on stderr, one line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [(logging.getLogger(name), level) for name, level in _LOGGED.items()]
    for logger, level in loggers:
        logger.setLevel(level)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, _ in loggers:
            logger.removeHandler(handler)
