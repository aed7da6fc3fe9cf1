"""The proxy in front of another server: our own as the other one, and one that does everything wrong."""

import asyncio
import base64
import contextlib
import io
import json
import threading
from dataclasses import replace

import httpx
import openai
import pytest
import uvicorn
from PIL import Image

from tests.inference.small_model import small_assistant
from tests.serving.servers import KEY, data_url, local_backend, question, served, wait_for, wait_until_ready
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.serving.backend_openai import ProxyBackend
from xverse_v.serving.metrics import Metrics
from xverse_v.serving.run import Server, listen, url_of
from xverse_v.serving.settings import Limits, ServeSettings, Upstream

SETTINGS = ServeSettings(port=0, model_name="front")
ASK = {"model": "front", "messages": [{"role": "user", "content": "a"}]}


class Script:
    """Another server, as ASGI: ``reply`` is (status, headers, pieces of the body); it keeps what it was sent."""

    def __init__(self):
        self.reply = (200, {}, [b"{}"])
        self.bodies, self.headers = [], []
        self.models = (200, b'{"data": [{"id": "behind", "max_model_len": 99}]}')
        self.left = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        if scope["path"] == "/v1/models":
            await self._send(send, self.models[0], {}, [self.models[1]])
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(json.loads(body))
        self.headers.append(dict(scope["headers"]))
        status, headers, pieces = self.reply
        try:
            await asyncio.wait_for(self._send(send, status, headers, pieces, receive), 20)
        finally:
            self.left += 1

    async def _send(self, send, status, headers, pieces, receive=None):
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for piece in pieces:
            if piece is None:  # say nothing more until the other side leaves
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class NoBackend:
    async def close(self, seconds):
        pass


@contextlib.contextmanager
def scripted(script):
    server = Server(uvicorn.Config(script, log_config=None, lifespan="off", ws="none"), NoBackend(), 0)
    bound = listen(ServeSettings(port=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield url_of(bound)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)
        bound.close()


@contextlib.contextmanager
def front(upstream_url, settings=SETTINGS, keys=(), **upstream):
    metrics = Metrics()
    backend = ProxyBackend(Upstream(f"{upstream_url}/v1", **upstream), settings, metrics)
    with served(backend, settings, keys, metrics) as url:
        yield url


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def url(script):
    with scripted(script) as behind, front(behind, key="our-key-for-it") as url:
        wait_until_ready(url)
        yield url


def post(url, body=ASK, **options):
    return httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=30, **options)


def test_our_own_server_behind_it_gives_the_same_answers():
    assistant = small_assistant(profiles={"demo": SamplingSettings(max_new_tokens=8)})
    behind = ServeSettings(port=0, model_name="behind")
    with served(local_backend(assistant, behind), behind, [KEY]) as upstream, front(upstream, key=KEY) as url:
        wait_until_ready(url)
        clients = (
            openai.OpenAI(base_url=f"{upstream}/v1", api_key=KEY, max_retries=0),
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0),
        )
        asked = [{"role": "developer", "content": "Be short."}, question("What is it?", data_url())]
        asked.append({"role": "assistant", "content": "A square."})
        asked.append(question("And now?", data_url(50, 20, "blue"), detail="auto"))
        replies = []
        for client, model in zip(clients, ("behind", "front"), strict=True):
            options = {"model": model, "messages": asked, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
            whole = client.chat.completions.create(**options)
            chunks = list(client.chat.completions.create(**options, stream=True))
            usage = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
            assert usage[-1].usage.completion_tokens == 6
            assert {chunk.model for chunk in chunks} == {whole.model} == {model}
            replies.append((whole.choices[0].message.content, whole.usage.prompt_tokens, whole.choices[0].logprobs))
            client.close()
        assert replies[0] == replies[1]


def test_only_known_fields_and_decoded_images_are_sent_on(script, url):
    jpeg = io.BytesIO()
    Image.new("CMYK", (20, 10)).save(jpeg, "JPEG")
    image = "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue() + b"<script>").decode()
    response = post(url, {**ASK, "messages": [question("a", image)], "user": "me", "seed": 3, "stop": ["x"]})
    assert response.status_code == 200
    (body,) = script.bodies
    assert set(body) == {"model", "messages", "stream", "seed", "stop"}
    assert body["model"] == "behind"
    sent = body["messages"][0]["content"][0]["image_url"]["url"]
    assert sent.startswith("data:image/png;base64,")
    decoded = Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2])))
    assert (decoded.format, decoded.mode, decoded.size) == ("PNG", "RGB", (20, 10))
    (headers,) = script.headers
    assert headers[b"authorization"] == b"Bearer our-key-for-it"
    assert headers[b"x-request-id"].decode() == response.headers["x-request-id"]


def test_a_bad_image_never_reaches_the_other_server(script, url):
    for image, code in ((data_url()[:-40], "E517"), ("/etc/passwd", "E509"), ("https://example.com/a.png", "E506")):
        response = post(url, {**ASK, "messages": [question("a", image)]})
        assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert not script.bodies


def test_tenants_have_their_own_cache_there(script):
    with scripted(script) as behind, front(behind, keys=[KEY]) as url:
        wait_until_ready(url)
        post(url, headers={"Authorization": f"Bearer {KEY}"})
    assert len(script.bodies[0]["cache_salt"]) == 64
    assert KEY not in json.dumps(script.bodies)


REPLIES = [
    ((400, {}, [b'{"error": {"message": "too  long"}}']), 400, "E631", "too long"),
    ((422, {}, [b'{"detail": "no such thing"}']), 400, "E631", "no such thing"),
    ((400, {}, [b"\xff plain"]), 400, "E631", "plain"),
    ((400, {}, [b"[]"]), 400, "E631", "[]"),
    ((401, {}, [b"secret words"]), 502, "E635", None),
    ((403, {}, []), 502, "E635", None),
    ((404, {}, [b"secret words"]), 502, "E632", None),
    ((429, {"retry-after": "7"}, []), 429, "E634", "7 s"),
    ((429, {"retry-after": "soon"}, []), 429, "E634", "2 s"),
    ((500, {}, [b"secret words"]), 502, "E632", None),
    ((503, {}, []), 503, "E630", None),
    ((307, {"location": "http://example.com/"}, []), 502, "E632", None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reply", "status", "code", "words"), REPLIES)
def test_its_failures_are_ours_by_what_they_mean(script, url, reply, status, code, words, stream):
    script.reply = reply
    response = post(url, ASK | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert "secret" not in response.text
    if words:
        assert words in response.json()["error"]["message"]
    if status == 429:
        assert int(response.headers["retry-after"]) in (2, 7)


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"3", b'{"usage": 3}'])
def test_an_answer_that_is_no_completion(script, url, body):
    script.reply = (200, {}, [body])
    response = post(url)
    if body == b'{"usage": 3}':
        assert response.json()["model"] == "front"
    else:
        assert (response.status_code, response.json()["error"]["code"]) == (502, "E632")


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}], "model": "behind"}\n\n'


@pytest.mark.parametrize(
    "rest",
    [[], [b"data: {\n\n"], [b"data: []\n\n"], [b'data: {"error": {"message": "secret words"}}\n\n'], [b"data: [DO"]],
)
def test_a_stream_that_breaks_ends_in_an_error_event(script, url, rest):
    script.reply = (200, {}, [b": comment\n\nevent: x\n" + CHUNK, *rest])
    response = post(url, ASK | {"stream": True})
    assert response.status_code == 200
    events = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\n\n") if event]
    assert events[0]["model"] == "front"
    assert events[-1]["error"]["code"] == "E632"
    assert "secret" not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_us_leaves_it(script, url, stream):
    script.reply = (200, {}, [CHUNK if stream else b"{", None])
    with httpx.Client(trust_env=False) as client, contextlib.suppress(httpx.ReadTimeout):
        client.post(f"{url}/v1/chat/completions", json=ASK | {"stream": stream}, timeout=0.5)
    wait_for(lambda: script.left == 1)


@pytest.mark.parametrize("stream", [False, True])
def test_its_slowness_ends_at_our_clock(script, stream):
    settings = replace(SETTINGS, limits=Limits(request_seconds=0.4))
    script.reply = (200, {}, [CHUNK if stream else b"{", None])
    with scripted(script) as behind, front(behind, settings) as url:
        wait_until_ready(url)
        response = post(url, ASK | {"stream": stream})
        assert "E633" in response.text
        assert response.status_code == (200 if stream else 504)
        wait_for(lambda: script.left == 1)


def test_its_queue_is_bounded_here(script):
    settings = replace(SETTINGS, limits=Limits(batch=1, queue=1))
    script.reply = (200, {}, [CHUNK, None])
    with scripted(script) as behind, front(behind, settings) as url, httpx.Client(trust_env=False) as client:
        wait_until_ready(url)

        def counted(what):
            return f'what="{what}"}} 1.0' in client.get(f"{url}/metrics").text

        waiting = threading.Thread(target=post, args=[url])
        with client.stream("POST", f"{url}/v1/chat/completions", json=ASK | {"stream": True}) as first:
            lines = first.iter_lines()  # kept: the connection ends with it
            assert next(lines).startswith("data:")
            waiting.start()
            wait_for(lambda: counted("running") and counted("waiting"))
            third = post(url)
            assert (third.status_code, third.json()["error"]["code"]) == (429, "E616")
            script.reply = (200, {}, [b"{}"])
        waiting.join(20)
        assert not waiting.is_alive()
        assert not counted("waiting")


def test_it_is_loading_until_the_other_server_answers(script):
    script.models = (503, b"")
    with scripted(script) as behind, front(behind) as url:
        assert httpx.get(f"{url}/health", trust_env=False).json() == {"status": "loading"}
        response = post(url)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "E600")
        script.models = (200, b'{"data": [{"id": "behind", "max_model_len": 99}]}')
        wait_until_ready(url)
        card = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"][0]
        assert (card["id"], card["max_model_len"]) == ("front", 99)


def test_a_server_that_is_gone_is_503(script):
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(scripted(script))
        with front(behind) as url:
            wait_until_ready(url)
            stack.close()
            response = post(url)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "E630")
            assert response.headers["retry-after"]


def test_tiles_and_max_tiles_are_refused(url):
    response = httpx.post(f"{url}/v1/tiles", json={"image": data_url()}, trust_env=False)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "E636")
    assert post(url, ASK | {"max_tiles": 3}).json()["error"]["param"] == "max_tiles"
