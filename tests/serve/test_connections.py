"""Connections: how many there may be, and which of them end after a response."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from alterbute.serve.http.connections import ConnectionTable, address_group, client_name

from tests.support.serving import RunningServer, edit_files, mask_bytes, photo_bytes, serving, wait_until

GET = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /v1/images/edits HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connect(server: RunningServer, source: str = "127.0.0.1") -> socket.socket:
    """A connection to a server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(source, 0))


def read_reply(raw: socket.socket) -> bytes:
    """The next response, which has a Content-Length; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = raw.recv(1)
        if not more:
            return data
        data += more
    head = data.lower()
    left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while left and (more := raw.recv(left)):
        data, left = data + more, left - len(more)
    return data


def is_closed(raw: socket.socket) -> bool:
    """Whether a further request on a connection gets nothing but its end."""
    with contextlib.suppress(ConnectionError):
        raw.sendall(GET)
        return read_reply(raw) == b""
    return True


TWO_LENGTHS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"Connection: keep-alive\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("rest", TWO_LENGTHS)
def test_a_request_with_two_lengths_ends_its_connection(server: RunningServer, rest: bytes) -> None:
    for start in (POST, GET[:-2], b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
        with connect(server) as raw:
            raw.sendall(start + rest + GET)
            reply = read_reply(raw)
            assert b"connection: close" in reply.lower()
            assert start != POST or b" 400 " in reply
            assert is_closed(raw)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60\r\n", b" 404 "),
        (POST + b"Content-Length: 99999999999\r\n", b" 413 "),
        (POST + b"Content-Length: 60\r\nContent-Encoding: gzip\r\n", b" 415 "),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", b" 415 "),
    ],
)
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_response_before_the_body_ends_the_connection(
    server: RunningServer, start: bytes, status: bytes, expect: bytes
) -> None:
    with connect(server) as raw:
        raw.sendall(start + expect + b"\r\n")
        reply = read_reply(raw)
        assert status in reply
        assert b"connection: close" in reply.lower()
        assert b"100 Continue" not in reply
        assert is_closed(raw)


def test_a_response_after_the_body_keeps_the_connection(server: RunningServer) -> None:
    with connect(server) as raw:
        for _ in range(3):
            raw.sendall(POST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            assert b" 400 " in read_reply(raw)
        raw.sendall(
            POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + GET
        )
        assert b" 400 " in read_reply(raw)
        assert b" 200 " in read_reply(raw)


def test_a_client_can_read_the_refusal_of_a_body_that_it_still_sends(server: RunningServer) -> None:
    with connect(server) as raw:
        raw.sendall(POST + b"Content-Length: 999999999\r\n\r\n")
        for _ in range(64):
            raw.sendall(bytes(1 << 17))
        assert b"body_too_large" in read_reply(raw)
        assert raw.recv(1) == b""


def flood(raw: socket.socket, piece: bytes, limit: int) -> int:
    """Send a piece again and again until the server closes, or takes no more for 0.5 s; returns how many bytes it took."""
    raw.settimeout(0.5)
    size = 0
    with contextlib.suppress(OSError):
        while size < limit:
            size += raw.send(piece)
    return size


CHUNK_FLOODS = {
    "one byte each": b"1\r\nx\r\n" * 1000,
    "twenty bytes each": b"14\r\n" + b"x" * 20 + b"\r\n",
    "long extensions": b"14;a=" + b"b" * 30_000 + b"\r\n" + b"x" * 20 + b"\r\n",
    "an endless extension": b"14;a=" + b"b" * 100_000,
    "trailers": b"0\r\n" + b"A: b\r\n" * 20_000,
    "no chunk": b"zz\r\n" * 1000,
}


@pytest.mark.parametrize("piece", CHUNK_FLOODS.values(), ids=CHUNK_FLOODS.keys())
def test_a_body_of_little_but_chunk_headers_is_refused(server: RunningServer, piece: bytes) -> None:
    with connect(server) as raw:
        raw.sendall(POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        wait_until(lambda: server.context.num_open == 1)
        time.sleep(0.05)  # the body is waited for
        flood(raw, (piece * (1 + (1 << 16) // len(piece)))[: 1 << 20], 4 << 20)
        raw.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(12).startswith(b"HTTP/1.1 400")
        # At once, and not when the client closes.
        wait_until(lambda: server.context.num_open == 0 and server.context.memory.used_bytes == 0, 5)


def test_a_body_in_chunks_of_a_hundred_bytes_is_taken(server: RunningServer) -> None:
    def chunks() -> Iterator[bytes]:
        data = b'{"prompt":"' + b"a" * 50_000 + b'"}'
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    url, headers = f"{server.url}/v1/images/edits", {"content-type": "application/json"}
    assert httpx.post(url, content=chunks(), headers=headers).json()["error"]["param"] == "image"


def test_requests_behind_a_running_one_are_not_read_without_limit(server: RunningServer) -> None:
    request = httpx.Request("POST", f"{server.url}/v1/images/edits", files=edit_files(), data={"prompt": "color: red"})
    body = request.read()
    head = b"".join(b"%s: %s\r\n" % (name, value) for name, value in request.headers.raw)
    server.hooks.step_s = 0.2
    try:
        with connect(server) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            raw.sendall(b"POST /v1/images/edits HTTP/1.1\r\n" + head + b"\r\n" + body)
            wait_until(lambda: server.context.service.num_running > 0)
            assert flood(raw, GET * 1000, 64 << 20) < 32 << 20
    finally:
        server.hooks.step_s = 0.0
    wait_until(lambda: server.context.num_open == 0)


@pytest.fixture(scope="module")
def narrow(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server for four connections, two of them of one address."""
    with serving(tiny_bundle, max_connections=4, max_connections_per_address=2) as running:
        yield running


def answers(server: RunningServer) -> bool:
    """Whether a server takes another connection of this address."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/health/live").status_code == 200
    return False


def test_one_address_has_its_share_of_connections(narrow: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            raw = stack.enter_context(connect(narrow))
            raw.sendall(GET)
            assert b" 200 " in read_reply(raw)
        for _ in range(3):
            with connect(narrow) as refused:
                reply = read_reply(refused)
                assert reply.startswith(b"HTTP/1.1 503 ")
                assert b"too_many_connections" in reply
        others = [stack.enter_context(connect(narrow, "127.0.0.2")) for _ in range(2)]
        others[1].sendall(GET.replace(b"/v1/models", b"/health/live"))
        assert b" 200 " in read_reply(others[1])
        with connect(narrow, "127.0.0.3") as refused:
            assert b" 503 " in read_reply(refused)

    wait_until(lambda: answers(narrow))
    rejected = narrow.context.metrics.rejected.labels("connections")
    assert rejected._value.get() >= 4


def test_a_table_counts_what_is_open() -> None:
    table = ConnectionTable(3, 2)
    assert [table.add(address) for address in "aaabc"] == [True, True, False, True, False]
    table.remove("a")
    assert table.add("c")
    for address in "abc":
        table.remove(address)
    assert table.total == 0


def test_a_client_is_its_key_or_its_network() -> None:
    assert address_group("10.0.0.1") == address_group("::ffff:10.0.0.1") == "10.0.0.1"
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff:2%eth0") != address_group("2001:db8:0:1::1")
    assert address_group(None) == address_group("") == "local"
    assert client_name({"client": ("10.0.0.1", 5)}) == "address 10.0.0.1"
    assert client_name({"client": None}) == "address local"
    assert client_name({"client": ("10.0.0.1", 5), "alterbute.key": "mine"}) == "key mine"


def test_a_client_that_does_not_read_holds_its_memory_and_then_loses_its_connection(tiny_bundle: Path) -> None:
    with serving(tiny_bundle, write_timeout_s=0.5, header_timeout_s=0.5, max_connections_per_address=1) as running:
        photo = photo_bytes(size=(1400, 1400))
        files = {"image": ("a.png", photo), "mask": ("b.png", mask_bytes((1400, 1400)))}
        fields = {"prompt": "color: red", "num_inference_steps": "1"}
        request = httpx.Request("POST", f"{running.url}/v1/images/edits", files=files, data=fields)
        body = request.read()
        head = b"".join(b"%s: %s\r\n" % (name, value) for name, value in request.headers.raw)
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            raw.connect(("127.0.0.1", running.port))
            raw.sendall(b"POST /v1/images/edits HTTP/1.1\r\n" + head + b"\r\n" + body)
            assert raw.recv(12) == b"HTTP/1.1 200"
            assert running.context.memory.used_bytes > len(photo)
            wait_until(lambda: running.context.num_open == 0 and running.context.memory.used_bytes == 0)
            # The connection ends with the rest of its response unread, so there is room for another.
            wait_until(lambda: answers(running))
