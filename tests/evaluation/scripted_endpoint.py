"""An OpenAI-compatible endpoint that does what a test tells it to, over real HTTP on this machine.

with ScriptedEndpoint([status(429, retry_after="0"), answer("B")]) as server:
    ...            # the first request gets 429, the second the answer, all later ones "fine"
    server.bodies  # what was asked, parsed
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(text, finish_reason="stop", prompt_tokens=7, completion_tokens=3):
    """A chat completion with this text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": 0}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "served-1", "choices": [choice]}
    return {"status": 200, "body": json.dumps({**body, "usage": usage})}


def status(code, message="no", retry_after=None, error_code=None):
    """An error in OpenAI's shape."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    body = {"error": {"message": message, "type": "t", "param": None, "code": error_code}}
    return {"status": code, "body": json.dumps(body), "headers": headers}


def raw(text, content_type="application/json"):
    """Status 200 with any body."""
    return {"status": 200, "body": text, "headers": {"Content-Type": content_type}}


def slow(seconds, then):
    """The same, later."""
    return {**then, "delay": seconds}


class ScriptedEndpoint:
    """Serves `script` in order of arrival, then `default`: a reply, or a function of the request's body."""

    def __init__(self, script=(), default=None):
        self.script, self.default = list(script), default or answer("fine")
        self.bodies, self.headers, self.most_at_once = [], [], 0
        self._lock, self._now = threading.Lock(), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer._reply(self, body)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _reply(self, handler, body):
        with self._lock:
            self.bodies.append(body)
            self.headers.append(handler.headers)
            reply = self.script.pop(0) if self.script else self.default
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        reply = reply(body) if callable(reply) else reply
        time.sleep(reply.get("delay", 0))
        with self._lock:
            self._now -= 1
        payload = reply["body"].encode()
        headers = {"Content-Type": "application/json", **reply.get("headers", {})}
        try:
            handler.send_response(reply["status"])
            for name, value in {**headers, "Content-Length": str(len(payload))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(payload)
        except OSError:
            pass  # the client gave up waiting, as some tests want

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
