"""Hostile files, bodies and connections: each gets a 4xx soon, and leaves no memory or request behind."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.hostile import hostile_files
from tests.support.serving import RunningServer, edit_files, mask_bytes, photo_bytes, serving, wait_until

FAST_SAMPLE = 40


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http_client:
        yield http_client


def memory_mb() -> float:
    """Resident memory of this process, where the server runs too, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def check_refused(client: httpx.Client, name: str, data: bytes) -> tuple[float, int]:
    """Send a file as image and as mask, and check the refusals; returns the longest time in seconds, and the last status."""
    slowest, status = 0.0, 0
    for field in ("image", "mask"):
        files = {**edit_files(), field: ("a.png", data)}
        start = time.perf_counter()
        reply = client.post("/v1/images/edits", files=files, data={"prompt": "color: red", "num_inference_steps": "1"})
        slowest, status = max(slowest, time.perf_counter() - start), reply.status_code
        assert 400 <= status < 500, (name, field, status, reply.text[:300])
        assert reply.json()["error"].keys() == {"message", "type", "param", "code"}
        error = reply.json()["error"]
        # libjpeg fills a JPEG whose header claims more rows than the file has: it is another size than the other picture.
        is_other_size = "JPEG claims" in name and error["code"] == "mask_size"
        assert error["param"] == field or is_other_size or error["code"] == "image_too_slow", (name, reply.text)
    return slowest, status


def test_a_sample_of_hostile_files_is_refused(client: httpx.Client, server: RunningServer) -> None:
    for name, data in random.Random(0).sample(list(hostile_files()), FAST_SAMPLE):
        check_refused(client, name, data)
    assert server.context.memory.used_bytes == 0


@pytest.mark.slow
def test_every_hostile_file_is_refused_within_2_s_without_memory_growth(
    client: httpx.Client, server: RunningServer
) -> None:
    files = list(hostile_files())
    assert len(files) >= 400
    check_refused(client, *files[0])
    before, durations = memory_mb(), []
    for name, data in files:
        durations.append((check_refused(client, name, data)[0], name))
    print(f"{len(files)} files, slowest {max(durations)}, memory {memory_mb() - before:+.0f} MB")
    assert max(durations)[0] < 2.0
    assert memory_mb() - before < 256
    assert server.context.memory.used_bytes == 0


@pytest.mark.parametrize(
    ("file", "status", "code"),
    [
        (b"", 415, "unsupported_image_type"),
        (photo_bytes()[:-3000], 400, "image_truncated"),
    ],
)
def test_an_empty_and_a_truncated_file_have_their_own_codes(
    client: httpx.Client, file: bytes, status: int, code: str
) -> None:
    reply = client.post(
        "/v1/images/edits", files={**edit_files(), "image": ("a.png", file)}, data={"prompt": "color: red"}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def multipart(*parts: bytes, end: bytes = b"--x--\r\n") -> bytes:
    """A multipart body with the boundary `x`."""
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


def field(name: str, value: bytes, headers: bytes = b"") -> bytes:
    """A part of a multipart body: its headers and value."""
    return b'Content-Disposition: form-data; name="' + name.encode() + b'"\r\n' + headers + b"\r\n" + value


BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "only the end": (b"--x--\r\n", 400),
    "cut off": (multipart(field("prompt", b"a"), end=b""), 400),
    "junk before the boundary": (b"junk" * 1000 + multipart(field("prompt", b"a")), 400),
    "ten thousand parts": (multipart(*[field(f"f{number}", b"") for number in range(10_000)]), 400),
    "the same field twice": (multipart(field("prompt", b"a"), field("prompt", b"b")), 400),
    "no name": (multipart(b"Content-Disposition: form-data\r\n\r\na"), 400),
    "a long header": (multipart(field("prompt", b"a", b"X: " + b"y" * 100_000 + b"\r\n")), 400),
    "a long field": (multipart(field("prompt", b"a" * 100_000)), 413),
    "not UTF-8": (multipart(field("prompt", b"\xff\xfe")), 400),
    "a name that is not UTF-8": (multipart(b'Content-Disposition: form-data; name="\xff"\r\n\r\na'), 400),
    "unknown field": (multipart(field("prompt", b"a"), field("callback_url", b"http://x")), 400),
    "five files": (multipart(*[field('image"; filename="a', photo_bytes()) for _ in range(5)]), 400),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES.keys())
def test_a_malformed_form_is_refused(client: httpx.Client, body: bytes, status: int) -> None:
    reply = client.post("/v1/images/edits", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert reply.status_code == status, reply.text
    assert "error" in reply.json()


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "application/x-www-form-urlencoded"],
)
def test_a_body_of_another_type_is_refused(client: httpx.Client, kind: str) -> None:
    reply = client.post("/v1/images/edits", content=b"--x--", headers={"content-type": kind})
    assert reply.status_code in (400, 415)


URL = "data:image/png;base64," + base64.b64encode(photo_bytes()).decode()
MASK_URL = "data:image/png;base64," + base64.b64encode(mask_bytes()).decode()
JSON_BODIES: dict[str, object] = {
    "a list": [],
    "no images": {"prompt": "a", "mask": {"image_url": MASK_URL}},
    "a remote image": {
        "prompt": "a",
        "images": [{"image_url": "https://example.com/a.png"}],
        "mask": {"image_url": MASK_URL},
    },
    "a file": {"prompt": "a", "images": [{"image_url": "file:///etc/passwd"}], "mask": {"image_url": MASK_URL}},
    "a file id": {"prompt": "a", "images": [{"file_id": "file-1"}], "mask": {"image_url": MASK_URL}},
    "both keys": {"prompt": "a", "images": [{"file_id": "file-1", "image_url": URL}], "mask": {"image_url": MASK_URL}},
    "not base64": {
        "prompt": "a",
        "images": [{"image_url": "data:image/png;base64,!!!!"}],
        "mask": {"image_url": MASK_URL},
    },
    "unicode in base64": {
        "prompt": "a",
        "images": [{"image_url": "data:image/png;base64,äöü"}],
        "mask": {"image_url": MASK_URL},
    },
    "a number for a prompt": {"prompt": 3, "images": [{"image_url": URL}], "mask": {"image_url": MASK_URL}},
    "a flag for a number": {"prompt": "a", "n": True, "images": [{"image_url": URL}], "mask": {"image_url": MASK_URL}},
    "a huge number": {"prompt": "a", "seed": 10**30, "images": [{"image_url": URL}], "mask": {"image_url": MASK_URL}},
    "half a surrogate": {"prompt": "\ud800", "images": [{"image_url": URL}], "mask": {"image_url": MASK_URL}},
    "an object for a prompt": {"prompt": {"a": 1}, "images": [{"image_url": URL}], "mask": {"image_url": MASK_URL}},
}


@pytest.mark.parametrize("body", JSON_BODIES.values(), ids=JSON_BODIES.keys())
def test_json_that_is_not_a_valid_request_is_refused(client: httpx.Client, body: object) -> None:
    reply = client.post("/v1/images/edits", content=json.dumps(body), headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert "passwd" not in reply.text


def test_json_with_data_urls_gives_the_same_image_as_multipart(client: httpx.Client) -> None:
    body = {
        "prompt": "color: red",
        "seed": 3,
        "num_inference_steps": 2,
        "images": [{"image_url": URL}],
        "mask": {"image_url": MASK_URL},
    }
    from_json = client.post("/v1/images/edits", json=body).json()
    from_form = client.post(
        "/v1/images/edits", files=edit_files(), data={"prompt": "color: red", "seed": "3", "num_inference_steps": "2"}
    ).json()
    assert from_json["data"] == from_form["data"]


def test_a_body_that_is_too_big_is_refused_by_its_length_and_by_its_bytes(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(80):
            yield bytes(1 << 20)

    for content in (bytes(65 << 20), pieces()):
        reply = client.post("/v1/images/edits", content=content, headers={"content-type": "application/json"})
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "body_too_large"


def test_tiny_chunks_are_refused_while_other_requests_are_served(client: httpx.Client, server: RunningServer) -> None:
    delays: list[float] = []
    stop = threading.Event()

    def poll_health() -> None:
        with httpx.Client(base_url=server.url) as health_client:
            while not stop.is_set():
                start = time.perf_counter()
                assert health_client.get("/health/live").status_code == 200
                delays.append(time.perf_counter() - start)
                time.sleep(0.01)

    thread = threading.Thread(target=poll_health)
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"POST /v1/images/edits HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            raw.settimeout(10)
            start = time.perf_counter()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                raw.sendall(b"1\r\nx\r\n" * 1_000_000)
            with contextlib.suppress(ConnectionResetError):
                assert b"400" in raw.recv(100)
            assert time.perf_counter() - start < 5
        wait_until(lambda: len(delays) >= 3)
    finally:
        stop.set()
        thread.join()
    assert sorted(delays)[len(delays) // 2] < 0.3
    wait_until(lambda: server.context.num_open == 0)
    assert server.context.memory.used_bytes == 0


@pytest.fixture(scope="module")
def strict(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server with short timeouts and 2 MiB of memory for pictures."""
    with serving(tiny_bundle, header_timeout_s=0.3, min_body_rate=1e9, write_timeout_s=1, memory_mb=2) as running:
        yield running


def test_a_client_that_sends_no_headers_is_disconnected(strict: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", strict.port)) as raw:
        raw.sendall(b"POST /v1/ima")
        raw.settimeout(5)
        start = time.perf_counter()
        assert raw.recv(100) == b""
        assert time.perf_counter() - start < 3


def test_a_used_up_memory_budget_is_a_503_that_may_be_retried(strict: RunningServer) -> None:
    others = [strict.context.memory.open(f"client {number}") for number in range(2)]
    for other in others:
        other.take(1000 << 10)
    reply = httpx.post(f"{strict.url}/v1/images/edits", files=edit_files(), data={"prompt": "color: red"})
    for other in others:
        other.release()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "memory")
    assert reply.headers["x-should-retry"] == "true"
    assert strict.context.memory.used_bytes == 0
    fits = httpx.post(
        f"{strict.url}/v1/images/edits",
        files=edit_files(),
        data={"prompt": "color: red", "num_inference_steps": "1"},
    )
    assert fits.status_code == 200


def test_headers_of_a_megabyte_end_the_connection(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(5)
        try:
            raw.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * (1 << 20))
            assert b" 400 " in raw.recv(1000) or raw.recv(1000) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
    wait_until(lambda: server.context.num_open == 0)
