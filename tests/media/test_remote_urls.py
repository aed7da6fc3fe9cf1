"""Which URLs, hosts and addresses the door asks at all: tricks of notation and of the name service are refused."""

from __future__ import annotations

import pytest
from media_host import PUBLIC, PUBLIC_V6, Host, Names

from xverse_v.errors import XverseError
from xverse_v.media import RemotePolicy, open_image
from xverse_v.media.addresses import is_public

IMAGE = "https://images.example.com/a.png"

HOSTILE_URLS: dict[str, tuple[str, str]] = {
    "http": ("http://images.example.com/a.png", "E528"),
    "https without slashes": ("https:images.example.com/a.png", "E529"),
    "another host": ("https://example.org/a.png", "E532"),
    "the listed host itself, where those below are listed": ("https://example.com/a.png", "E532"),
    "a host that ends alike": ("https://evilexample.com/a.png", "E532"),
    "the listed host in front": ("https://images.example.com.evil.org/a.png", "E532"),
    "localhost": ("https://localhost/a.png", "E532"),
    "a port": ("https://images.example.com:8443/a.png", "E533"),
    "port 22": ("https://images.example.com:22/", "E533"),
    "a port that is none": ("https://images.example.com:99999/", "E529"),
    "a port of letters": ("https://images.example.com:https/", "E529"),
    "an empty port": ("https://images.example.com:/", "E529"),
    "a user": ("https://me@images.example.com/a.png", "E530"),
    "a host as the user": ("https://images.example.com@evil.org/a.png", "E530"),
    "user and password": ("https://me:secret@images.example.com/", "E530"),
    "a backslash": ("https://evil.org\\@images.example.com/a.png", "E529"),
    "an encoded @": ("https://images.example.com%40evil.org/a.png", "E529"),
    "a fragment before the @": ("https://evil.org#@images.example.com/", "E532"),
    "a question before the @": ("https://evil.org?@images.example.com/", "E532"),
    "loopback": ("https://127.0.0.1/a.png", "E531"),
    "loopback, short": ("https://127.1/a.png", "E531"),
    "loopback, decimal": ("https://2130706433/a.png", "E531"),
    "loopback, octal": ("https://0177.0.0.01/a.png", "E531"),
    "loopback, hexadecimal": ("https://0x7f000001/a.png", "E531"),
    "loopback, with a dot behind": ("https://127.0.0.1./a.png", "E531"),
    "zero": ("https://0/a.png", "E531"),
    "the cloud's own service": ("https://169.254.169.254/latest/meta-data/", "E531"),
    "a public number": (f"https://{PUBLIC}/a.png", "E531"),
    "IPv6 loopback": ("https://[::1]/a.png", "E531"),
    "IPv4 in IPv6": ("https://[::ffff:127.0.0.1]/a.png", "E531"),
    "IPv6 with a scope": ("https://[fe80::1%25eth0]/a.png", "E531"),
    "full-width digits": ("https://１２７.０.０.１/a.png", "E529"),
    "full-width dots": ("https://images。example。com/a.png", "E529"),
    "a line break": ("https://images.example.com/\r\nHost: evil.org", "E529"),
    "a line break at the end": ("https://images.example.com/\n", "E529"),
    "a blank in front of the host": ("https:// images.example.com/", "E529"),
    "NUL": ("https://images.example.com\0.evil.org/", "E529"),
    "no host": ("https:///a.png", "E529"),
    "a dot behind": ("https://images.example.com./a.png", "E529"),
    "half a letter": ("https://images.example.com/\ud800", "E529"),
    "too long": ("https://images.example.com/" + "a" * 5_000_000, "E529"),
    "a label too long": (f"https://{'a' * 64}.example.com/", "E529"),
}


@pytest.mark.parametrize("name", HOSTILE_URLS)
def test_a_hostile_url_is_refused_before_anything_is_looked_up(
    name: str, host: Host, names: Names, policy: RemotePolicy, watchdog: None
) -> None:
    url, code = HOSTILE_URLS[name]
    with pytest.raises(XverseError) as refused:
        open_image(url, remote=policy)
    assert refused.value.code == code
    assert not names.asked and not host.connected
    text = refused.value.text("en")
    assert "secret" not in text and "\r" not in text and len(text) < 1_000


HOSTILE_NAMES: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.1",),
    "one public, one private": (PUBLIC, "10.0.0.8"),
    "private first": ("192.168.1.1", PUBLIC),
    "IPv4 in IPv6": ("::ffff:127.0.0.1",),
    "IPv4 in IPv6, mixed": (PUBLIC, "::ffff:10.0.0.1"),
    "IPv6 loopback": ("::1",),
    "unique local": ("fd00:ec2::254",),
    "link-local with a scope": ("fe80::1%eth0",),
    "public with a scope": (PUBLIC_V6 + "%1",),
    "6to4 of a private one": ("2002:0a00:0001::1",),
    "Teredo": ("2001:0:4136:e378:8000:63bf:3fff:fdd2",),
    "NAT64 of a private one": ("64:ff9b::a00:1",),
    "carrier-grade NAT": ("100.100.100.200",),
    "the cloud's own service": ("169.254.169.254",),
    "multicast": ("224.0.0.251",),
    "everybody": ("255.255.255.255",),
    "nobody": ("0.0.0.0",),
    "not an address": ("localhost",),
}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_leads_inside_is_refused(
    name: str, host: Host, names: Names, policy: RemotePolicy, watchdog: None
) -> None:
    names.tell("images.example.com", HOSTILE_NAMES[name])
    with pytest.raises(XverseError) as refused:
        open_image(IMAGE, remote=policy)
    assert refused.value.code == "E535" and not host.connected


NO_RULES = [
    (),
    "a.com",
    ("*",),
    ("*.",),
    ("*.*.com",),
    ("127.0.0.1",),
    ("10.0.0.1:443",),
    ("https://a.com",),
    ("a.com/",),
]
NO_RULES += [("a b",), ("",), ("图.com",), ("a.com:0",), ("a.com:99999",), (7,)]


@pytest.mark.parametrize("hosts", NO_RULES)
def test_rules_that_name_no_hosts_are_refused(hosts: tuple[str, ...]) -> None:
    with pytest.raises(XverseError) as refused:
        RemotePolicy(hosts=hosts)
    assert refused.value.code == "E543"


@pytest.mark.parametrize(
    "text", [PUBLIC, PUBLIC_V6, "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2001:4860:4860::8888", "2a00::1"]
)
def test_addresses_of_the_public_internet(text: str) -> None:
    assert is_public(text)


@pytest.mark.parametrize(
    "text",
    [
        "64:ff9b:1::808:808",
        "::8.8.8.8",
        "2001:db8::1",
        "ff02::1",
        "fec0::1",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "168.63.129.16",
        "192.88.99.1",
        "2002:808:808::1",
        "2001::1",
        "100::1",
        "",
        "8.8.8",
        "08.8.8.8",
        "8.8.8.8/32",
    ],
)
def test_addresses_of_no_public_host(text: str) -> None:
    assert not is_public(text)
