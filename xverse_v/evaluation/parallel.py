"""Work on a stream of items with a few threads: lazily, each result as soon as it is there, failures as values.

What crosses: a function and items in, (item, result or error) out. Knows nothing of what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from xverse_v.errors import XverseError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[tuple[Item, Result | XverseError]]:
    """Each item with what ``work`` made of it, or the `XverseError` it raised, in the order they finish.

    At most ``threads`` items are taken from the iterable ahead of what was yielded, so a stream of images stays a
    stream. Any other exception is raised here. Closing the iterator lets started work end and starts no more.
    """
    waiting = iter(items)
    running: dict[Future[Result], Item] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="endpoint")
    try:
        while True:
            while len(running) < threads:
                try:
                    item = next(waiting)
                except StopIteration:
                    break
                running[pool.submit(work, item)] = item
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                item = running.pop(future)
                problem = future.exception()
                if problem is None:
                    yield item, future.result()
                elif isinstance(problem, XverseError):
                    yield item, problem
                else:
                    raise problem
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
