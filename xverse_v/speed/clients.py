"""Clients of a server, timed: one or many at once over real HTTP, and the server as a process of its own.

In: a base URL and bodies of `chat/completions` with `stream`. Out: `Reply`s with the second of every piece of text, and
`Load`, their summary. Any server of that protocol will do; what is asked is `workloads`' matter. Needs httpx, which
comes with the `serve` extra.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from xverse_v.errors import error
from xverse_v.speed.loading import failure_line

if TYPE_CHECKING:
    import httpx

ANSWER_SECONDS = 600
Percentiles = tuple[float, float]


@dataclass
class Reply:
    """One request: what came, and when, in seconds since it was sent. Tokens are 0 where the server does not count."""

    status: int
    text: str = ""
    code: str = ""
    times: list[float] = field(default_factory=list)  # of each piece of text
    seconds: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0

    @property
    def good(self) -> bool:
        return self.status == 200 and not self.code

    @property
    def each(self) -> float | None:
        """Seconds a token (a piece where tokens are not counted) after the first; None for an answer of one."""
        steps = (self.tokens or len(self.times)) - 1
        return (self.times[-1] - self.times[0]) / steps if steps > 0 and len(self.times) > 1 else None


@dataclass(frozen=True)
class Load:
    """All requests of one run. cpu: processor seconds of the server and of the clients; None where unknown."""

    replies: list[Reply]
    seconds: float
    server_cpu: float | None
    client_cpu: float

    @property
    def good(self) -> list[Reply]:
        return [reply for reply in self.replies if reply.good]

    @property
    def per_second(self) -> float:
        """Requests that were answered, a second."""
        return len(self.good) / self.seconds

    def first(self) -> Percentiles | None:
        """Seconds to the first piece of text, half and 95 of 100 requests within; None for fewer than two."""
        return percentiles([reply.times[0] for reply in self.good if reply.times])

    def each(self) -> Percentiles | None:
        """Seconds a token after it, likewise."""
        return percentiles([each for reply in self.good if (each := reply.each) is not None])

    def as_dict(self) -> dict[str, Any]:
        """For scripts; milliseconds where the name says so."""
        found: dict[str, Any] = {
            "requests": len(self.replies),
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(self.per_second, 3),
            "pieces_per_second": round(sum(len(reply.times) for reply in self.good) / self.seconds, 1),
            "statuses": dict(Counter(str(reply.status) for reply in self.replies)),
            "codes": dict(Counter(reply.code for reply in self.replies if reply.code)),
            "ttft_ms": _milliseconds(self.first()),
            "per_token_ms": _milliseconds(self.each()),
        }
        if self.server_cpu is not None:
            found["server_cpu_ms"] = round(self.server_cpu * 1000 / len(self.replies), 2)
        return {**found, "client_cpu_ms": round(self.client_cpu * 1000 / len(self.replies), 2)}


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """The 50th and the 95th; None for fewer than two values."""
    if len(values) < 2:
        return None
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94]


def _milliseconds(found: Percentiles | None) -> dict[str, float]:
    return {} if found is None else {"p50": round(found[0] * 1000, 1), "p95": round(found[1] * 1000, 1)}


def run_load(url: str, bodies: Sequence[dict[str, Any]], clients: int, pid: int | None = None) -> Load:
    """All requests by `clients` that each send one after another. pid: the server's, to count its processor time,
    which unlike seconds says little about who else was using the machine."""
    before, own = cpu_seconds(pid), time.process_time()
    replies, seconds = asyncio.run(ask_all(url, bodies, clients))
    after = cpu_seconds(pid)
    spent = after - before if before is not None and after is not None else None
    return Load(replies, seconds, spent, time.process_time() - own)


async def ask_all(url: str, bodies: Sequence[dict[str, Any]], clients: int) -> tuple[list[Reply], float]:
    """All replies in order, and the seconds they took."""
    import httpx

    replies: list[Reply | None] = [None] * len(bodies)
    waiting = iter(range(len(bodies)))
    trusted = ssl.create_default_context()  # made once: reading the certificates costs more than a request

    async def one() -> None:
        # Each with a connection of its own. One pool for all looks through all of its connections at every request,
        # which took three quarters of a client's time with 200 of them.
        async with httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS, verify=trusted, trust_env=False) as client:
            for number in waiting:
                replies[number] = await ask(client, bodies[number])

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(min(clients, len(bodies)))))
    seconds = time.perf_counter() - began
    return [reply for reply in replies if reply is not None], seconds


async def ask(client: httpx.AsyncClient, sent: dict[str, Any]) -> Reply:
    """One streamed answer. A refusal or a stream that is cut becomes a code of the reply, never an answer."""
    began = time.perf_counter()
    reply, pieces, done = Reply(0), list[str](), False
    async with client.stream("POST", "chat/completions", json=sent) as response:
        reply.status = response.status_code
        if response.status_code != 200:
            text = (await response.aread()).decode(errors="replace")
            reply.code = found[1] if (found := re.search(r'"code":"(\w+)"', text)) else text[:80]
            return reply
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                document = json.loads(line[6:])
                text = _taken(reply, document)
                done = done or _finished(document)
                if text:
                    reply.times.append(time.perf_counter() - began)
                    pieces.append(text)
    if not done and not reply.code:
        reply.code = "cut"
    reply.text, reply.seconds = "".join(pieces), time.perf_counter() - began
    return reply


def _taken(reply: Reply, document: dict[str, Any]) -> str:
    """The text of one event; counts and errors go into the reply."""
    if "error" in document:
        reply.code = document["error"]["code"]
        return ""
    if usage := document.get("usage"):
        reply.prompt_tokens, reply.tokens = usage["prompt_tokens"], usage["completion_tokens"]
    choices = document.get("choices")
    return (choices[0]["delta"].get("content") or "") if choices else ""


def _finished(document: dict[str, Any]) -> bool:
    """Not every server says [DONE]."""
    choices = document.get("choices") or [{}]
    return choices[0].get("finish_reason") is not None


def cpu_seconds(pid: int | None) -> float | None:
    """Processor time of a process so far, its threads included; None where Linux does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():
        return None
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server_process(model: str, log: Path, *, name: str, batch: int, queue: int) -> Iterator[tuple[int, str]]:
    """`xverse-v serve` in a process of its own: its id and its base URL, ready to answer. Raises E817."""
    command = [sys.executable, "-m", "xverse_v", "serve", "--port", "0", "--model", model]
    command += ["--max-seconds", str(ANSWER_SECONDS), "--batch", str(batch), "--queue", str(queue)]
    command += ["--model-name", name]
    environment = os.environ | {"XVERSE_V_LANG": "en"}
    with log.open("w") as target:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=target)
    try:
        yield process.pid, f"{_ready(process, log, model)}/v1"
    finally:
        process.terminate()
        process.wait(60)


def _ready(process: subprocess.Popen[bytes], log: Path, model: str) -> str:
    import httpx

    while True:
        said = log.read_text(encoding="utf-8", errors="replace")
        if process.poll() is not None:
            raise error("E817", status=process.returncode, problem=failure_line(said), model=model)
        if found := re.search(r"http://\S+?:\d+", said):
            try:
                if httpx.get(f"{found[0]}/health", trust_env=False).status_code == 200:
                    return found[0]
            except httpx.TransportError:  # it says its address before it listens
                pass
        time.sleep(0.1)
