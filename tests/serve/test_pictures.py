"""Pictures of other formats, depths and colours over HTTP: the same bytes as in Python, and what their files state."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from alterbute import Editor
from alterbute.images import Photo, encode_photo, load_photo
from alterbute.images.metadata import Metadata, read_provenance
from alterbute.images.photo import Bytes
from alterbute.serve.openai.encode_image import encode_preview
from PIL import Image

from tests.support.pictures import noise
from tests.support.profiles import P3
from tests.support.serving import SIZE, RunningServer, mask_bytes

QUICK = {"prompt": "color: red", "num_inference_steps": "2", "seed": "1"}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http_client:
        yield http_client


@pytest.fixture(scope="module")
def editor(server: RunningServer) -> Iterator[Editor]:
    with Editor.open(server.context.service.editor.bundle, backend="onnxruntime", threads=1) as opened:
        yield opened


def post(client: httpx.Client, photo: bytes, mask: bytes | None = None, **fields: str) -> httpx.Response:
    files: dict[str, Any] = {"image": ("photo", photo)} | ({} if mask is None else {"mask": ("mask", mask)})
    return client.post("/v1/images/edits", files=files, data={**QUICK, **fields})


def file_of(reply: httpx.Response) -> bytes:
    assert reply.status_code == 200, reply.text
    return base64.b64decode(reply.json()["data"][0]["b64_json"])


def draw(bits: int = 8, alpha: Bytes | None = None, metadata: Metadata | None = None) -> Photo:
    scale = np.uint8(1) if bits == 8 else np.uint16(257)
    opacity = None if alpha is None else alpha * scale
    return Photo(pixels=noise(*SIZE, seed=4) * scale, alpha=opacity, icc=P3, metadata=metadata or Metadata())


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_a_photo_with_a_profile_has_pythons_bytes(client: httpx.Client, editor: Editor, form: Any, bits: int) -> None:
    data = encode_photo(draw(bits), form)
    answered = load_photo(file_of(post(client, data, mask_bytes(), detail="photo")))
    expected = editor.edit(data, mask_bytes(), "color: red", seed=1, steps=2, detail="photo")
    assert answered.pixels.dtype == expected.pixels.dtype
    assert np.array_equal(answered.pixels, expected.pixels)
    assert answered.icc == P3
    # The whole file, too, with what it states.
    assert file_of(post(client, data, mask_bytes(), detail="photo")) == encode_photo(
        expected.photo, "PNG", expected.make_metadata()
    )


def test_the_opaque_part_of_a_photo_is_its_mask(client: httpx.Client, editor: Editor) -> None:
    alpha = np.asarray(Image.open(io.BytesIO(mask_bytes())).convert("L"))
    data = encode_photo(draw(alpha=alpha))
    answered = load_photo(file_of(post(client, data)))
    assert np.array_equal(answered.to_array(), editor.edit(data, None, "color: red", seed=1, steps=2).pixels)
    reply = post(client, encode_photo(draw()))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "mask_missing")


def test_metadata_and_provenance_are_fields(client: httpx.Client, server: RunningServer) -> None:
    metadata = Metadata(dpi=(300.0, 300.0), texts={"Copyright": "me", "Comment": "private"})
    data = encode_photo(draw(metadata=metadata), "PNG", metadata)
    for form in ("png", "webp", "jpeg"):
        saved = load_photo(file_of(post(client, data, mask_bytes(), output_format=form))).metadata
        origin = read_provenance(saved)
        assert origin is not None
        assert (origin["bundle_sha256"], origin["seed"]) == (server.context.bundle_sha256, 1)
        assert "private" not in str(saved)
    kept = load_photo(file_of(post(client, data, mask_bytes(), metadata="keep", provenance="false"))).metadata
    assert kept.texts["Comment"] == "private"
    assert read_provenance(kept) is None
    bare = load_photo(file_of(post(client, data, mask_bytes(), metadata="strip", provenance="false"))).metadata
    assert (bare.exif, bare.xmp, bare.dpi, dict(bare.texts)) == (None, None, None, {})
    assert post(client, data, mask_bytes(), metadata="all").status_code == 400


def test_what_16_bits_exclude_is_refused(client: httpx.Client) -> None:
    data = encode_photo(draw(16))
    for form in ("webp", "jpeg"):
        reply = post(client, data, mask_bytes(), output_format=form)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "output_format")
    reply = post(client, data, mask_bytes(), detail="model")
    assert reply.status_code == 400 and "16 bits" in reply.json()["error"]["message"]


def test_unsupported_files_are_named(client: httpx.Client) -> None:
    for start, name in ((b"8BPS\0\1" + b"\0" * 40, "Photoshop"), (b"<!DOCTYPE html><html>", "web page")):
        reply = post(client, start, mask_bytes())
        assert reply.status_code == 415
        assert name in reply.json()["error"]["message"]


def test_a_preview_of_16_bits_is_small_and_keeps_its_profile() -> None:
    file, size = encode_preview(draw(16), "png")
    assert size == f"{SIZE[1]}x{SIZE[0]}"
    assert load_photo(file).icc == P3
