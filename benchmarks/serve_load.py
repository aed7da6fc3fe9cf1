"""What the server does under load: many clients at once, beside the same server asked one question at a time.

    python benchmarks/serve_load.py --clients 200 --out load.json
    python benchmarks/serve_load.py --clients 200 --peer --out load.json    # and transformers serve on the same weights
    python benchmarks/serve_load.py --url http://127.0.0.1:8010/v1 --model-name NAME --only fresh,shared   # another one

It starts `xverse-v serve` as a process of its own, sends questions about made images as streams over real HTTP, and
compares every answer with the one the same question gets alone. Three workloads, since they cost different things:

- `fresh`: every question has an image of its own, so each pays for its image; the first tokens come from prefill.
- `shared`: questions about few images, which are cached; what is left is HTTP, prefill of the question, and decode.
- `long`: as `shared`, with answers held to a fixed form of about 60 tokens, so that decoding is what counts.

Each is measured one at a time, then with all clients at once. Seconds are those of this machine and its neighbours; the
ratio is what carries over. The clients share the cores with the server. `xverse-v speed serve` measures the same on a
few requests, beside what the arithmetic needs at least.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx

from xverse_v.inference.loading import resolve_model
from xverse_v.speed.clients import Reply, run_load, server_process
from xverse_v.speed.records import conditions
from xverse_v.speed.workloads import Workload, workloads


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
        run_load(url, bodies, 4)  # the images and questions are cached from here on
    for _ in range(1 if is_fresh else rounds):
        rest = bodies[alone:] if is_fresh else bodies
        one = run_load(url, bodies[:alone], 1, pid)
        many = run_load(url, rest, clients, pid)
        together = many.replies
        ones.append(one.as_dict())
        manys.append(many.as_dict())
        ratios.append(round(many.per_second / one.per_second, 2))
    answered = [(sent, reply) for sent, reply in zip(rest, together, strict=True) if reply.status == 200]
    again = run_load(url, tuple(sent for sent, _ in answered), 1).replies
    wrong = sum(one.text != reply.text for one, (_, reply) in zip(again, answered, strict=True))
    return {
        "one_at_a_time": ones,
        f"{clients}_clients": manys,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "compared": len(again),
        "wrong_answers": wrong,
    }


def measure_all(url: str, pid: int | None, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """What was asked for of the workloads, by name. The peer knows no schemas, which `long` needs."""
    found: dict[str, Any] = {}
    for workload in workloads(name, given.requests + given.alone):
        if workload.name in given.only.split(",") and (name == given.model_name or workload.name != "long"):
            bodies = workload.bodies if workload.name == "fresh" else workload.bodies[: given.requests]
            chosen = Workload(workload.name, bodies)
            measured = measure(url, chosen, given.clients, given.alone, given.rounds, pid)
            found[workload.name] = measured | {"load_average": round(os.getloadavg()[0], 1)}
            sys.stderr.write(f"{url} {workload.name} {json.dumps(found[workload.name])}\n")
    return found


@contextmanager
def _transformers_serve(folder: str, log: Path) -> Iterator[tuple[int, str]]:
    """Its process id and base URL, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("serve_transformers.py")), folder, "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as target, subprocess.Popen(command, stdout=target, stderr=target) as process:
        try:
            while not _answers(f"{url}/health"):
                if process.poll() is not None:
                    raise SystemExit(f"it ended with {process.returncode}: see {log}")
                time.sleep(0.2)
            yield process.pid, f"{url}/v1"
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


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
    parser.add_argument("--peer", action="store_true", help="also `transformers serve`, see serve_transformers.py")
    parser.add_argument("--url", help="a server that runs already, instead of one of ours")
    parser.add_argument("--pid", type=int, help="its process, to count its CPU time")
    parser.add_argument("--model-name", default="nano", help="what the server calls the model")
    given = parser.parse_args()
    report: dict[str, Any] = {
        "conditions": conditions().as_dict(),
        "settings": {name: str(value) for name, value in vars(given).items()},
    }
    log = Path(given.out or "serve_load").with_suffix(".server.log")
    queue = max(256, 2 * given.clients)
    ours = server_process(given.model, log, name=given.model_name, batch=given.batch, queue=queue)
    with nullcontext((given.pid, given.url)) if given.url else ours as (pid, url):
        report |= measure_all(url, pid, given.model_name, given)
    if given.peer:
        folder = str(resolve_model(given.model))
        with _transformers_serve(folder, log.with_suffix(".peer.log")) as (pid, url):
            report["transformers serve"] = measure_all(url, pid, folder, given)
    text = json.dumps(report, indent=2)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
