"""Thousands of requests drawn from the OpenAPI document and damaged: no response is an undeclared 5xx."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx
import pytest
from alterbute.serve.openai.openapi import make_document

from tests.support.serving import RunningServer, mask_bytes, photo_bytes, wait_until

REQUESTS: Final = 20_000
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
TEXTS: Final = (
    "",
    "a",
    "color: red",
    "\0",
    "é" * 40,
    "x" * 70_000,
    "-1",
    "0",
    "1",
    "1e999",
    "nan",
    "true",
    "null",
    "[]",
    "../../etc",
    "0,1",
    "9" * 40,
)
PHOTO, MASK = photo_bytes(), mask_bytes()


class Fuzzer:
    """Draws requests for the operations of a document, with most parts valid and some not."""

    def __init__(self, document: dict[str, Any], model: str, seed: int) -> None:
        self._operations = [
            (path, method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self._model, self._random = model, random.Random(seed)

    def draw(self) -> dict[str, Any]:
        """Draw a request, as arguments of `httpx.Client.request`."""
        pick = self._random
        path, method, operation = pick.choice(self._operations)
        if method == "POST" and pick.random() < 0.5:
            path, method, operation = pick.choice([entry for entry in self._operations if entry[1] == "POST"])
        names = {"{model}": self._model, "{version}": "1"}
        for name, value in names.items():
            path = path.replace(
                name, value if pick.random() < 0.9 else pick.choice(("x", "%00", "..", "a b", "%2f", "ü", "x" * 300))
            )
        request: dict[str, Any] = {
            "method": method if pick.random() < 0.95 else pick.choice(METHODS),
            "url": path,
            "headers": self._headers(),
        }
        if "requestBody" not in operation:
            return request
        kind = pick.choice(list(operation["requestBody"]["content"]))
        schema = operation["requestBody"]["content"][kind]["schema"]
        if kind == "multipart/form-data":
            request |= self._form(schema["properties"])
        elif "infer" in path:
            request |= {"content": json.dumps(self._infer()).encode()}
        else:
            request |= {"content": json.dumps(self._json(schema)).encode()}
            request["headers"]["content-type"] = "application/json"
        if "content" in request and pick.random() < 0.1:
            request["content"] = self._damage(request["content"])
        return request

    def _headers(self) -> dict[str, str]:
        pick = self._random
        headers = {
            "authorization": pick.choice(("Bearer", "Bearer x", "x")),
            "x-request-id": pick.choice(("mine", "a b", "x" * 500)),
            "inference-header-content-length": pick.choice(("1", "-1", "x", "99999")),
            "content-encoding": pick.choice(("gzip", "identity")),
            "traceparent": "00-x",
        }
        return {name: value for name, value in headers.items() if pick.random() < 0.05}

    def _form(self, properties: dict[str, Any]) -> dict[str, Any]:
        pick = self._random
        data = {
            name: str(self._value(properties[name]))
            for name in properties
            if pick.random() < 0.12 and name not in ("image", "mask")
        }
        data = {"prompt": "color: red", "num_inference_steps": "1", **data}
        if pick.random() < 0.05:
            data[pick.choice(("callback", "é", "steps", "x" * 300))] = "1"
        files = [("image", ("a.png", self._picture(PHOTO))), ("mask", ("m.png", self._picture(MASK)))]
        files += [
            (name, ("b.png", self._picture(PHOTO)))
            for name in ("image[]", "reference", "protect", "other")
            if pick.random() < 0.05
        ]
        return {"data": data, "files": [entry for entry in files if pick.random() < 0.95]}

    def _json(self, schema: dict[str, Any]) -> Any:
        pick = self._random
        if pick.random() < 0.03:
            return pick.choice((None, 3, [], "x", {"prompt": {}}, [[]]))
        properties = schema["properties"]
        body = {name: self._value(properties[name]) for name in properties if pick.random() < 0.12}
        return {
            "prompt": "color: red",
            "num_inference_steps": 1,
            "images": [self._url(PHOTO)],
            "mask": self._url(MASK),
            **body,
        }

    def _url(self, data: bytes) -> Any:
        prefix = self._random.choice(
            ("data:image/png;base64,",) * 9 + ("https://x/", "file:///", "data:text/html,", "")
        )
        return {
            self._random.choice(("image_url",) * 19 + ("file_id",)): prefix
            + base64.b64encode(self._picture(data)).decode()
        }

    def _infer(self) -> Any:
        pick = self._random
        tensors = [
            {
                "name": "IMAGE",
                "datatype": "BYTES",
                "shape": [1],
                "data": [base64.b64encode(self._picture(PHOTO)).decode()],
            },
            {
                "name": "MASK",
                "datatype": "BYTES",
                "shape": [1],
                "data": [base64.b64encode(self._picture(MASK)).decode()],
            },
            {"name": "PROMPT", "datatype": "BYTES", "shape": [1], "data": ["color: red"]},
            {"name": "STEPS", "datatype": "INT32", "shape": [1], "data": [1]},
        ]
        for tensor in tensors:
            if pick.random() < 0.1:
                tensor[pick.choice(("name", "datatype", "shape", "data", "parameters"))] = self._anything()
        body: dict[str, Any] = {"inputs": [tensor for tensor in tensors if pick.random() < 0.97]}
        for name in ("id", "outputs", "parameters", "other"):
            if pick.random() < 0.05:
                body[name] = self._anything()
        return body

    def _value(self, schema: dict[str, Any]) -> Any:
        pick = self._random
        if pick.random() < 0.2:
            return self._anything()
        if "enum" in schema:
            return pick.choice(schema["enum"])
        drawn = {
            "integer": pick.choice((0, 1, 2, 3, 7, 8, 101, 2**31, 2**63, -1)),
            "number": pick.choice((0, 0.5, 1, 1.5, 7.5, 100, 1e300, -1)),
            "boolean": pick.choice((True, False)),
        }
        return drawn.get(schema.get("type", ""), pick.choice(TEXTS))

    def _anything(self) -> Any:
        pick = self._random
        return pick.choice(
            (
                None,
                True,
                -1,
                2**63,
                10**400,
                0.1,
                *TEXTS,
                [],
                [1],
                [-1],
                [2**40, 2**40],
                [[[[[1]]]]],
                {},
                {"a": {}},
                {"binary_data_size": 9},
            )
        )

    def _picture(self, file: bytes) -> bytes:
        return file if self._random.random() < 0.9 else self._damage(file)

    def _damage(self, data: bytes) -> bytes:
        pick = self._random
        if not data or pick.random() < 0.2:
            return pick.randbytes(pick.randrange(50))
        spot = pick.randrange(len(data))
        return pick.choice((data[:spot], data[spot:], data[:spot] + pick.randbytes(3) + data[spot:], data + data))


def send_all(server: RunningServer, count: int, seed: int) -> Counter[int]:
    """Send `count` drawn requests; returns the number of responses by status. A 5xx must be 503 or 504."""
    document = make_document(server.context.model)
    fuzzer, counts = Fuzzer(document, server.context.model, seed), Counter[int]()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(count):
            request = fuzzer.draw()
            try:
                reply = client.request(**request)
            except (httpx.InvalidURL, httpx.LocalProtocolError):  # the client refuses to send it
                continue
            counts[reply.status_code] += 1
            assert reply.status_code not in range(500, 600) or reply.status_code in (503, 504), (request, reply.text)
            assert reply.status_code < 400 or not reply.content or "error" in reply.text, (request, reply.text)
    return counts


def assert_idle(server: RunningServer) -> None:
    """Check that no request is left, and no memory reserved."""
    wait_until(lambda: server.context.service.num_accepted == 0, 30)
    wait_until(lambda: server.context.memory.used_bytes == 0)


def test_three_hundred_damaged_requests_get_declared_statuses(server: RunningServer) -> None:
    counts = send_all(server, 300, seed=0)
    assert_idle(server)
    assert counts[200] > 20, counts
    assert counts[400] > 20, counts


@pytest.mark.slow
def test_twenty_thousand_damaged_requests_get_declared_statuses(server: RunningServer) -> None:
    """Eight clients at once: a damaged request of one must not affect the responses of another."""
    with ThreadPoolExecutor(8) as pool:
        counts = sum(pool.map(lambda seed: send_all(server, REQUESTS // 8, seed), range(1, 9)), Counter[int]())
    print(counts.total(), dict(sorted(counts.items())))
    assert_idle(server)
    assert counts.total() > 0.9 * REQUESTS
