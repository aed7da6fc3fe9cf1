"""Image files: a path becomes the bytes of a regular file inside the allowed folder, or an error of its own code.

What crosses: a path as somebody wrote it in, at most `max_bytes` bytes out. Links are followed first and judged after;
devices, pipes and sockets are never opened. This file refuses to know what the bytes mean.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ..errors import XverseError, error
from .limits import MediaLimits, shown

_LONGEST_NAME = 32_767  # characters of a path; no system allows more, and a whole file may come in place of its name


def file_bytes(source: str | Path, limits: MediaLimits, root: Path | None) -> bytes:
    """The content of a file, at most one byte more than the limit. Raises E500 to E505 and E511.

    `root`: when given, only files inside this folder are read, after every symbolic link is followed; a relative path
    starts there.
    """
    name = shown(source)
    if len(str(source)) > _LONGEST_NAME:
        raise _too_long(name)
    path = _checked_path(source, root)
    # Never wait for a writer (a named pipe) and, since links are resolved by now, never follow one that appeared since.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags)
    except OSError as reason:
        raise _path_error(name, reason) from reason
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        _refuse_unless_regular(status, name)
        if status.st_size > limits.max_bytes:
            raise error("E511", name=name, bytes=status.st_size, limit=limits.max_bytes)
        try:
            return file.read(limits.max_bytes + 1)
        except OSError as reason:
            raise _path_error(name, reason) from reason


def _checked_path(source: str | Path, root: Path | None) -> Path:
    """The real path, links resolved. Raises E504 for a name no file can have and E505 for a file outside `root`."""
    if str(source) in ("", "."):
        raise error("E504", name=shown(source), reason="the name is empty", reason_zh="名称为空")
    if "\0" in str(source):
        raise error("E504", name=shown(source), reason="it holds a NUL character", reason_zh="其中有 NUL 字符")
    try:
        path = (root / source if root else Path(source)).resolve()
        if root and not path.is_relative_to(root.resolve()):
            raise error("E505", name=shown(source), root=shown(root))
        # Looked at before it is opened, because opening a device can already do something.
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):  # still a link once resolved: a loop, which Python 3.13 no longer raises
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        _refuse_unless_regular(status, shown(source))
    except UnicodeEncodeError as reason:  # half a surrogate pair, as broken JSON may hold
        raise error(
            "E504", name=shown(source), reason="it is not valid Unicode", reason_zh="其中有无效的 Unicode"
        ) from reason
    except (OSError, RuntimeError) as reason:  # RuntimeError: a loop of links, before Python 3.13
        raise _path_error(shown(source), reason) from reason
    return path


def _refuse_unless_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise error("E501", name=name)
    if not stat.S_ISREG(status.st_mode):
        raise error("E502", name=name, kind=_file_kind(status.st_mode))


def _path_error(name: str, reason: OSError | RuntimeError) -> XverseError:
    number = getattr(reason, "errno", None) or errno.ELOOP
    if number in (errno.ENOENT, errno.ENOTDIR):
        return error("E500", name=name)
    if number == errno.ENAMETOOLONG:
        return _too_long(name)
    return error("E503", name=name, reason=os.strerror(number))


def _too_long(name: str) -> XverseError:
    return error("E504", name=name, reason="it is too long for a file name", reason_zh="超出文件名的长度上限")


def _file_kind(mode: int) -> str:
    names = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "char device", stat.S_IFBLK: "block device"}
    return names.get(stat.S_IFMT(mode), "special file")
