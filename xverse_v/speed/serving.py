"""The server, timed: requests a second, the first token and each token, clients one at a time and many at once.

In: a model folder (or nano), its shape, ceilings. Out: `Record`s with percent of the arithmetic's least time, goals.
The server is a process of its own and shares the cores with the clients; what HTTP and JSON cost is in the seconds and
not in the floor. Every answer given under load is asked again alone and compared. Which requests there are is
`workloads`' matter, how they are sent `clients`'.

A floor counts the tokens that were really answered. `fresh` pays for every image; of `shared` all images are known, so
only the questions' own text is computed. Decode steps are shared by as many rows as the server can have together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from xverse_v.errors import error
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.clients import Load, Reply, run_load, server_process
from xverse_v.speed.peers import OURS
from xverse_v.speed.records import Goal, Record, number
from xverse_v.speed.roofline import Work, decode_work, first_token_work, prefill_work
from xverse_v.speed.workloads import Workload, workloads
from xverse_v.weights.shapes import ModelShape

WORKLOADS = ("fresh", "shared")
NAME = "measured"
TOGETHER = 3  # times as many requests a second as one at a time
ALONE = "a new image is prefilled by itself, exactly as when asked alone, and one client keeps the cores busy with it"


@dataclass(frozen=True)
class ServingCase:
    """requests: of each workload with many clients; a half as many are sent one at a time. batch: of the server."""

    shape: ModelShape
    model: str
    clients: int = 32
    requests: int = 160
    batch: int = 32
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raises E814."""
        for flag, given, least in (("--clients", self.clients, 2), ("--requests", self.requests, 4)):
            if given < least:
                raise error("E814", flag=flag, given=given, least=least)


@dataclass
class Served:
    """Rows, and what the comparison says: answers compared, and those that were another text alone."""

    records: list[Record] = field(default_factory=list)
    compared: int = 0
    different: int = 0
    ratios: dict[str, float] = field(default_factory=dict)

    def goals(self) -> list[Goal]:
        """Nothing under load may change an answer; many at once must not be slower than one at a time."""
        same = self.compared - self.different
        name = "serving: answers under load as when asked alone"
        found = [Goal(name, "all", f"{same} of {self.compared}", not self.different and self.compared > 0)]
        for workload, ratio in self.ratios.items():
            name = f"serving, {workload}: requests a second at once over one at a time"
            why = ALONE if workload == "fresh" and ratio < TOGETHER else ""
            found.append(Goal(name, f"at least {TOGETHER}", number(ratio), ratio >= TOGETHER, why))
        return found


def measure_serving(case: ServingCase, ceilings: Ceilings, note: Callable[[str], None] = lambda text: None) -> Served:
    """Start the server, send, compare. Raises E817 when it does not start, E818 when requests fail."""
    found = Served()
    alone = case.requests // 2
    with tempfile.TemporaryDirectory(prefix="xverse-v-speed-") as place:
        log = Path(place) / "server.log"
        queue = max(256, 2 * case.clients)
        with server_process(case.model, log, name=NAME, batch=case.batch, queue=queue) as (pid, url):
            for workload in workloads(NAME, case.requests + alone):
                if workload.name in WORKLOADS:
                    _measure(url, pid, workload, case, alone, ceilings, found, note)
    return found


def _measure(
    url: str,
    pid: int,
    workload: Workload,
    case: ServingCase,
    alone: int,
    ceilings: Ceilings,
    found: Served,
    note: Callable[[str], None],
) -> None:
    if workload.name == "shared":
        run_load(url, workload.bodies[:10], 1)  # its ten images are known from here on
    one = checked(run_load(url, workload.bodies[:alone], 1, pid), workload.name)
    many = checked(run_load(url, workload.bodies[alone:], case.clients, pid), workload.name)
    again = checked(run_load(url, workload.bodies[alone:], 1), workload.name)
    pairs = list(zip(many.replies, again.replies, strict=True))
    found.compared += len(pairs)
    found.different += sum(together.text != single.text for together, single in pairs)
    for load, clients in ((one, 1), (many, case.clients)):
        found.records += _rows(load, clients, workload.name, case, ceilings)
        note(f"{workload.name}, {clients} at once: {number(load.per_second)} requests a second")
    found.ratios[workload.name] = many.per_second / one.per_second


def checked(load: Load, workload: str) -> Load:
    """Raises E818 for a request that was refused, cut or came to an error: a rate without it would be a lie."""
    failed = [reply for reply in load.replies if not reply.good]
    if failed:
        first = failed[0]
        raise error(
            "E818",
            failed=len(failed),
            count=len(load.replies),
            workload=workload,
            status=first.status,
            problem=first.code,
        )
    return load


def _rows(load: Load, clients: int, workload: str, case: ServingCase, ceilings: Ceilings) -> list[Record]:
    replies, rates = load.good, ceilings.rates(case.dtype)
    prompt, tokens = mean(r.prompt_tokens for r in replies), mean(r.tokens for r in replies)
    rows = min(clients, case.batch)
    settings = {
        "model": case.shape.name,
        "dtype": case.dtype,
        "workload": workload,
        "clients": clients,
        "prompt tokens": round(prompt),
        "answer tokens": round(tokens, 1),
    }
    first, step = request_work(case.shape, workload, replies, rows, case.dtype)
    least = first.on(rates).seconds + step.on(rates).seconds * max(0.0, tokens - 1) / rows
    bound = first.on(rates).bound
    cpu = () if load.server_cpu is None else (load.server_cpu / len(replies),)
    found = [
        Record("requests", OURS, "1/s", (load.per_second,), settings, 1 / least, bound, higher=True),
        Record("a request, of the whole run", OURS, "s", (load.seconds / len(replies),), settings, least, bound, cpu),
    ]
    # With many clients a first token waits for others' work, so no single request's arithmetic is its floor.
    floors = {"first token": (first.on(rates) if clients == 1 else None), "a token after it": step.on(rates)}
    for what, measured in (("first token", load.first()), ("a token after it", load.each())):
        floor = floors[what]
        for name, value in zip(("p50", "p95"), measured or (), strict=False):
            least_of = (floor.seconds, floor.bound) if floor is not None and name == "p50" else (None, "")
            found.append(Record(f"{what}, {name}", OURS, "s", (value,), settings, *least_of))
    return found


def request_work(
    shape: ModelShape, workload: str, replies: Sequence[Reply], rows: int, dtype: str
) -> tuple[Work, Work]:
    """What a request of a single view needs up to its first token, and a decode step of `rows` such requests."""
    prompt, tokens = mean(r.prompt_tokens for r in replies), mean(r.tokens for r in replies)
    image = shape.vision.patches
    text = max(1, round(prompt) - image)
    known = workload == "shared"
    first = (
        prefill_work(shape, text, cached=image, dtype=dtype) if known else first_token_work(shape, 1, text, dtype=dtype)
    )
    return first, decode_work(shape, prompt + tokens / 2, rows=rows, dtype=dtype)
