"""Images from the web: a good host is fetched from exactly as allowed, every trick has its refusal and its code."""

from __future__ import annotations

import gzip
import io
import os
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from media_host import PUBLIC, PUBLIC_V6, Behaviour, Host, Names, Visit, head
from PIL import Image

from xverse_v.errors import XverseError
from xverse_v.media import MediaLimits, RemotePolicy, open_image, read_source
from xverse_v.media.transport import system_resolver, tcp_connect

PIXELS = np.random.RandomState(0).randint(0, 256, (30, 40, 3), dtype=np.uint8)
LIMITS = MediaLimits(max_bytes=100_000)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


PNG = png()
IMAGE = "https://images.example.com/a.png"


def to(place: str, status: str = "302 Found") -> Behaviour:
    return lambda visit: visit.answer(b"", f"Location: {place}", status=status)


def sends(*pieces: bytes) -> Behaviour:
    def behave(visit: Visit) -> None:
        for piece in pieces:
            visit.send(piece)

    return behave


def endless(first: bytes, piece: bytes, pause: float = 0.0) -> Behaviour:
    def behave(visit: Visit) -> None:
        going = visit.send(first)
        while going:
            going = visit.send(piece)
            visit.over.wait(pause)

    return behave


GOOD: dict[str, Behaviour] = {
    "plain": lambda visit: visit.answer(PNG, "Content-Type: image/png"),
    "of a type that is none": lambda visit: visit.answer(PNG, "Content-Type: text/html"),
    "without a length": sends(head(), PNG),
    "chunked": sends(head("Transfer-Encoding: chunked"), b"%x\r\n%s\r\n0\r\n\r\n" % (len(PNG), PNG)),
    "redirected": to("/here.png"),
    "redirected to another host": to("https://other.example.com/here.png", "301 Moved Permanently"),
    "redirected without a scheme": to("//other.example.com/here.png", "307 Temporary Redirect"),
    "redirected three times": to("/once.png", "308 Permanent Redirect"),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_allowed_image_is_fetched(name: str, host: Host, policy: RemotePolicy, watchdog: None) -> None:
    host.pages |= {"/a.png": GOOD[name], "/here.png": GOOD["plain"], "/once.png": to("/twice.png")}
    host.pages["/twice.png"] = to("here.png", "303 See Other")
    image = open_image(IMAGE, remote=policy, limits=LIMITS, paths=False)
    assert (np.asarray(image) == PIXELS).all() and image.format == "PNG"


def test_the_request_says_what_it_must_and_nothing_of_us(
    host: Host, policy: RemotePolicy, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://user:password@127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine a.images.example.com login me password secret\n")  # type: ignore[operator]
    host.pages["/%E5%9B%BE/a%20b.png"] = GOOD["plain"]
    address = "HTTPS://A.Images.Example.com:8443/图/a%20b.png?x=1&y=%2F#part"
    assert read_source(address, remote=policy) == (PNG, address)
    lines = host.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /%E5%9B%BE/a%20b.png?x=1&y=%2F HTTP/1.1"
    assert lines[1] == "Host: a.images.example.com:8443"
    names_of_headers = [line.split(":")[0] for line in lines[2:] if line]
    assert names_of_headers == ["User-Agent", "Accept", "Accept-Encoding", "Connection"]
    assert host.connected == [(PUBLIC, 8443)]


def test_a_name_is_looked_up_once_and_that_address_is_connected_to(
    host: Host, names: Names, policy: RemotePolicy
) -> None:
    host.pages["/a.png"] = GOOD["plain"]
    names.tell("images.example.com", [PUBLIC_V6], ["127.0.0.1"])  # the second answer is never asked for
    assert open_image(IMAGE, remote=policy).size == (40, 30)
    assert names.asked == ["images.example.com"] and host.connected == [(PUBLIC_V6, 443)]


def test_the_next_address_is_tried_when_one_does_not_answer(host: Host, names: Names, policy: RemotePolicy) -> None:
    host.pages["/a.png"] = GOOD["plain"]
    names.tell("images.example.com", [PUBLIC_V6, PUBLIC, PUBLIC])

    def only_v4(address: str, port: int, seconds: float) -> socket.socket:
        if ":" in address:
            raise ConnectionRefusedError(111, "Connection refused")
        return host.connect(address, port, seconds)

    assert open_image(IMAGE, remote=replace(policy, connector=only_v4)).size == (40, 30)
    assert host.connected == [(PUBLIC, 443)]


HOSTILE_ANSWERS: dict[str, tuple[Behaviour, str, str]] = {
    # name: what the host does, code, a word that must stand in the English text
    "redirect to loopback": (to("https://127.0.0.1/a.png"), "E531", "127.0.0.1"),
    "redirect to a name of loopback": (to("https://inside.example.com/"), "E535", "127.0.0.1"),
    "redirect to the cloud's own service": (to("https://169.254.169.254/latest/meta-data"), "E531", "169.254"),
    "redirect to a host that is not listed": (to("https://example.org/a.png"), "E532", "example.org"),
    "redirect to another port": (to("https://images.example.com:22/a.png"), "E533", "22"),
    "redirect down to http": (to("http://images.example.com/a.png"), "E528", "http://images"),
    "redirect to a file": (to("file:///etc/passwd"), "E528", "file:"),
    "redirect to a data URL": (to("data:image/png;base64,AAAA"), "E528", "data:"),
    "redirect with a user": (to("https://images.example.com@other.example.com/"), "E530", "…@other"),
    "redirect with a line break": (to("https://images.example.com/\ta"), "E529", "percent"),
    "redirect in a circle": (to("/a.png"), "E537", "3 time"),
    "redirect to nowhere": (lambda visit: visit.answer(b"", status="302 Found"), "E539", "0 Location"),
    "redirect to two places": (
        lambda visit: visit.answer(b"", "Location: /b", "Location: /c", status="302 Found"),
        "E539",
        "2 Location",
    ),
    "redirect to no URL": (to("https://[::1"), "E539", "ValueError"),
    "not found": (lambda visit: visit.answer(b"gone", status="404 Not Found"), "E538", "404"),
    "partial content": (lambda visit: visit.answer(PNG, status="206 Partial Content"), "E538", "206"),
    "an error page with status 200": (lambda visit: visit.answer(b"<html>no</html>"), "E520", "HTML"),
    "an SVG that says it is a PNG": (lambda visit: visit.answer(b"<svg/>", "Content-Type: image/png"), "E520", "SVG"),
    "nothing": (lambda visit: visit.answer(b""), "E510", "0 bytes"),
    "a length beyond the limit": (sends(head("Content-Length: 50000000000"), b"x"), "E511", "50,000,000,000"),
    "a body without end": (endless(head(), bytes(10_000)), "E511", "100,000"),
    "chunks without end": (
        endless(head("Transfer-Encoding: chunked"), b"2710\r\n" + bytes(10_000) + b"\r\n"),
        "E511",
        "100,000",
    ),
    "a chunk of endless size": (sends(head("Transfer-Encoding: chunked"), b"f" * 300 + b"\r\nabc"), "E539", "E539"),
    "chunks that are none": (sends(head("Transfer-Encoding: chunked"), b"zz\r\n"), "E539", "IncompleteRead"),
    "a shorter body than stated": (
        sends(head(f"Content-Length: {len(PNG) + 1}"), PNG),
        "E539",
        f"{len(PNG)} of {len(PNG) + 1}",
    ),
    "a longer body than stated": (sends(head(f"Content-Length: {len(PNG) - 99}"), PNG), "E517", "too early"),
    "half a body": (sends(head(), PNG[: len(PNG) // 2]), "E517", "PNG"),
    "compressed": (
        lambda visit: visit.answer(gzip.compress(PNG), "Content-Encoding: gzip"),
        "E539",
        "Content-Encoding gzip",
    ),
    "compressed twice": (lambda visit: visit.answer(b"", "Content-Encoding: br, gzip"), "E539", "br"),
    "no HTTP": (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "E539", "BadStatusLine"),
    "silence, then gone": (sends(), "E539", "RemoteDisconnected"),
    "a thousand headers": (
        sends(head(*(f"X-{number}: y" for number in range(1000))), PNG),
        "E539",
        "more than 100 headers",
    ),
    "a header without end": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000), "E539", "LineTooLong"),
    "100 Continue without end": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), "E542", "0.4 s"),
    "headers, a byte at a time": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.02), "E542", "0.4 s"),
    "a body, a byte at a time": (endless(head("Content-Length: 9000"), b"y", 0.02), "E542", "0.4 s"),
    "waiting for ever": (lambda visit: visit.over.wait(5) and None, "E542", "0.4 s"),
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
def test_a_hostile_answer_is_refused_with_its_code(
    name: str, host: Host, names: Names, policy: RemotePolicy, watchdog: None
) -> None:
    behaviour, code, word = HOSTILE_ANSWERS[name]
    names.tell("inside.example.com", ["127.0.0.1"])
    host.pages["/a.png"] = behaviour
    seconds = 0.4 if code == "E542" else 10.0
    with pytest.raises(XverseError) as refused:
        open_image(IMAGE, remote=replace(policy, seconds=seconds), limits=LIMITS)
    assert refused.value.code == code
    assert word in refused.value.text("en")
    assert len(host.requests) == (4 if code == "E537" else 1)


def test_a_name_that_changes_between_redirects_is_looked_at_again(
    host: Host, names: Names, policy: RemotePolicy
) -> None:
    names.tell("images.example.com", [PUBLIC], ["127.0.0.1"])
    host.pages["/a.png"] = to("/a.png?again")
    with pytest.raises(XverseError) as refused:
        open_image(IMAGE, remote=policy)
    assert refused.value.code == "E535" and host.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize("host_name", ["self-signed.example.com", "expired.example.com", "misnamed.example.com"])
def test_a_certificate_that_does_not_fit_is_refused(host_name: str, host: Host, policy: RemotePolicy) -> None:
    host.pages["/a.png"] = GOOD["plain"]
    with pytest.raises(XverseError) as refused:
        open_image(f"https://{host_name}/a.png", remote=policy)
    assert refused.value.code == "E536" and not host.requests


def test_the_authority_of_the_tests_is_not_trusted_by_default(host: Host, policy: RemotePolicy) -> None:
    host.pages["/a.png"] = GOOD["plain"]
    with pytest.raises(XverseError) as refused:
        open_image(IMAGE, remote=replace(policy, ca_file=None))
    assert refused.value.code == "E536" and not host.requests


def test_names_without_address_and_hosts_that_do_not_answer(names: Names, policy: RemotePolicy) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    def refused_connection(address: str, port: int, seconds: float) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    names.tell("images.example.com", [])
    for changed, word in (
        (replace(policy, resolver=unknown), "not known"),
        (policy, "no address"),
        (replace(policy, resolver=Names(), connector=refused_connection), "Connection refused"),
    ):
        with pytest.raises(XverseError, match=word) as refused:
            open_image(IMAGE, remote=changed)
        assert refused.value.code == "E534"


def test_a_name_service_and_a_handshake_that_never_end_meet_the_deadline(policy: RemotePolicy, watchdog: None) -> None:
    over = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        over.wait(10)
        return [PUBLIC]

    with socket.create_server(("127.0.0.1", 0)) as silent:

        def to_silent(address: str, port: int, seconds: float) -> socket.socket:
            return socket.create_connection(silent.getsockname())

        for changed in (replace(policy, resolver=slow), replace(policy, connector=to_silent)):
            with pytest.raises(XverseError) as refused:
                open_image(IMAGE, remote=replace(changed, seconds=0.2))
            assert refused.value.code == "E542"
    over.set()


def test_redirects_can_be_off(host: Host, policy: RemotePolicy) -> None:
    host.pages |= {"/a.png": to("/b.png"), "/b.png": GOOD["plain"]}
    with pytest.raises(XverseError) as refused:
        open_image(IMAGE, remote=replace(policy, max_redirects=0))
    assert refused.value.code == "E537" and len(host.requests) == 1


def test_without_a_policy_no_url_is_fetched() -> None:
    with pytest.raises(XverseError) as refused:
        open_image(IMAGE)
    assert refused.value.code == "E506"


def test_the_defaults_ask_the_operating_system() -> None:
    """The real resolver and connector, at the one name that every machine knows."""
    assert set(system_resolver("localhost", 443)) <= {"127.0.0.1", "::1"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with tcp_connect("127.0.0.1", port, 5.0) as connection:
            assert connection.getpeername() == ("127.0.0.1", port)
    with pytest.raises(OSError):
        tcp_connect("localhost", 443, 1.0)  # a name is not an address
    policy = RemotePolicy(hosts=("localhost",))
    with pytest.raises(XverseError) as refused:
        open_image("https://localhost/a.png", remote=policy)
    assert refused.value.code == "E535"


def test_many_threads_fetch_at_the_same_time(host: Host, policy: RemotePolicy) -> None:
    def slowly(visit: Visit) -> None:
        time.sleep(0.05)
        visit.answer(PNG)

    host.pages["/a.png"] = slowly
    sizes: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(open_image(IMAGE, remote=replace(policy, seconds=15.0)).size))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(40, 30)] * 12
