"""Decoding in processes: same pictures as in this process, limits of time and memory, and what a server pays and leaves."""

from __future__ import annotations

import os
import signal
import socket
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from alterbute.errors import InputError, OverloadedError
from alterbute.images.files.decode import decode, decode_levels
from alterbute.images.files.header import read_header
from alterbute.serve.decoding.decoder_pool import DecoderPool
from alterbute.serve.decoding.decoder_process import DecoderProcess
from alterbute.serve.decoding.job_limits import PictureSize, cpu_limit_s, memory_limit_bytes
from alterbute.serve.http.error_response import ApiError
from PIL import Image, ImageCms, PngImagePlugin

from tests.support.decoders import HOSTILE, QUICK, count_open_files, list_children
from tests.support.pictures import noise, to_bytes
from tests.support.process import running_process
from tests.support.serving import RunningServer, edit_files, mask_bytes, photo_bytes, serving, wait_until

# The real program, with a decoder that does what a file's last bytes say.
SMALL = PictureSize(width=64, height=48, bits=8)


def size_of(data: bytes) -> PictureSize:
    """The size of a picture by its header."""
    header = read_header(data)
    assert header is not None
    return PictureSize(width=header.width, height=header.height, bits=header.bits, format=header.format)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    process = DecoderProcess(5.0)
    yield process
    process.close()


@pytest.fixture
def hostile() -> Iterator[Callable[[], DecoderProcess]]:
    """Makes processes of the hostile decoder, with 0.2 s of CPU time for a small picture."""
    processes: list[DecoderProcess] = []

    def make() -> DecoderProcess:
        processes.append(DecoderProcess(1.0, HOSTILE))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


def picture_files() -> dict[str, bytes]:
    """A file of each format and depth, with all kinds of metadata."""
    rgb, rgba = Image.fromarray(noise(48, 64)), Image.fromarray(noise(48, 64, 4))
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "someone"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a caption")
    texts.add_itxt("Description", "Ünïcode \N{SNOWMAN}")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "turned JPEG": to_bytes(rgb, "JPEG", exif=exif, icc_profile=profile, dpi=(72, 72), xmp=b"<x:xmpmeta/>"),
        "grey JPEG": to_bytes(rgb.convert("L"), "JPEG", progressive=True),
        "PNG with texts": to_bytes(rgba, pnginfo=texts, dpi=(300, 300)),
        "PNG of 16 bits": to_bytes(Image.fromarray(noise(48, 64)[:, :, 0].astype(np.uint16) * 257)),
        "PNG with a palette": to_bytes(rgb.quantize(8)),
        "WebP": to_bytes(rgba, "WEBP", lossless=True),
        "AVIF": to_bytes(rgb, "AVIF"),
        "TIFF": to_bytes(rgb, "TIFF", compression="tiff_lzw"),
        "BMP": to_bytes(rgb, "BMP"),
        "GIF": to_bytes(rgb.quantize(8), "GIF"),
    }


def check_equal(actual: Any, expected: Any) -> None:
    """Compare two photos or two masks, field by field."""
    assert type(actual) is type(expected)
    for field in fields(expected):
        one, other = getattr(actual, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype, field.name
            np.testing.assert_array_equal(one, other, field.name)
        else:
            assert one == other, field.name


@pytest.mark.parametrize("name", picture_files())
def test_a_process_gives_the_same_picture_as_a_thread(decoder: DecoderProcess, name: str) -> None:
    data = picture_files()[name]
    photo = decoder.decode_photo(data, "photo", size_of(data))
    check_equal(photo, decode(data, "photo"))
    assert not photo.pixels.flags.writeable
    check_equal(decoder.decode_photo(data, "reference", size_of(data)), decode(data, "reference"))
    check_equal(decoder.decode_levels(data, "mask", size_of(data)), decode_levels(data, "mask"))


@pytest.mark.parametrize("data", [photo_bytes()[:-3000], to_bytes(Image.new("CMYK", (64, 48)), "JPEG"), b"no picture"])
def test_an_error_of_a_file_is_the_same_as_in_a_thread(decoder: DecoderProcess, data: bytes) -> None:
    faults = []
    for call in (lambda: decoder.decode_photo(data, "photo", SMALL), lambda: decode(data, "photo")):
        with pytest.raises(InputError) as caught:
            call()  # type: ignore[no-untyped-call]
        fault = caught.value
        faults.append((fault.seen, fault.expected, fault.fix, fault.param, fault.code))
    assert faults[0] == faults[1]
    assert decoder.is_usable


def test_a_process_has_no_key_and_no_socket_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTERBUTE_SERVE_API_KEY", "secret")
    process = DecoderProcess(5.0)
    process.start()
    assert process._popen is not None
    folder = Path(f"/proc/{process._popen.pid}")
    assert b"secret" not in (folder / "environ").read_bytes()
    targets = {os.readlink(link).split(":")[0] for link in (folder / "fd").iterdir()}
    assert targets == {"pipe", "/dev/null"}
    process.close()


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        (b"!B", 422, "image_too_slow"),
        (b"!C", 422, "image_undecodable"),
        (b"!M", 422, "image_too_complex"),
        (b"!L", 422, "image_undecodable"),
    ],
)
def test_a_picture_that_breaks_its_decoder_is_refused(
    hostile: Callable[[], DecoderProcess], order: bytes, status: int, code: str
) -> None:
    process = hostile()
    with pytest.raises(ApiError) as caught:
        process.decode_photo(order, "photo", SMALL)
    assert (caught.value.status, caught.value.code, caught.value.param) == (status, code, "image")
    assert not process.is_usable


def test_a_process_that_the_system_ended_is_the_servers_fault(hostile: Callable[[], DecoderProcess]) -> None:
    with pytest.raises(OverloadedError):
        hostile().decode_levels(b"!K", "mask", SMALL)


def test_cpu_time_and_memory_are_given_by_the_size() -> None:
    def size(megapixels: float, bits: int = 8) -> PictureSize:
        return PictureSize(width=round(megapixels * 1000), height=1000, bits=bits)

    assert cpu_limit_s(size(12), 5.0) == 5.0
    assert cpu_limit_s(size(48), 5.0) == 20.0
    assert cpu_limit_s(size(0.01), 5.0) == 1.0
    assert memory_limit_bytes(size(0.01), 1000) < 64 << 20
    assert memory_limit_bytes(size(10, 16), 0) > memory_limit_bytes(size(10), 0) + 100e6


BURST = 0.1


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server with two hostile decoders, whose only key may use 0.1 megapixel-steps at once and no more."""
    with serving(tiny_bundle, decoders=2, rate=1e-9, rate_burst=BURST) as running:
        running.context.decoders.close()
        running.context.decoders = DecoderPool(2, 1.0, HOSTILE)
        yield running


@pytest.fixture
def send(server: RunningServer) -> Callable[..., httpx.Response]:
    """Sends an edit with other files or fields; the bucket is full at first."""
    server.context.rate.give_back("anonymous", BURST)

    def post(fields: dict[str, str] | None = None, seconds: float = 30.0, **files: bytes) -> httpx.Response:
        sent = {**edit_files(), **{name: ("a.png", data) for name, data in files.items()}}
        form = {"prompt": "color: red", "num_inference_steps": "1", **(fields or {})}
        return httpx.post(f"{server.url}/v1/images/edits", files=sent, data=form, timeout=seconds)

    return post


def open_edit(url: str, image: bytes) -> socket.socket:
    """A connection on which an edit of this image was sent, of one step."""
    files, form = {**edit_files(), "image": ("a.png", image)}, {"prompt": "a", "num_inference_steps": "1"}
    request = httpx.Request("POST", url + "/v1/images/edits", files=files, data=form)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    connection = socket.create_connection((request.url.host, request.url.port or 0))
    connection.settimeout(30)
    connection.sendall("\r\n".join(["POST /v1/images/edits HTTP/1.1", *lines, "", ""]).encode() + request.read())
    return connection


def test_a_server_survives_pictures_that_break_its_decoder(send: Callable[..., httpx.Response]) -> None:
    for order, code, field in ((b"!C", "image_undecodable", "image"), (b"!B", "image_too_slow", "mask")):
        reply = send(**{field: edit_files()[field][1] + order})
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, code)
        assert reply.json()["error"]["param"] == field
        assert reply.headers["x-should-retry"] == "false"
    assert send().status_code == 200


def test_nothing_is_left_of_a_client_that_leaves(server: RunningServer, send: Callable[..., httpx.Response]) -> None:
    assert send().status_code == 200
    files, children = count_open_files(), len(list_children())
    for _ in range(2):
        with open_edit(server.url, photo_bytes() + b"!S"):
            wait_until(lambda: server.context.decoders.num_busy == 1)
        wait_until(lambda: server.context.decoders.num_busy == 0 and server.context.num_open == 0)
    assert server.context.memory.used_bytes == 0
    assert send().status_code == 200
    wait_until(lambda: len(list_children()) <= children and count_open_files() <= files)


def test_a_client_at_another_address_is_served_beside_two_hogs(
    server: RunningServer, send: Callable[..., httpx.Response]
) -> None:
    hogs = [open_edit(server.url, photo_bytes() + b"!S") for _ in range(2)]
    wait_until(lambda: server.context.num_open == 2 and server.context.decoders.num_busy == 1)
    form = {"prompt": "color: red", "num_inference_steps": "1"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=30) as other:
        assert other.post(f"{server.url}/v1/images/edits", files=edit_files(), data=form).status_code == 200
    # The client may have the whole reply before the server has counted its request as ended.
    wait_until(lambda: server.context.num_open == 2)
    assert server.context.decoders.num_busy == 1
    for hog in hogs:
        hog.close()
    wait_until(lambda: server.context.num_open == 0)


def test_pictures_that_are_refused_are_paid(send: Callable[..., httpx.Response]) -> None:
    # 0.09 megapixels and a small photo, at half a step: two fit into the bucket.
    mask = mask_bytes((300, 300))
    assert [send(mask=mask).status_code for _ in range(3)] == [422, 422, 429]


def test_a_dry_run_pays_for_decoding_only(send: Callable[..., httpx.Response]) -> None:
    # 20 steps of 48x64 pixels are 0.06 megapixel-steps, of which one fits into the bucket; decoding costs 0.003.
    steps = {"num_inference_steps": "20"}
    assert [send({**steps, "dry_run": "true"}).status_code for _ in range(5)] == [200] * 5
    assert [send(steps).status_code for _ in range(2)] == [200, 429]


def test_a_request_without_a_place_gets_its_price_back(
    server: RunningServer, send: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: object) -> None:
        raise OverloadedError("full", "room", "wait", retry_after_s=1, code="queue_full")

    steps = {"num_inference_steps": "20"}
    with monkeypatch.context() as patch:
        patch.setattr(type(server.context.service), "submit", lambda self, spec: refuse(spec))
        replies = [send(steps) for _ in range(3)]
    assert [reply.json()["error"]["code"] for reply in replies] == ["queue_full"] * 3
    assert send(steps).status_code == 200


def test_a_server_stops_while_decoders_are_busy(tiny_bundle: Path) -> None:
    script = f"""
        from alterbute.cli import main
        from alterbute.serve.decoding import decoder_pool

        decoder_pool.COMMAND = {QUICK!r}
        raise SystemExit(main())
    """
    flags = ("--drain-delay-s", "0", "--drain-timeout-s", "20", "--decoders", "3", str(tiny_bundle))
    with running_process(*flags, program=("-c", textwrap.dedent(script))) as process:
        connections = [open_edit(process.url, photo_bytes() + b"!S") for _ in range(3)]
        # One was started by the warm-up.
        wait_until(lambda: len(list_children(process.popen.pid)) >= 2, 20)
        children = list_children(process.popen.pid)
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("draining")
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(10) == 0
        for connection in connections:
            assert b" 503 " in connection.recv(100)
            connection.close()
    assert process.lines[-1]["message"] == "stopped"
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
