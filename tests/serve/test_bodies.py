"""Request bodies: what is limited before it is parsed, what JSON is taken, and how long a client may take to send it."""

from __future__ import annotations

import base64
import json
import random
import time
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from alterbute.errors import OverloadedError
from alterbute.serve.http import base64_text, json_text, multipart_body
from alterbute.serve.http.error_response import ApiError
from alterbute.serve.http.json_text import JsonLimits, LongText, read_json
from alterbute.serve.http.limits import MemoryBudget, Reservation
from alterbute.serve.http.parts_response import count_bytes, write_numbers
from alterbute.serve.http.request_body import BodyClock, split_body
from alterbute.serve.kserve.tensors import read_infer_request
from alterbute.serve.settings import ServerSettings

from tests.support.serving import RunningServer, edit_files, mask_bytes, photo_bytes

LIMITS = JsonLimits(text_bytes=4 << 20, values=10_000, containers=1000, advice="send less")
MIB = 1 << 20


def memory() -> Reservation:
    """A reservation in a budget that everything here fits."""
    return MemoryBudget(1 << 30).open()


def refusal(call: Any) -> tuple[int, str]:
    """Status and code of the ApiError that a call raises."""
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.status, caught.value.code


HUGE_JSON: dict[str, bytes] = {
    "lists": b'{"prompt":[' + b"[]," * 100_000 + b"[]]}",
    "few values, many lists": b"[" + b"[]," * 1500 + b"[]]",
    "deep": b"[" * 5000 + b"]" * 5000,
    "deep objects": b'{"a":' * 500 + b"1" + b"}" * 500,
    "numbers": b"[" + b"1," * (2 * MIB) + b"1]",
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(30_000)) + b"}",
    "spaces": b" " * (5 * MIB) + b"{}",
    "quotes": b'"' * MIB,
    "escaped quotes": b'["' + b'\\"' * MIB + b'"]',
    "a run of backslashes": b'["' + b"\\" * MIB + b'"]',
    "digits": b"9" * (5 * MIB),
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
}


@pytest.mark.parametrize("data", HUGE_JSON.values(), ids=HUGE_JSON.keys())
def test_json_over_a_limit_is_refused_before_it_is_parsed(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    budget = MemoryBudget(1 << 30)
    assert refusal(lambda: read_json(data, LIMITS, budget.open()))[0] in (400, 413)
    assert budget.used_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32-le"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":' + b"1" * 65 + b"}",
        b'{"a":0.' + b"1" * 65 + b"}",
        b'{"a":01}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":"\n"}',
        b'{"a":1}{}',
        b'{"a":"b',
        b'{"a":\\"b"}',
        b'{"' + b"a" * 70_000 + b'":1}',
    ],
)
def test_json_that_parsers_read_differently_is_refused(data: bytes) -> None:
    assert refusal(lambda: read_json(data, LIMITS, memory()))[0] == 400


def plain(value: Any) -> Any:
    """A value whose long strings are decoded."""
    if isinstance(value, LongText):
        return json.loads(b'"' + bytes(value.raw) + b'"')
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def test_json_with_long_strings_is_read_as_other_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_TEXT_BYTES", 12)
    draw = random.Random(0)

    def value(depth: int) -> Any:
        kind = draw.randrange(6 if depth else 4)
        if kind < 2:
            return "".join(draw.choices('a"\\/,{}[]:é\u2028😀N\t', k=draw.randrange(1, 30)))
        if kind == 2:
            return draw.choice([None, True, 1, -2.5, 1e300])
        if kind == 3:
            return draw.choice(["NaN", "null", '"', "\\"])
        inner = [value(depth - 1) for _ in range(draw.randrange(4))]
        return inner if kind == 4 else {f"k{number}": item for number, item in enumerate(inner)}

    num_long = 0
    for _ in range(300):
        expected = {"a": value(3), "b": value(3)}
        text = json.dumps(expected, ensure_ascii=draw.random() < 0.5).encode()
        parsed = read_json(text, LIMITS, memory())
        num_long += "LongText" in repr(parsed)
        assert plain(parsed) == expected
    assert num_long > 100


def test_base64_is_decoded_in_pieces_with_the_escapes_of_json_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    forms = {
        "/": ["/", "\\/", "\\u002F", "\\u002f"],
        "+": ["+", "\\u002B", "\\u002b"],
        "=": ["=", "\\u003D", "\\u003d"],
    }
    for _ in range(300):
        monkeypatch.setattr(base64_text, "_PIECE_BYTES", draw.randrange(6, 40))
        data = draw.randbytes(draw.randrange(80))
        text = base64.b64encode(data).decode()
        escaped = "".join(draw.choice(forms.get(char, [char])) for char in text)
        assert base64_text.decode_base64(memoryview(escaped.encode()), is_json=True) == data
        assert base64_text.decode_base64(memoryview(text.encode()), is_json=False) == data
    for wrong in (
        b"QUJD=",
        b"QQ==QQ==",
        b"QQ==QUJD" * 8,
        b"QUJ",
        b"QU\nJD",
        b"Q-_D",
        b"\\\\/A",
        b"QUJ\\",
        b"\\u0041UJD",
    ):
        for size in (6, 8, 100):
            monkeypatch.setattr(base64_text, "_PIECE_BYTES", size)
            with pytest.raises(ValueError, match=r"\w"):
                base64_text.decode_base64(memoryview(wrong), is_json=True)


def test_a_picture_that_php_or_net_escaped_gives_the_same_image(server: RunningServer) -> None:
    photo = photo_bytes(size=(160, 176))
    assert len(photo) > json_text.MAX_TEXT_BYTES
    mask = mask_bytes((160, 176))
    text = json.dumps(
        {
            "prompt": "color: red",
            "seed": 3,
            "num_inference_steps": 1,
            "images": [{"image_url": "data:image/png;base64," + base64.b64encode(photo).decode()}],
            "mask": {"image_url": "data:image/png;base64," + base64.b64encode(mask).decode()},
        }
    )
    bodies = [text, text.replace("/", "\\/"), text.replace("+", "\\u002B")]
    headers = {"content-type": "application/json"}
    replies = [httpx.post(f"{server.url}/v1/images/edits", content=body, headers=headers) for body in bodies]
    assert [reply.status_code for reply in replies] == [200, 200, 200], replies[0].text[:300]
    assert len({reply.json()["data"][0]["b64_json"] for reply in replies}) == 1


def form(*parts: bytes, boundary: bytes = b"x") -> bytes:
    """A multipart body of files."""
    head = b'Content-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return b"".join(b"--" + boundary + b"\r\n" + head + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


PART_PIECES = ["\r", "\n", "-", "\r\n--", "\r\n-", "y", "x"]


def test_a_form_is_split_alike_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(2)
    for _ in range(300):
        monkeypatch.setattr(multipart_body, "_PIECE_BYTES", draw.choice([1, 2, 3, 5, 8, 13, 1000]))
        texts = ["".join(draw.choices(PART_PIECES, k=draw.randrange(20))) for _ in range(2)]
        parts = [text.replace("\r\n--x", "\r\n--y").encode() for text in texts]
        files = multipart_body.split_multipart(form(*parts), "boundary=x", MIB)[1]
        assert files == [("image", part) for part in parts]


def test_a_form_that_is_slow_to_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_body, "_MAX_SECONDS", 0.0)
    for fill in (b"\r\n--xy", b"\r\n--x-y", b"\r\n--x\ry"):
        data = form(fill * (4 * MIB // len(fill)))
        call = lambda data=data: multipart_body.split_multipart(data, "boundary=x", 40 * MIB)  # noqa: E731
        assert refusal(call) == (400, "invalid_multipart")
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    assert refusal(lambda: multipart_body.split_multipart(form(bytes(MIB)), "boundary=x", 40 * MIB))[0] == 400


def drain(clock: BodyClock, now: list[float], pieces: Iterator[tuple[float, int]]) -> float:
    """Time at which a client that sends pieces (seconds later, bytes) is too slow."""
    for later_s, size in pieces:
        if clock.left_s() <= later_s:
            return now[0] + clock.left_s()
        now[0] += later_s
        clock.add(size)
    return now[0] + clock.left_s()


@pytest.mark.parametrize(
    ("pieces", "low", "high"),
    [
        ([], 10, 10),
        ([(0.1, 63 * MIB)], 10.1, 10.2),
        ([(0.1, 63 * MIB), *[(9.0, 1)] * 1000], 10, 11),
        ([(9.0, 1)] * 1000, 10, 11),
        ([(0.1, 63 * MIB), *[(1.0, 8192)] * 1000], 19, 21),
        ([(1.0, 16384)] * 1000, 300, 300),
        ([(1.0, 1 << 20)] * 20, 30, 30),
    ],
)
def test_neither_silence_nor_a_trickle_lasts(pieces: list[tuple[float, int]], low: float, high: float) -> None:
    now = [0.0]
    clock = BodyClock(rate=16384, silence_s=10, total_s=300, clock=lambda: now[0])
    assert low - 1e-6 <= drain(clock, now, iter(pieces)) <= high + 1e-6


@pytest.mark.parametrize(
    "path", ["/v1/images/edits", "/v2/models/{model}/infer", "/v2/models/{model}/versions/1/infer"]
)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x-unknown", "identity, gzip"])
def test_a_compressed_body_is_refused_with_the_cure(server: RunningServer, path: str, coding: str) -> None:
    url = server.url + path.format(model=server.context.model)
    reply = httpx.post(url, content=b"\x1f\x8b\x08\x00", headers={"content-encoding": coding})
    assert reply.status_code == 415
    assert "uncompressed" in reply.text


def test_a_client_has_at_most_its_share_of_the_memory() -> None:
    budget = MemoryBudget(1000, 0.5)
    first, second, other = budget.open("a"), budget.open("a"), budget.open("b")
    first.take(400)
    with pytest.raises(OverloadedError) as caught:
        second.take(200)
    assert caught.value.code == "memory_share"
    other.take(500)
    with pytest.raises(OverloadedError) as caught:
        budget.open("c").take(200)
    assert caught.value.code == "memory"
    first.release()
    second.take(500)
    assert refusal(lambda: second.take(1)) == (413, "memory_limit")
    second.release()
    other.release()
    assert budget.used_bytes == 0
    assert not budget._held


def test_a_taken_share_is_a_429_and_a_request_that_never_fits_a_413(server: RunningServer) -> None:
    budget = server.context.memory
    held = budget.open("address 127.0.0.1")
    held.take(budget.share_bytes)
    try:
        reply = httpx.post(f"{server.url}/v1/images/edits", files=edit_files(), data={"prompt": "color: red"})
    finally:
        held.release()
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "memory_share")
    assert reply.headers["retry-after"] == "1"
    size, budget.share_bytes = budget.share_bytes, 50_000
    try:
        reply = httpx.post(f"{server.url}/v1/images/edits", files=edit_files(), data={"prompt": "color: red"})
    finally:
        budget.share_bytes = size
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "memory_limit")
    assert reply.headers["x-should-retry"] == "false"
    assert "memory_mb" in reply.json()["error"]["message"]
    assert budget.used_bytes == 0


def test_every_picture_within_the_limits_fits_a_share_by_default() -> None:
    settings = ServerSettings()
    photo_and_mask = settings.max_megapixels * 1e6 * (20 + 4) + settings.max_request_mb * MIB
    assert photo_and_mask < settings.memory_mb * MIB * settings.memory_share


def tensor_body(datatype: str, data: object, shape: list[int]) -> bytes:
    """A KServe request of one tensor as JSON."""
    entry = {"name": "GUIDANCE", "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [entry]}).encode()


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP32", 1e300),
        ("FP32", -1e39),
        ("FP32", 10**60),
        ("UINT8", 256),
        ("UINT8", -1),
        ("INT32", 2**31),
        ("INT64", 2**63),
    ],
)
def test_a_number_beyond_its_type_is_refused_without_a_warning(datatype: str, value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call = lambda: read_infer_request(tensor_body(datatype, [value], [1]), None, memory())  # noqa: E731
        assert refusal(call) == (400, "invalid_tensor")


def test_a_tensor_of_too_many_numbers_is_referred_to_the_binary_extension() -> None:
    with pytest.raises(ApiError) as caught:
        read_infer_request(tensor_body("UINT8", [1] * 1_000_000, [1_000_000]), None, memory())
    assert (caught.value.status, caught.value.code) == (413, "json_too_large")
    assert "binary_data_size" in caught.value.message
    taken = read_infer_request(tensor_body("UINT8", [7] * 250_000, [500, 500]), None, memory())
    assert np.array_equal(taken.inputs["GUIDANCE"], np.full((500, 500), 7))  # type: ignore[arg-type]


def test_a_long_scalar_tensor_is_refused(server: RunningServer) -> None:
    for text in ("a" * 70_000, "é" * 40_000):
        entry = {"name": "PROMPT", "datatype": "BYTES", "shape": [1], "data": [text]}
        reply = httpx.post(f"{server.url}/v2/models/{server.context.model}/infer", json={"inputs": [entry]})
        assert reply.status_code == 413, reply.text


@pytest.mark.parametrize("size", [1, 3, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 600_000])
def test_an_array_is_written_as_the_json_of_its_values(size: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    text = b"".join(write_numbers(array))
    assert json.loads(b"[" + text + b"]") == array.tolist()
    assert count_bytes([b"[", array, b"]"]) == len(text) + 2


def test_a_body_of_the_right_kind_is_split_by_its_limits() -> None:
    settings = ServerSettings(max_file_mb=0.1)
    url = "data:image/png;base64," + base64.b64encode(bytes(200_000)).decode()
    for body in ({"images": [{"image_url": url}]}, {"prompt": "a" * 70_000}):
        data = json.dumps(body).encode()
        assert refusal(lambda data=data: split_body(data, "application/json", settings, memory()))[0] == 413
