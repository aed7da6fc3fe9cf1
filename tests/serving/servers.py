"""Servers to ask: uvicorn itself on a free port, in front of a model or of a stand-in that does what a test needs."""

import asyncio
import base64
import contextlib
import io
import threading
import time

import httpx
from PIL import Image

from xverse_v.serving.app import create_app
from xverse_v.serving.auth import Keys
from xverse_v.serving.backend_local import LocalBackend
from xverse_v.serving.metrics import Metrics
from xverse_v.serving.run import listen, make_server, url_of
from xverse_v.serving.settings import ServeSettings

KEY, OTHER_KEY = "a-key-of-the-first-tenant", "a-key-of-the-second-one"
NANO = "nano"
SETTINGS = ServeSettings(port=0)


class Echo:
    """A backend without a model: answers with what it was asked. ``act`` may be set to do something else first."""

    def __init__(self):
        self.state, self.failure = "ready", None
        self.act = None
        self.calls, self.ended, self.closed = [], 0, False

    def start(self):
        pass

    async def complete(self, call):
        self.calls.append(call)
        try:
            if self.act:
                await self.act(call)
            return self._document(call, "message")
        finally:
            self.ended += 1

    async def stream(self, call):
        self.calls.append(call)
        try:
            yield self._document(call, "delta")
            if self.act:
                await self.act(call)
            yield self._document(call, "delta")
        finally:
            self.ended += 1

    def _document(self, call, where):
        text = call.request.messages[-1].content
        choice = {"index": 0, where: {"role": "assistant", "content": text}, "finish_reason": None}
        return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "echo", "choices": [choice]}

    async def tiles(self, request, facts):
        return {"object": "tiles"}

    def model_facts(self):
        return {"max_model_len": 1}

    def gauges(self):
        return {"running": len(self.calls) - self.ended}

    async def close(self, seconds):
        self.closed = True


@contextlib.contextmanager
def served(backend, settings=None, keys=(), metrics=None):
    """A base URL at which the backend answers for as long as the block lasts."""
    settings = settings or ServeSettings(port=0)
    server = make_server(create_app(backend, settings, Keys(keys), metrics or Metrics()), backend, settings)
    bound = listen(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        yield url_of(bound)
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()
        assert not thread.is_alive(), "the server did not stop"


def wait_for(happened, seconds=20):
    """Until it is true; a test that waits longer has failed."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def data_url(width=300, height=200, colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def question(text="What is it?", *images, detail="low"):
    """One user message in OpenAI's form."""
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": detail}} for url in images]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def local_backend(assistant, settings=None, metrics=None):
    return LocalBackend(lambda: assistant, settings or ServeSettings(port=0), metrics or Metrics())


def wait_until_ready(url):
    wait_for(lambda: httpx.get(f"{url}/health", trust_env=False).status_code == 200)


async def never():
    await asyncio.Event().wait()


def ask(client, *messages, **options):
    return client.chat.completions.create(model=NANO, messages=list(messages), **options)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
