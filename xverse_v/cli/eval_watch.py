"""Progress of an evaluation on stderr, and which process of several this one is. Prints, decides nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .common import note, say

if TYPE_CHECKING:
    from xverse_v.evaluation.run import RunReport
    from xverse_v.evaluation.sharing import Share

_SECONDS_BETWEEN_LINES = 30.0


class Watch:
    """The first line of a benchmark, then progress: on a terminal in place, elsewhere a line now and then."""

    def __init__(self, share: Share, first_line: Callable[[RunReport, Share], str]) -> None:
        self._share, self._first_line = share, first_line
        self._began = self._last = 0.0

    def __call__(self, report: RunReport) -> None:
        now = time.monotonic()
        if not self._began:
            self._began = self._last = now
            note(self._first_line(report, self._share))
            return
        terminal = sys.stderr.isatty()
        if now - self._last < (0.5 if terminal else _SECONDS_BETWEEN_LINES) and report.done < report.mine:
            return
        self._last = now
        rate = (report.done - report.answered_before) / max(1e-9, now - self._began)
        left = (report.mine - report.done) / rate if rate else 0.0
        name = report.task.benchmark.name
        line = say(
            f"{name}: {report.done}/{report.mine} rows, {rate:.1f}/s, about {left:.0f} s left",
            f"{name}：{report.done}/{report.mine} 行，{rate:.1f} 行/秒，大约还需 {left:.0f} 秒",
        )
        if not terminal:
            note(line)
        else:
            end = "\n" if report.done == report.mine else ""
            print(f"\r\033[K{line}", end=end, file=sys.stderr, flush=True)


def share_of_processes() -> Share:
    """This process's share of the rows, from torchrun's variables. Raises E717."""
    from xverse_v.evaluation.sharing import share_of

    return share_of()


def own_device(device: str | None, share: Share) -> str | None:
    """Each process of a machine its own GPU, where none was named."""
    if device is not None or share.world == 1:
        return device
    import torch

    return f"cuda:{share.local % torch.cuda.device_count()}" if torch.cuda.is_available() else None


@contextmanager
def resumable() -> Iterator[None]:
    """Says on Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        note(say("Stopped; the same command goes on from here.", "已停止；再次运行同样的命令即可继续。"))
        raise
