"""A certificate authority for one test run: keys of elliptic curve P-256 and X.509 certificates, made here.

No key is kept in the repository and no other program is needed. The arithmetic is the textbook's, slow and with no
defence against anybody who watches; it protects nothing.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
A = P - 3
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None

EC_KEY, P256, ECDSA_SHA256 = "1.2.840.10045.2.1", "1.2.840.10045.3.1.7", "1.2.840.10045.4.3.2"
DAY = 86_400


def added(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] ** 2 + A) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(number: int, point: Point) -> Point:
    total: Point = None
    while number:
        if number & 1:
            total = added(total, point)
        point, number = added(point, point), number >> 1
    return total


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(length)]) + length + body


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def integer(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def identifier(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = bytes([40 * first + second])
    for number in rest:
        pieces = [number & 127]
        while number := number >> 7:
            pieces.append(number & 127 | 128)
        body += bytes(reversed(pieces))
    return der(0x06, body)


def bits(body: bytes) -> bytes:
    return der(0x03, b"\0", body)


def name(text: str) -> bytes:
    return sequence(der(0x31, sequence(identifier("2.5.4.3"), der(0x0C, text.encode()))))


def moment(seconds: float) -> bytes:
    return der(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def extension(dotted: str, value: bytes, critical: bool = False) -> bytes:
    return sequence(identifier(dotted), *([der(0x01, b"\xff")] if critical else []), der(0x04, value))


def pem(kind: str, body: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(body).decode()}-----END {kind}-----\n"


@dataclass(frozen=True)
class Key:
    secret: int

    @classmethod
    def made(cls) -> Key:
        return cls(secrets.randbelow(N - 1) + 1)

    @property
    def public(self) -> bytes:
        point = times(self.secret, G)
        assert point is not None
        return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha1(self.public).digest()

    def signature(self, message: bytes) -> bytes:
        digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
        number = secrets.randbelow(N - 1) + 1
        point = times(number, G)
        assert point is not None
        r = point[0] % N
        return sequence(integer(r), integer(pow(number, -1, N) * (digest + r * self.secret) % N))

    def pem(self) -> str:
        secret, curve = der(0x04, self.secret.to_bytes(32, "big")), der(0xA0, identifier(P256))
        return pem("EC PRIVATE KEY", sequence(integer(1), secret, curve, der(0xA1, bits(self.public))))


def certificate(subject: str, key: Key, issuer: str, issuer_key: Key, *, ca: bool = False, ends: float = DAY) -> str:
    """Signed by `issuer_key`; a host's certificate is for the one name `subject`; `ends` is seconds from now."""
    extensions = [
        extension("2.5.29.19", sequence(der(0x01, b"\xff")) if ca else sequence(), critical=True),
        extension("2.5.29.15", der(0x03, b"\x02\x04" if ca else b"\x07\x80"), critical=True),
        extension("2.5.29.14", der(0x04, key.fingerprint)),
        extension("2.5.29.35", sequence(der(0x80, issuer_key.fingerprint))),
    ]
    if not ca:
        extensions.append(extension("2.5.29.17", sequence(der(0x82, subject.encode()))))
    algorithm = sequence(identifier(ECDSA_SHA256))
    now = time.time()
    content = sequence(
        der(0xA0, integer(2)),
        integer(secrets.randbits(64)),
        algorithm,
        name(issuer),
        sequence(moment(now - 3 * DAY), moment(now + ends)),
        name(subject),
        sequence(sequence(identifier(EC_KEY), identifier(P256)), bits(key.public)),
        der(0xA3, sequence(*extensions)),
    )
    return pem("CERTIFICATE", sequence(content, algorithm, bits(issuer_key.signature(content))))
