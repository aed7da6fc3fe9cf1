"""A file that one process at a time appends lines to, and that is whole after any crash.

What crosses: a path in; whole lines and bytes to append. The lock dies with its process. A line that was appended
outlives the process at once, and a failing machine once it is on the disk; all that a crash can leave is a torn last
line. The file refuses to know what a line says: its callers
read it, decide whether the file may be mended, and give failures their codes, so what is raised here are `OSError`s.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 2**16  # bytes read at a time while looking for the end of the last whole line


class NotRegular(OSError):
    """What is to be appended to is a device, a pipe or the like, which cannot be mended."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file")


class AppendedFile:
    """Lines of one writer. `open` it, read `lines` as far as wanted, `mend` it, then `append`; `close` at the end.

    ``sync_seconds``: how old a line may be before it is on the disk; 0 waits for the disk with every line.
    """

    def __init__(self, path: Path, sync_seconds: float = 0.0) -> None:
        self.path = path
        self.sync_seconds = sync_seconds
        self._handle = -1
        self._unsynced_since: float | None = None

    def open(self) -> None:
        """Make the file if need be and lock it; nothing in it changes.

        Raises `BlockingIOError` if another process writes it, `NotRegular`, or any other `OSError`.
        """
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(self._handle).st_mode):
                raise NotRegular
            _lock(self._handle, fcntl.LOCK_EX)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock, with everything that was appended on the disk."""
        if self._handle >= 0:
            try:
                if self._unsynced_since is not None:
                    os.fsync(self._handle)
            finally:
                os.close(self._handle)
                self._handle, self._unsynced_since = -1, None

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number from 1 and bytes of each whole line, its break included; a torn last one is left out."""
        with open(self._handle, "rb", closefd=False) as file:
            file.seek(0)
            yield from ((number, raw) for number, raw in enumerate(file, start=1) if raw.endswith(b"\n"))

    def mend(self) -> int:
        """Cut off a torn last line. Returns its bytes."""
        size = whole = os.fstat(self._handle).st_size
        with open(self._handle, "rb", closefd=False) as file:
            found = False
            while whole > 0 and not found:
                start = max(0, whole - _BLOCK)
                file.seek(start)
                at = file.read(whole - start).rfind(b"\n")
                found = at >= 0
                whole = start + at + 1  # without a line break in the block: its start
        if whole < size:
            os.ftruncate(self._handle, whole)
            os.fsync(self._handle)
        return size - whole

    def append(self, data: bytes) -> None:
        """Write whole lines; wait until they are on the disk if one not there yet is ``sync_seconds`` old."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]
        now = time.monotonic()
        self._unsynced_since = now if self._unsynced_since is None else self._unsynced_since
        if now - self._unsynced_since >= self.sync_seconds:
            os.fsync(self._handle)
            self._unsynced_since = None


def is_written(path: Path) -> bool:
    """Whether another process holds the file open for appending right now."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            _lock(file.fileno(), fcntl.LOCK_SH)
        except BlockingIOError:
            return True
    return False


def _lock(handle: int, kind: int) -> None:
    """Without waiting. Raises `BlockingIOError` if somebody else holds it: some systems say "permission denied"."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as reason:
        if reason.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(reason.errno, reason.strerror) from reason
        raise
