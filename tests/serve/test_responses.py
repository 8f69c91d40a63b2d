"""Behaviour of every response: ids, headers, logs, formats, limits, other origins, and clients that disconnect."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import logging
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from alterbute.serve.logs import JsonFormatter
from PIL import Image

from tests.support.pictures import noise, to_bytes
from tests.support.serving import RunningServer, edit_files, mask_bytes, photo_bytes, serving, wait_until

QUICK = {"prompt": "color: red", "num_inference_steps": "1", "seed": "1"}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http_client:
        yield http_client


def edit(client: httpx.Client, **fields: str) -> httpx.Response:
    """Send an edit of one step, with further or other fields."""
    return client.post("/v1/images/edits", files=edit_files(), data={**QUICK, **fields})


def test_every_response_has_an_id_and_security_headers(client: httpx.Client) -> None:
    for reply in (client.get("/health/live"), client.get("/nothing"), edit(client), edit(client, n="99")):
        assert len(reply.headers["x-request-id"]) == 32
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in reply.headers
        assert "server" not in reply.headers
    named = client.get(
        "/health/live", headers={"x-request-id": "mine-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    )
    assert named.headers["x-request-id"] == "mine-1"
    assert named.headers["traceparent"].startswith("00-aaaa")
    forged = client.get("/health/live", headers={"x-request-id": "a b{}" + "x" * 100, "traceparent": "nonsense"})
    assert len(forged.headers["x-request-id"]) == 32
    assert "traceparent" not in forged.headers
    timed = edit(client)
    assert float(timed.headers["x-alterbute-queue-ms"]) >= 0
    assert float(timed.headers["x-alterbute-compute-ms"]) > 0


def test_logs_are_json_and_hold_nothing_of_the_request(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    edit(client, prompt="color: red", user="somebody@example.com")
    edit(client, prompt="very secret words")
    client.get("/secret-path?key=hidden", headers={"authorization": "Bearer hidden"})
    lines = [
        json.loads(JsonFormatter().format(record)) for record in caplog.records if record.name.startswith("alterbute")
    ]
    assert {"request_id", "endpoint", "status", "ms", "method"} <= lines[-1].keys()
    text = json.dumps(lines)
    for secret in ("secret", "somebody", "color", "hidden", "photo.png", "/work", ".pytest_cache"):
        assert secret not in text, secret


def test_an_unexpected_exception_is_a_500_without_details(
    client: httpx.Client, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_key_error() -> None:
        raise KeyError("/etc/passwd of the prompt")

    monkeypatch.setattr(server.context.service, "check_room", raise_key_error)
    reply = edit(client)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert reply.headers["x-should-retry"] == "false"
    assert "passwd" not in reply.text


def test_pages_of_other_origins_and_other_host_names_are_refused(client: httpx.Client, server: RunningServer) -> None:
    assert client.get("/v1/models", headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/v1/models", headers={"host": "rebound.example"}).status_code == 403
    assert (
        client.get("/v1/models", headers={"host": "rebound.example", "origin": "http://rebound.example"}).status_code
        == 403
    )
    assert client.get("/v1/models", headers={"origin": server.url}).status_code == 200
    assert client.get("/v1/models", headers={"host": "localhost:1"}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "format", "is_exact"),
    [
        ({}, "PNG", True),
        ({"output_format": "webp"}, "WEBP", True),
        ({"output_format": "webp", "output_compression": "80"}, "WEBP", False),
        ({"output_format": "jpeg", "output_compression": "90"}, "JPEG", False),
    ],
)
def test_background_exact_is_true_for_lossless_formats_only(
    client: httpx.Client, fields: dict[str, str], format: str, is_exact: bool
) -> None:
    reply = edit(client, **fields).json()
    image = Image.open(io.BytesIO(base64.b64decode(reply["data"][0]["b64_json"])))
    assert image.format == format
    assert reply["alterbute"]["background_exact"] is is_exact
    photo = np.asarray(Image.open(io.BytesIO(photo_bytes())))
    assert np.array_equal(np.asarray(image.convert("RGB"))[:8], photo[:8]) is is_exact


def test_the_photos_transparency_is_kept_and_jpeg_cannot_hold_it(client: httpx.Client) -> None:
    planes = np.dstack([np.asarray(Image.open(io.BytesIO(photo_bytes()))), np.full((48, 64), 7, np.uint8)])
    files = {**edit_files(), "image": ("a.png", to_bytes(planes))}
    reply = client.post("/v1/images/edits", files=files, data={**QUICK, "background": "transparent"}).json()
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(reply["data"][0]["b64_json"]))))
    assert (image[..., 3] == 7).all()
    assert reply["background"] == "transparent"
    assert client.post("/v1/images/edits", files=files, data={**QUICK, "output_format": "jpeg"}).status_code == 400


def test_mask_polarity_selects_the_pixels_of_the_object(client: httpx.Client) -> None:
    white = mask_bytes()
    black = to_bytes(255 - np.asarray(Image.open(io.BytesIO(white))))
    alpha = to_bytes(np.dstack([np.zeros((48, 64, 3), np.uint8), 255 - np.asarray(Image.open(io.BytesIO(white)))]))
    replies = []
    for mask, polarity, mode in (
        (white, "auto", "white"),
        (alpha, "auto", "transparent"),
        (black, "black", "black"),
        (alpha, "alpha", "transparent"),
    ):
        files = {**edit_files(), "mask": ("m.png", mask)}
        reply = client.post("/v1/images/edits", files=files, data={**QUICK, "mask_polarity": polarity}).json()
        assert (reply["alterbute"]["mask_mode"], reply["alterbute"]["mask_pixels"]) == (mode, 320)
        replies.append(reply["data"])
    assert all(reply == replies[0] for reply in replies)
    for bad in (np.zeros((48, 64), np.uint8), np.full((48, 64), 255, np.uint8)):
        reply = client.post("/v1/images/edits", files={**edit_files(), "mask": ("m.png", to_bytes(bad))}, data=QUICK)
        assert reply.status_code == 422
        assert "mask_polarity" in reply.json()["error"]["message"]


def test_a_dry_run_checks_everything_without_a_launch(client: httpx.Client, server: RunningServer) -> None:
    launches = len(server.hooks.launches)
    reply = edit(client, dry_run="true", n="2", num_inference_steps="7", quality="high").json()
    assert reply["object"] == "image_edit.dry_run"
    extra = reply["alterbute"]
    assert (extra["seeds"], extra["steps"], extra["mask_pixels"]) == ([1, 2], 7, 320)
    assert extra["limits"]["n"] == server.context.settings.max_count
    assert len(server.hooks.launches) == launches
    assert edit(client, dry_run="true", n="99").status_code == 400


def test_tokens_are_counted_in_the_window_around_the_object(tiny_bundle: Path, tmp_path: Path) -> None:
    """A bundle with two window sizes uses the smaller one for a small object: its latent has fewer positions."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    base, factor = manifest["resolution"], manifest["latent_factor"]
    path.write_text(json.dumps({**manifest, "resolutions": [base, 2 * base]}))
    with serving(tmp_path / "bundle") as server, httpx.Client(base_url=server.url) as client:
        (model,) = client.get("/v1/models").json()["data"]
        assert model["alterbute"]["resolutions"] == [base, 2 * base]
        for side, window in ((10, base), (90, 2 * base)):
            mask = np.zeros((160, 160), np.uint8)
            mask[30 : 30 + side, 30 : 30 + side] = 255
            files = {"image": ("p.png", to_bytes(noise(160, 160))), "mask": ("m.png", to_bytes(mask))}
            reply = client.post("/v1/images/edits", files=files, data={**QUICK, "dry_run": "true"}).json()
            assert reply["usage"]["output_tokens"] == (window // factor) ** 2


def test_quality_presets_set_steps_and_the_nearest_is_returned(client: httpx.Client) -> None:
    for fields, quality, steps in (
        ({"quality": "low"}, "low", 8),
        ({"quality": "low", "num_inference_steps": "40"}, "high", 40),
        ({"attribute": "color", "prompt": "red", "quality": "medium"}, "medium", 20),
    ):
        data = {**QUICK, "dry_run": "true", **fields}
        if "num_inference_steps" not in fields:
            del data["num_inference_steps"]
        reply = client.post("/v1/images/edits", files=edit_files(), data=data).json()
        assert (reply["quality"], reply["alterbute"]["steps"]) == (quality, steps)


def test_a_rate_limit_counts_per_key(tiny_bundle: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(
        "# accepted keys\n"
        + "".join(f"{hashlib.sha256(name.encode()).hexdigest()} {name}\n" for name in ("first-key", "second-key"))
    )
    # An edit costs 0.003 megapixel-steps: 48x64 pixels, one step.
    with (
        serving(tiny_bundle, api_key_file=str(keys), rate=0.0001, rate_burst=0.0065) as running,
        httpx.Client(base_url=running.url) as client,
    ):
        codes = {}
        for name in ("first-key", "second-key"):
            client.headers["authorization"] = f"Bearer {name}"
            codes[name] = [edit(client).status_code for _ in range(3)]
        assert codes == {name: [200, 200, 429] for name in codes}
        refused = edit(client)
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) >= 1
        # n = 2 costs twice as much; a refused request costs nothing.
        assert edit(client, n="2").status_code == 429


def test_clients_that_disconnect_at_random_moments_leave_nothing_behind(server: RunningServer) -> None:
    generator = random.Random(2)

    async def disconnect_all() -> None:
        limits = httpx.Limits(max_connections=10)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as client:

            async def send_and_disconnect(number: int) -> None:
                stream = {"stream": "true", "partial_images": "2"} if number % 2 else {}
                call = client.post(
                    "/v1/images/edits",
                    files=edit_files(),
                    data={"prompt": "color: red", "num_inference_steps": "60", **stream},
                )
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(call, 0.01 + generator.random() * 0.2)

            for start in range(0, 100, 10):
                await asyncio.gather(*(send_and_disconnect(number) for number in range(start, start + 10)))
            # On a slow machine none of these may have reached a step: one more is cancelled while it certainly runs.
            await asyncio.to_thread(wait_until, lambda: server.context.service.num_accepted == 0)
            server.hooks.step_s = 0.2
            data = {"prompt": "color: red", "num_inference_steps": "60"}
            call = asyncio.create_task(client.post("/v1/images/edits", files=edit_files(), data=data))
            await asyncio.to_thread(wait_until, lambda: server.context.service.num_running > 0)
            call.cancel()

    server.hooks.step_s = 0.01
    asyncio.run(disconnect_all())
    wait_until(lambda: server.context.service.num_accepted == 0 and server.context.num_open == 0)
    server.hooks.step_s = 0.0
    with httpx.Client(base_url=server.url) as client:
        values = dict(
            line.split(" ")
            for line in client.get("/metrics").text.splitlines()
            if not line.startswith("#") and " " in line
        )
        assert float(values["alterbute_requests_running"]) == float(values["alterbute_requests_waiting"]) == 0
        assert float(values["alterbute_memory_reserved_bytes"]) == 0
        assert sum(float(value) for name, value in values.items() if name.startswith("alterbute_cancelled_total")) > 0
        assert edit(client).status_code == 200
