"""Decoding in processes: same pictures as in this process, limits of time and memory, fairness, and ends of all kinds."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from alterbute.errors import InputError, OverloadedError
from alterbute.images.files.decode import Levels, decode, decode_levels
from alterbute.images.files.header import read_header
from alterbute.images.photo import Photo
from alterbute.serve.decoding.decoder_pool import DecoderPool
from alterbute.serve.decoding.decoder_process import DecoderProcess
from alterbute.serve.decoding.job_limits import PictureSize, cpu_limit_s, memory_limit_bytes
from alterbute.serve.http.error_response import ApiError
from PIL import Image, PngImagePlugin

from tests.support.pictures import noise, to_bytes
from tests.support.serving import RunningServer, edit_files, mask_bytes, photo_bytes, serving, wait_until

# The real program with a decoder that does what the picture's first byte says.
HOSTILE_DECODER = """
    import os, signal, sys, time
    import numpy as np
    from alterbute.images.photo import Photo
    from alterbute.serve.decoding import decoder_child

    real_decode = decoder_child.decode

    def decode(data, param):
        if data[:1] == b"B":  # burns
            while True:
                pass
        if data[:1] == b"M":  # takes memory
            np.ones(1 << 28, np.uint8)
        if data[:1] == b"C":  # crashes
            os.kill(os.getpid(), signal.SIGSEGV)
        if data[:1] == b"K":  # is ended by the system
            os.kill(os.getpid(), signal.SIGKILL)
        if data[:1] == b"S":  # sleeps
            time.sleep(600)
        if data[:1] == b"L":  # gives another picture than the header states
            return Photo(pixels=np.zeros((640, 480, 3), np.uint8))
        return real_decode(data, param)

    def decode_levels(data, param):
        decode(data, param)
        return real_decode_levels(data, param)

    real_decode_levels, decoder_child.decode_levels = decoder_child.decode_levels, decode_levels
    decoder_child.decode = decode
    decoder_child.main()
"""
COMMAND = (sys.executable, "-P", "-B", "-c", textwrap.dedent(HOSTILE_DECODER))
SMALL = PictureSize(width=64, height=48, bits=8)


def size_of(data: bytes) -> PictureSize:
    """The size of a picture by its header."""
    header = read_header(data)
    assert header is not None
    return PictureSize(width=header.width, height=header.height, bits=header.bits, format=header.format)


def memory_kb(pid: int) -> int:
    """Resident memory of a process in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def count_open_files() -> int:
    """Descriptors that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def list_children() -> list[int]:
    """Processes that this process has started, those included that have ended and were not waited for."""
    children = []
    for task in Path("/proc/self/task").iterdir():
        children += [int(pid) for pid in (task / "children").read_text().split()]
    return children


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
        processes.append(DecoderProcess(1.0, COMMAND))
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
    icc = __import__("PIL.ImageCms", fromlist=["ImageCms"])
    profile = icc.ImageCmsProfile(icc.createProfile("sRGB")).tobytes()
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
            call()
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
    [(b"B", 422, "image_too_slow"), (b"C", 422, "image_undecodable"), (b"M", 422, "image_too_complex"), (b"L", 422, "image_undecodable")],
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
        hostile().decode_levels(b"K", "mask", SMALL)


def test_cpu_time_and_memory_are_given_by_the_size() -> None:
    def size(megapixels: float, bits: int = 8) -> PictureSize:
        return PictureSize(width=round(megapixels * 1000), height=1000, bits=bits)

    assert cpu_limit_s(size(12), 5.0) == 5.0
    assert cpu_limit_s(size(48), 5.0) == 20.0
    assert cpu_limit_s(size(0.01), 5.0) == 1.0
    assert memory_limit_bytes(size(0.01), 1000) < 64 << 20
    assert memory_limit_bytes(size(10, 16), 0) > memory_limit_bytes(size(10), 0) + 100e6


def run_in_loop(work: Callable[[DecoderPool], Any], size: int) -> None:
    """Run a coroutine function with a pool of hostile decoders."""

    async def run() -> None:
        pool = DecoderPool(size, 5.0, COMMAND)
        try:
            await asyncio.wait_for(work(pool), 30)
        finally:
            pool.close()
            while pool.num_busy:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def decode_on(pool: DecoderPool, data: bytes, owner: str, seconds: float = 60) -> asyncio.Task[Photo]:
    """Start to decode a photo of a client."""
    work = pool.run(
        lambda process: process.decode_photo(data, "photo", SMALL), owner=owner, deadline_s=time.monotonic() + seconds
    )
    return asyncio.ensure_future(work)


def test_one_client_never_holds_all_places() -> None:
    async def work(pool: DecoderPool) -> None:
        hogs = [decode_on(pool, b"S", "hog") for _ in range(5)]
        await asyncio.sleep(0)
        # Two of the three places are taken; those of others are served meanwhile.
        for _ in range(3):
            assert (await decode_on(pool, photo_bytes(), "other")).bits == 8
        assert pool.num_busy == 2
        assert not any(hog.done() for hog in hogs)
        for hog in hogs:
            hog.cancel()
        await asyncio.wait(hogs)
        while pool.num_busy:
            await asyncio.sleep(0.01)

    run_in_loop(work, 3)


def test_places_are_given_in_the_order_of_arrival() -> None:
    async def work(pool: DecoderPool) -> None:
        order: list[int] = []
        first = decode_on(pool, b"S", "a")
        await asyncio.sleep(0)
        tasks = [decode_on(pool, photo_bytes(), "ab"[number % 2]) for number in range(4)]
        for number, task in enumerate(tasks):
            task.add_done_callback(lambda _, number=number: order.append(number))
        await asyncio.sleep(0)
        late = decode_on(pool, photo_bytes(), "c", 0.01)
        with pytest.raises(OverloadedError) as caught:
            await late
        assert caught.value.code == "decoders_busy"
        first.cancel()
        await asyncio.wait(tasks)
        assert order == [0, 1, 2, 3]

    run_in_loop(work, 1)


def test_a_deadline_ends_the_process_and_blames_the_server() -> None:
    async def work(pool: DecoderPool) -> None:
        pool.warm_up()
        with pytest.raises(OverloadedError) as caught:
            await decode_on(pool, b"S", "a", 0.2)
        assert caught.value.code == "decoders_busy"
        assert (await decode_on(pool, photo_bytes(), "a")).bits == 8

    run_in_loop(work, 1)


def test_closing_ends_work_and_waiting() -> None:
    async def work(pool: DecoderPool) -> None:
        tasks = [decode_on(pool, b"S", "a") for _ in range(3)]
        await asyncio.sleep(0.05)
        pool.close()
        for task in [*tasks, decode_on(pool, photo_bytes(), "a")]:
            with pytest.raises(OverloadedError) as caught:
                await task
            assert caught.value.code == "draining"

    run_in_loop(work, 2)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server with two hostile decoders, and a rate of 0.1 megapixel-steps at once."""
    with serving(tiny_bundle, decoders=2, rate=1e-6, rate_burst=0.1) as running:
        pool = DecoderPool(2, 5.0, COMMAND)
        running.context.decoders.close()
        running.context.decoders = pool
        yield running


@pytest.fixture
def full_rate(server: RunningServer) -> None:
    """Fills the bucket of the server's only key."""
    server.context.rate.give_back("anonymous", 1.0)


# A PNG whose decoder sleeps: the hostile decoder looks at the first byte, which is not the header's.
def post(server: RunningServer, **files: bytes) -> httpx.Response:
    """Send an edit of one step with other files."""
    sent = {**edit_files(), **{name: ("a.png", data) for name, data in files.items()}}
    return httpx.post(
        f"{server.url}/v1/images/edits", files=sent, data={"prompt": "color: red", "num_inference_steps": "1"}, timeout=30
    )
