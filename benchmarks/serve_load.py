"""What the server does under load: many clients at once, beside the same server asked one question at a time.

    python benchmarks/serve_load.py --clients 200 --out load.json
    python benchmarks/serve_load.py --url http://127.0.0.1:8010/v1 --model-name NAME --only fresh,shared   # another one

It starts `xverse-v serve` as a process of its own, sends questions about made images as streams over real HTTP, and
compares every answer with the one the same question gets alone. Three workloads, since they cost different things:

- `fresh`: every question has an image of its own, so each pays for its image; the first tokens come from prefill.
- `shared`: questions about few images, which are cached; what is left is HTTP, prefill of the question, and decode.
- `long`: as `shared`, with answers held to a fixed form of about 60 tokens, so that decoding is what counts.

Each is measured one at a time, then with all clients at once. Seconds are those of this machine and its neighbours; the
ratio is what carries over. The clients share the cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from serve_workloads import Workload, workloads

REPOSITORY = Path(__file__).parents[1]


@dataclass
class Reply:
    """One request: what came, and when, in seconds since it was sent."""

    status: int
    text: str = ""
    code: str = ""
    times: list[float] = field(default_factory=list)  # of each piece of text
    seconds: float = 0.0


async def ask(client: httpx.AsyncClient, sent: dict[str, Any]) -> Reply:
    began = time.perf_counter()
    reply = Reply(0)
    pieces = []
    async with client.stream("POST", "chat/completions", json=sent) as response:
        reply.status = response.status_code
        if response.status_code != 200:
            text = (await response.aread()).decode(errors="replace")
            reply.code = found[1] if (found := re.search(r'"code":"(\w+)"', text)) else text[:80]
            return reply
        done = False
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                document = json.loads(line[6:])
                if "error" in document:
                    reply.code = document["error"]["code"]
                elif document.get("choices"):
                    choice = document["choices"][0]
                    done = done or choice.get("finish_reason") is not None  # not every server says [DONE]
                    if text := choice["delta"].get("content"):
                        reply.times.append(time.perf_counter() - began)
                        pieces.append(text)
        if not done and not reply.code:
            reply.code = "cut"
    reply.text, reply.seconds = "".join(pieces), time.perf_counter() - began
    return reply


async def ask_all(url: str, bodies: tuple[dict[str, Any], ...], clients: int) -> tuple[list[Reply], float]:
    """All replies in order and the seconds they took, by ``clients`` that each send one request after another."""
    replies: list[Reply | None] = [None] * len(bodies)
    waiting = iter(range(len(bodies)))
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as client:

        async def one() -> None:
            for number in waiting:
                replies[number] = await ask(client, bodies[number])

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(min(clients, len(bodies)))))
        seconds = time.perf_counter() - began
    return [reply for reply in replies if reply is not None], seconds


def cpu_seconds(pid: int | None) -> float | None:
    """CPU time of a process so far, its threads included; None where Linux does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if pid is None or not stat.exists():
        return None
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(replies: list[Reply], seconds: float) -> dict[str, Any]:
    good = [reply for reply in replies if reply.status == 200 and not reply.code]
    first = [reply.times[0] for reply in good if reply.times]
    each = [(r.times[-1] - r.times[0]) / (len(r.times) - 1) for r in good if len(r.times) > 1]
    return {
        "requests": len(replies),
        "seconds": round(seconds, 3),
        "requests_per_second": round(len(good) / seconds, 3),
        "pieces_per_second": round(sum(len(r.times) for r in good) / seconds, 1),
        "statuses": dict(Counter(str(reply.status) for reply in replies)),
        "codes": dict(Counter(reply.code for reply in replies if reply.code)),
        "ttft_ms": percentiles(first),
        "per_piece_ms": percentiles(each),
    }


def percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 1), "p95": round(cuts[94] * 1000, 1)}


def timed(
    url: str, bodies: tuple[dict[str, Any], ...], clients: int, pid: int | None
) -> tuple[list[Reply], dict[str, Any]]:
    """All replies and their summary, with the milliseconds of CPU that server and client spent on each request.

    Unlike seconds on the wall, CPU time says little about who else was using the machine.
    """
    before, own = cpu_seconds(pid), time.process_time()
    replies, seconds = asyncio.run(ask_all(url, bodies, clients))
    found = summary(replies, seconds)
    after = cpu_seconds(pid)
    if before is not None and after is not None:
        found["server_cpu_ms"] = round((after - before) * 1000 / len(bodies), 2)
    found["client_cpu_ms"] = round((time.process_time() - own) * 1000 / len(bodies), 2)
    return replies, found


def measure(
    url: str, workload: Workload, clients: int, alone: int, rounds: int, pid: int | None = None
) -> dict[str, Any]:
    """One at a time and all at once, ``rounds`` times; then every answer is asked again, alone, and compared.

    `fresh` pays for an image only once, so its parts are different requests and there is one round.
    """
    bodies, is_fresh = workload.bodies, workload.name == "fresh"
    ones, manys, ratios = [], [], []
    together: list[Reply] = []
    if not is_fresh:
        asyncio.run(ask_all(url, bodies, 4))  # the images and questions are cached from here on
    for _ in range(1 if is_fresh else rounds):
        rest = bodies[alone:] if is_fresh else bodies
        ones.append(timed(url, bodies[:alone], 1, pid)[1])
        together, many = timed(url, rest, clients, pid)
        manys.append(many)
        ratios.append(round(manys[-1]["requests_per_second"] / ones[-1]["requests_per_second"], 2))
    answered = [(sent, reply) for sent, reply in zip(rest, together, strict=True) if reply.status == 200]
    again, _ = asyncio.run(ask_all(url, tuple(sent for sent, _ in answered), 1))
    wrong = sum(one.text != reply.text for one, (_, reply) in zip(again, answered, strict=True))
    return {
        "one_at_a_time": ones,
        f"{clients}_clients": manys,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "compared": len(again),
        "wrong_answers": wrong,
    }


def machine() -> dict[str, Any]:
    names = ("torch", "transformers", "fastapi", "uvicorn", "httpx")
    cpu = (
        re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        if Path("/proc/cpuinfo").exists()
        else None
    )
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def start_server(given: argparse.Namespace) -> tuple[subprocess.Popen[bytes], str]:
    """Our server as a process and its base URL, ready to answer."""
    log = Path(given.out or "serve_load").with_suffix(".server.log")
    command = [sys.executable, "-m", "xverse_v", "serve", "--port", "0", "--model", given.model, "--max-seconds", "600"]
    command += ["--batch", str(given.batch), "--queue", str(max(256, 2 * given.clients))]
    command += ["--model-name", given.model_name]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "XVERSE_V_LANG": "en"}
    with log.open("w") as target:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=target)
    while (found := re.search(r"http://\S+?:\d+", log.read_text())) is None:
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
    while True:
        try:
            if httpx.get(f"{found[0]}/health", trust_env=False).status_code == 200:
                return process, f"{found[0]}/v1"
        except httpx.TransportError:
            time.sleep(0.1)
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=400, help="of each workload, all at once")
    parser.add_argument("--alone", type=int, default=60, help="of each workload, one at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="of the server")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--only", default="fresh,shared,long")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--url", help="a server that runs already, instead of one of ours")
    parser.add_argument("--pid", type=int, help="its process, to count its CPU time")
    parser.add_argument("--model-name", default="nano", help="what the server calls the model")
    given = parser.parse_args()
    process, url = (None, given.url) if given.url else start_server(given)
    report: dict[str, Any] = {"machine": machine(), "settings": {k: str(v) for k, v in vars(given).items()}}
    try:
        for workload in workloads(given.model_name, given.requests + given.alone):
            if workload.name in given.only.split(","):
                bodies = workload.bodies if workload.name == "fresh" else workload.bodies[: given.requests]
                chosen = Workload(workload.name, bodies)
                found = measure(
                    url, chosen, given.clients, given.alone, given.rounds, process.pid if process else given.pid
                )
                report[workload.name] = found | {"load_average": round(os.getloadavg()[0], 1)}
                sys.stderr.write(f"{workload.name} {json.dumps(report[workload.name])}\n")
    finally:
        if process is not None:
            process.terminate()
            process.wait(60)
    text = json.dumps(report, indent=2)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
