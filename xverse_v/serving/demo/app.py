"""The demo as one running thing: temporary folder, page, guard, server.

What crosses: a loaded `Assistant` and `DemoOptions` in; a `Demo`, whose `app` any ASGI server can run, or `serve`,
which runs it until it is stopped. Gradio is configured here: no analytics, no sharing, no record of runs, no fonts or
scripts from elsewhere. Closing a demo removes everything it wrote.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xverse_v.errors import error, user_language
from xverse_v.inference.assistant import Assistant
from xverse_v.media import DEFAULT_LIMITS

from .desk import Desk
from .options import DemoOptions, Example, check_extra
from .visits import GRACE_SECONDS, Visits

if TYPE_CHECKING:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from .talk import Talk

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "PingFang SC")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


@dataclass
class Demo:
    """A page with its model, ready to be served. `close` ends what runs and removes what was written."""

    app: ASGIApp
    desk: Desk
    visits: Visits
    folder: Path
    examples: Sequence[Example]
    end_pages: Callable[[], None]
    restore_environment: Callable[[], None]

    def close(self) -> None:
        self.desk.close()
        self.visits.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.restore_environment()


def build(assistant: Assistant, options: DemoOptions) -> Demo:
    """The demo around a loaded model; one in a process at a time, because Gradio's folder is a process's.

    Raises E663 without Gradio, E664 for an address others can reach without a password.
    """
    check_extra()
    from starlette.routing import Mount

    from .guard import Guard, is_loopback

    loopback = is_loopback(options.host)
    if not loopback and not options.passwords:
        raise error("E664", host=options.host)
    folder = Path(tempfile.mkdtemp(prefix="xverse-v-demo-")).resolve()
    restore = _gradio_environment(folder)
    from .talk import Talk

    examples = _copied(options.examples, folder)
    desk, visits = Desk(), Visits(folder, options.language or user_language(), grace=GRACE_SECONDS)
    app = _application(Talk(assistant, desk, visits), options, examples)
    gradio_app: Any = next(route.app for route in app.routes if isinstance(route, Mount))

    def end_pages() -> None:
        gradio_app.stop_event.set()  # every open page holds a request that ends with this

    guarded = Guard(app, loopback=loopback, passwords=options.passwords)
    return Demo(guarded, desk, visits, folder, examples, end_pages, restore)


def serve(assistant: Assistant, options: DemoOptions, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until Ctrl-C or SIGTERM. ``ready`` is told the address once it can be opened. Raises also E668."""
    check_extra()
    listening = open_port(options.host, options.port)
    demo = build(assistant, options)
    with closing(listening), closing(demo), _terminable():
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        new_server(demo).run(sockets=[listening])


def new_server(demo: Demo) -> uvicorn.Server:
    """A server for the demo that ends well while pages are open."""
    import uvicorn

    config = uvicorn.Config(
        demo.app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    shutdown = server.shutdown

    async def ended(sockets: list[socket.socket] | None = None) -> None:
        demo.visits.stop()
        demo.end_pages()
        await shutdown(sockets)

    server.shutdown = ended  # type: ignore[method-assign]
    return server


def open_port(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises E668 if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as in serving.run.listen
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as reason:
        listening.close()
        text = os.strerror(reason.errno) if isinstance(reason, OSError) and reason.errno else str(reason)
        raise error("E668", host=host, port=port, reason=text, next_port=min(port + 1, 65535)) from reason
    return listening


def _application(talk: Talk, options: DemoOptions, examples: Sequence[Example]) -> FastAPI:
    import gradio as gr
    from fastapi import FastAPI

    from . import choices
    from .controls import lay_out
    from .events import connect
    from .wiring import Wiring

    assistant = talk.assistant
    most_tiles = assistant.prompts.processor.image_processor.max_tiles
    defaults: Mapping[str, object] = choices.defaults(assistant.settings, most_tiles)
    language = options.language or user_language()
    with gr.Blocks(title="XVERSE-V", analytics_enabled=False, fill_width=True) as blocks:
        line = _model_line(assistant, options.model_name)
        page = lay_out(blocks, line, defaults, most_tiles, assistant.engine.max_context, examples, language)
        wiring = Wiring(talk, page, examples, defaults, follow_browser=options.language is None)
        connect(page, wiring)
    blocks.queue(max_size=256, default_concurrency_limit=32, api_open=False)
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="",
        max_file_size=DEFAULT_LIMITS.max_bytes,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=_theme(),
        css=_own_file("style.css"),
        head=f"<script>{_own_file('page.js')}</script>",
    )


def _own_file(name: str) -> str:
    return files("xverse_v.serving.demo").joinpath(name).read_text(encoding="utf-8")


def _theme() -> gr.themes.Base:
    """Gradio's plain theme in this project's colours, with the reader's own fonts: none is fetched."""
    import gradio as gr

    return gr.themes.Soft(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.gray,
        radius_size=gr.themes.sizes.radius_md,
        font=[*_FONTS, "Microsoft YaHei", "sans-serif"],
        font_mono=list(_MONO),
    ).set(
        body_background_fill="#f5f6f8",
        body_background_fill_dark="#101216",
        block_background_fill="#ffffff",
        block_background_fill_dark="#191c22",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#191c22",
        background_fill_secondary="#eef0f4",
        background_fill_secondary_dark="#23272f",
        border_color_primary="#dfe2e8",
        border_color_primary_dark="#343a45",
        input_background_fill="#ffffff",
        input_background_fill_dark="#23272f",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        block_shadow="0 1px 2px rgba(16, 18, 22, .06)",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="500",
        block_title_padding="0",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color_subdued",
        block_label_text_color_dark="*body_text_color_subdued",
        body_text_color_subdued="#6b7280",  # the theme's own is too pale to read at 13 pixels
        body_text_color_subdued_dark="#a3aab8",
    )


def _model_line(assistant: Assistant, name: str) -> str:
    conditions = assistant.engine.conditions
    facts = (name, conditions.weights_id, conditions.dtype, conditions.device, f"grid {conditions.orientation}")
    return " · ".join(facts)


def _copied(examples: Sequence[Example], folder: Path) -> list[Example]:
    """Examples as files of the demo's own folder, from where Gradio may show them."""
    place = folder / "examples"
    place.mkdir()
    return [Example(Path(shutil.copy(example.path, place)), example.questions) for example in examples]


def _gradio_environment(folder: Path) -> Callable[[], None]:
    """Set what Gradio reads from the environment, now and at each request: its folder, and that it reports to nobody.

    Returns what puts the environment back.
    """
    wanted = {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SHARE": "False"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    return restore


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM as an ordinary end, so that what follows is cleaned up: uvicorn stops well and then raises it again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
