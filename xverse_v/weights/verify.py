"""`verify`: is this folder what was written, is every number in it finite, does it still compute what it computed?

What crosses: a model folder in; a report of named checks out, each passed, failed with an error, or skipped with the
reason. Reads every byte; memory is that of the largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xverse_v.errors import XverseError, error

from .inspect import inspect_folder
from .lora import ADAPTER_FOLDER, ADAPTER_WEIGHTS
from .manifest import MANIFEST, PARITY_FILE, check_manifest
from .parity import TOLERANCE, check_recorded
from .parts import open_tensors, read_header, weight_files
from .writer import blocks

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One question, its answer, and the numbers behind it."""

    name: str
    state: State
    detail: str
    problem: XverseError | None = None


@dataclass
class VerifyReport:
    """All checks of a folder. It passed if none failed; a skipped check says so."""

    folder: str
    checks: list[Check] = field(default_factory=list)

    @property
    def problems(self) -> list[XverseError]:
        return [check.problem for check in self.checks if check.problem is not None]

    @property
    def passed(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        checks = [{"name": check.name, "state": check.state, "detail": check.detail} for check in self.checks]
        problems = [problem.as_dict() for problem in self.problems]
        return {"folder": self.folder, "passed": self.passed, "checks": checks, "problems": problems}


def verify_folder(folder: str | Path) -> VerifyReport:
    """Headers, hashes, finite values, parity, in this order. Later checks are skipped when the tensors cannot be read.

    Raises E300 or E311 if there is no model folder at all, and E318 if it is one of the release's parts.
    """
    path = Path(folder)
    report = VerifyReport(str(path))
    inspected = inspect_folder(path)
    if inspected.kind != "model":
        raise error("E318", folder=path, kind=inspected.kind)
    headers = [problem for problem in inspected.problems if problem.code != "E309"]
    for problem in headers:
        report.checks.append(Check("headers", "failed", problem.parts()["fact"], problem))
    if not headers:
        report.checks.append(Check("headers", "passed", f"{inspected.found} of {inspected.expected} tensors"))
    _run(report, "hashes", lambda: _hashes(path))
    if headers:
        for name in ("finite", "parity"):
            report.checks.append(Check(name, "skipped", "the headers are wrong"))
        return report
    _run(report, "finite", lambda: _finite(path))
    _run(report, "parity", lambda: _parity(path))
    return report


def _run(report: VerifyReport, name: str, step: Callable[[], tuple[State, str]]) -> None:
    try:
        state, detail = step()
        report.checks.append(Check(name, state, detail))
    except XverseError as problem:
        report.checks.append(Check(name, "failed", problem.parts()["fact"], problem))


def _hashes(folder: Path) -> tuple[State, str]:
    state = check_manifest(folder, hashes=True)
    if not state.present:
        return "skipped", f"no {MANIFEST}"
    problem = state.problem(folder)
    if problem:
        raise problem
    return "passed", f"{state.files} files"


def _finite(folder: Path) -> tuple[State, str]:
    adapter = folder / ADAPTER_FOLDER / ADAPTER_WEIGHTS
    count = 0
    for path in [*weight_files(folder), *([adapter] if adapter.is_file() else [])]:
        header = read_header(path)
        with open_tensors(header) as tensors:
            for name, tensor in tensors.items():
                bad = sum(int((~tensor[a:b].isfinite()).sum()) for a, b in blocks(tensor.shape, 4))
                if bad:
                    raise error("E307", path=path, name=name, count=bad, dtype=header.tensors[name].dtype)
                count += 1
    return "passed", f"{count} tensors"


def _parity(folder: Path) -> tuple[State, str]:
    if not (folder / PARITY_FILE).is_file():
        return "skipped", f"no {PARITY_FILE}"
    return "passed", f"{check_recorded(folder):.1e} <= {TOLERANCE:.0e}"
