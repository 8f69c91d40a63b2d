"""A request over HTTP has the bytes of the same request in Python: detail, rim, label masks, several objects, previews."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from alterbute.editor import Editor
from alterbute.images.photo import Bytes
from PIL import Image

from tests.support.pictures import noise, to_bytes
from tests.support.serving import RunningServer, holding_last_launch

HEIGHT, WIDTH = 220, 300
PHOTO = noise(HEIGHT, WIDTH, seed=3)


def draw_objects() -> Bytes:
    """Two discs, so far apart that each is edited in a window of its own."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    near, far = (np.hypot(rows - y, columns - x) < 17 for y, x in ((30, 40), (180, 260)))
    return np.where(near | far, np.uint8(255), np.uint8(0))


OBJECTS = draw_objects()


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http_client:
        yield http_client


@pytest.mark.parametrize(
    ("mask", "fields", "options"),
    [
        (OBJECTS, {}, {}),
        (OBJECTS, {"rim": "3"}, {"rim": 3}),
        (OBJECTS, {"detail": "model", "mask_kind": "box"}, {"detail": "model", "mask_kind": "box"}),
        (OBJECTS, {"detail": "photo", "mask_kind": "soft"}, {"detail": "photo", "mask_kind": "soft"}),
        ((OBJECTS // 255 * 3 + 1).astype(np.uint8), {"mask_value": "4"}, {"mask_value": 4}),
        (np.dstack([PHOTO, OBJECTS]), {}, {}),
    ],
)
def test_an_edit_over_http_has_pythons_bytes(
    client: httpx.Client, tiny_bundle: Path, mask: Bytes, fields: dict[str, str], options: dict[str, Any]
) -> None:
    files = {"image": ("p.png", to_bytes(PHOTO)), "mask": ("m.png", to_bytes(mask))}
    data = {"prompt": "color: red", "seed": "5", "num_inference_steps": "2", "n": "2", **fields}
    reply = client.post("/v1/images/edits", files=files, data=data)
    assert reply.status_code == 200, reply.text
    with Editor.open(tiny_bundle) as editor:
        for index, datum in enumerate(reply.json()["data"]):
            expected = editor.edit(PHOTO, mask, "color: red", seed=5 + index, steps=2, **options)
            served = np.asarray(Image.open(io.BytesIO(base64.b64decode(datum["b64_json"]))))
            assert np.array_equal(served, np.asarray(expected.image))
            assert not (served != PHOTO).any(-1)[expected.alpha == 0].any()
    described = reply.json()["alterbute"]
    assert described["detail"][0]["from"] == expected.detail
    assert "2 pieces" in described["mask"]


def test_previews_of_several_objects_show_all_of_them(server: RunningServer, client: httpx.Client) -> None:
    files = {"image": ("p.png", to_bytes(PHOTO)), "mask": ("m.png", to_bytes(OBJECTS))}
    data = {"prompt": "color: red", "seed": "5", "num_inference_steps": "12", "stream": "true", "partial_images": "2"}
    events: list[dict[str, Any]] = []
    with (
        holding_last_launch(server.hooks, 12, lambda: len(events) == 2),
        client.stream("POST", "/v1/images/edits", files=files, data=data) as reply,
    ):
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                events.append(json.loads(line[6:]))
    previews = [event for event in events if event["type"].endswith("partial_image")]
    assert [event["partial_image_index"] for event in previews] == [0, 1]
    for event in previews:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(event["b64_json"]))))
        changed = (picture != PHOTO).any(-1)
        assert changed[: HEIGHT // 2].any() and changed[HEIGHT // 2 :].any()
        assert not changed[OBJECTS == 0].any()
