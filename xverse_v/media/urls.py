"""Web addresses of images: one strict reading of a URL, before anything is looked up, and rules that name hosts.

A URL that two programs read differently is how a check is passed and another host asked. So there is one reading here,
of few forms: `https://name(:port)(/path)(?query)`. What a browser would mend (backslashes, white space, numbers for
hosts, a user's name in front) is refused. No network here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from ..errors import XverseError, error
from .limits import shown

_HTTPS_PORT = 443
_MOST_CHARACTERS = 2_048
_PARTS = re.compile(r"https://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST_RULE = re.compile(rf"(\*\.)?({_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NEVER_PLAIN = ' \\"<>^`{|}'
_ALL_OF_ASCII = "".join(map(chr, range(33, 127)))


@dataclass(frozen=True)
class WebAddress:
    """Where an image is asked for. `target` is path and query as they go into the request, ASCII only."""

    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        port = "" if self.port == _HTTPS_PORT else f":{self.port}"
        return f"https://{self.host}{port}{self.target}"


def parse_url(text: str) -> WebAddress:
    """Read an https URL. Letters beyond ASCII are allowed in the path, which is then percent-encoded.

    Raises E528 (not https), E529 (not of the one form), E530 (a user or password in it), E531 (a number for a host).
    """
    _check_characters(text)
    if text[:6].lower() != "https:":
        raise error("E528", url=_without_user(text))
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise _malformed(text, "there is no // before its host", "主机前缺少 //")
    authority = parts[1]
    if "@" in authority:
        raise error("E530", url=_without_user(text))
    host, colon, port = authority.lower().partition(":")
    if host.startswith("[") or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise error("E531", url=shown(text))
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise _malformed(text, "it names no host, or one that is not plain ASCII", "没有主机名，或主机名不是纯 ASCII")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise _malformed(text, "its port is no number from 1 to 65535", "端口不是 1 到 65535 的数字")
    target = parts[2] if parts[2].startswith("/") else "/" + parts[2]
    try:
        target = quote(target, safe=_ALL_OF_ASCII)
    except UnicodeEncodeError:
        raise _malformed(text, "it is not valid Unicode", "其中有无效的 Unicode") from None
    return WebAddress(host, int(port) if colon else _HTTPS_PORT, target)


def joined_url(where: WebAddress, place: str) -> str:
    """The URL that a redirect's `place`, absolute or relative, means at `where`. Raises E529, and `ValueError`."""
    _check_characters(place)  # before joining, which drops line breaks without a word
    return urljoin(where.url, place)


def _check_characters(text: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        reason = f"it has {len(text):,} characters, {_MOST_CHARACTERS:,} at most"
        raise _malformed(text, reason, f"共 {len(text):,} 个字符，最多 {_MOST_CHARACTERS:,} 个")
    if any(not c.isprintable() or c in _NEVER_PLAIN for c in text):
        raise _malformed(text, "a character in it has to be percent-encoded", "其中有必须进行百分号编码的字符")


def _malformed(text: str, reason: str, reason_zh: str) -> XverseError:
    return error("E529", url=_without_user(text), reason=reason, reason_zh=reason_zh)


def _without_user(text: str) -> str:
    """The URL for an error, without the password it may hold."""
    return shown(re.sub(r"//[^/?#]*@", "//…@", text))


@dataclass(frozen=True)
class HostRule:
    """`images.example.com` is that host, `*.example.com` all below it (not itself); `:8443` means that port only."""

    name: str
    below: bool
    port: int

    @classmethod
    def parse(cls, text: str) -> HostRule:
        """Raises E543 for what is no such rule; a lone `*` is none."""
        match = _HOST_RULE.fullmatch(text.lower()) if isinstance(text, str) else None
        if match is None or _NUMBER.fullmatch(match[2].rpartition(".")[2]) or not 0 < int(match[3] or 443) < 65_536:
            raise error("E543", rule=shown(text))
        return cls(match[2], match[1] is not None, int(match[3] or _HTTPS_PORT))

    def names(self, host: str) -> bool:
        return host.endswith("." + self.name) if self.below else host == self.name
