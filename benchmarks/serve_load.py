"""What the server does under load: many clients at once, beside the same server asked one question at a time.

    python benchmarks/serve_load.py --clients 200 --out load.json
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
import statistics
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

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
    report: dict[str, Any] = {
        "conditions": conditions().as_dict(),
        "settings": {name: str(value) for name, value in vars(given).items()},
    }
    log = Path(given.out or "serve_load").with_suffix(".server.log")
    queue = max(256, 2 * given.clients)
    ours = server_process(given.model, log, name=given.model_name, batch=given.batch, queue=queue)
    with nullcontext((given.pid, given.url)) if given.url else ours as (pid, url):
        for workload in workloads(given.model_name, given.requests + given.alone):
            if workload.name in given.only.split(","):
                bodies = workload.bodies if workload.name == "fresh" else workload.bodies[: given.requests]
                chosen = Workload(workload.name, bodies)
                found = measure(url, chosen, given.clients, given.alone, given.rounds, pid)
                report[workload.name] = found | {"load_average": round(os.getloadavg()[0], 1)}
                sys.stderr.write(f"{workload.name} {json.dumps(report[workload.name])}\n")
    text = json.dumps(report, indent=2)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
