"""Who may ask: API keys, the tenant a key stands for, and the Host header.

What crosses: a request's headers in, a tenant's id or an error out. Keys come from a file or the environment, never
from an argument list, which every user of a machine can read; only their SHA-256 is kept. This file knows no route:
its caller asks for every request but those for /health.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from xverse_v.errors import XverseError, error

from .settings import LOOPBACK_NAMES, ServeSettings, is_loopback

log = logging.getLogger(__name__)

KEYS_VARIABLE = "XVERSE_V_API_KEYS"
ANONYMOUS = "anonymous"
SHORTEST_KEY = 16
# RFC 6750's b64token, so that every key can stand in an Authorization header as it is.
_KEY = re.compile(rf"[A-Za-z0-9._~+/=-]{{{SHORTEST_KEY},512}}")


class Keys:
    """The keys of a server. None at all means that everyone is the one anonymous tenant."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple({_digest(key) for key in keys})

    def __bool__(self) -> bool:
        return bool(self._digests)

    def tenant(self, authorization: str | None) -> str:
        """The tenant of an ``Authorization`` header: a digest of its key, so a log or a cache key never holds the key.

        Raises E601. All keys are always compared, each in constant time.
        """
        if not self._digests:
            return ANONYMOUS
        scheme, _, given = (authorization or "").partition(" ")
        digest = _digest(given.strip())
        known = [hmac.compare_digest(digest, key) for key in self._digests]
        if scheme.lower() != "bearer" or not any(known):
            raise error("E601", given=_what_was_given(authorization, scheme), given_zh=_given_zh(authorization, scheme))
        return digest.hex()


def read_keys(path: Path | None, environment: Mapping[str, str] = os.environ) -> Keys:
    """Keys of a file (one a line; empty lines and ``#`` comments skipped) and of the environment (between commas).

    Raises E604 for a file that cannot be read or holds none, and for a key that is too short or cannot be sent.
    """
    keys = [key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    for place, key in enumerate(keys, start=1):
        _check_key(key, KEYS_VARIABLE, place)
    if path is None:
        return Keys(keys)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as reason:
        raise _bad_keys(path, f"it cannot be read ({reason})", f"无法读取（{reason}）") from reason
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("%s can be read by other users of this machine; chmod 600 keeps it to yourself", path)
    found = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    found = [(number, line) for number, line in found if line and not line.startswith("#")]
    if not found:
        raise _bad_keys(path, "it holds 0 keys", "其中有 0 个密钥")
    for number, key in found:
        _check_key(key, str(path), number)
    return Keys([*keys, *(key for _, key in found)])


def refuse_open_door(settings: ServeSettings, keys: Keys) -> None:
    """Raises E603 for a server that others can reach and that asks for no key."""
    if not settings.on_loopback and not keys:
        raise error("E603", host=settings.host, port=settings.port, variable=KEYS_VARIABLE)


def check_host(header: str | None, settings: ServeSettings) -> None:
    """Raises E602 for a Host header that names another machine.

    A page on the web can point its own name at 127.0.0.1 and so have a browser send requests here; they carry that
    name. On loopback only its own names and ``allowed_hosts`` pass. Elsewhere a key is needed, which such a page does
    not have, so names are checked only if some were given.
    """
    if "*" in settings.allowed_hosts or (not settings.on_loopback and not settings.allowed_hosts):
        return
    name = _without_port(header or "")
    allowed = {host.lower() for host in settings.allowed_hosts} | LOOPBACK_NAMES
    if name not in allowed and not is_loopback(name):
        raise error("E602", host=repr((header or "")[:100]), allowed=", ".join(sorted(allowed)))


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _check_key(key: str, place: str, number: int) -> None:
    if _KEY.fullmatch(key) is None:
        raise _bad_keys(
            place,
            f"key {number} has {len(key)} characters; expected {SHORTEST_KEY} to 512 of A-Z a-z 0-9 . _ ~ + / = -",
            f"第 {number} 个密钥有 {len(key)} 个字符；应为 {SHORTEST_KEY} 到 512 个 A-Z a-z 0-9 . _ ~ + / = -",
        )


def _bad_keys(place: object, problem: str, problem_zh: str) -> XverseError:
    return error("E604", place=place, problem=problem, problem_zh=problem_zh)


def _what_was_given(authorization: str | None, scheme: str) -> str:
    if not authorization:
        return "no Authorization header"
    return "an unknown key" if scheme.lower() == "bearer" else "an Authorization header that is not Bearer"


def _given_zh(authorization: str | None, scheme: str) -> str:
    if not authorization:
        return "没有 Authorization 头"
    return "一个未知的密钥" if scheme.lower() == "bearer" else "不是 Bearer 形式的 Authorization 头"
