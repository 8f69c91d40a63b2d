"""Time that HTTP adds to an edit (form, decoding, queue, PNG, base64), against the same edits in this process."""

from __future__ import annotations

import statistics
import time

import httpx
import numpy as np
import pytest
from alterbute import Editor
from alterbute.images import load_photo

from tests.support.pictures import to_bytes
from tests.support.process import running_process

EDITS = 40


@pytest.mark.slow
def test_http_adds_at_most_15_ms_to_an_edit() -> None:
    editor = Editor.open(threads=1)
    photo, mask = (editor.bundle.read(f"sample/{name}.png") for name in ("photo", "mask"))
    pixels = load_photo(photo).pixels
    local_s, http_s = [], []
    with running_process() as process, httpx.Client(base_url=process.url, timeout=60) as client:
        for number in range(EDITS + 4):
            # A new photo for both, so that neither has it cached and both encode it.
            file = to_bytes(np.roll(pixels, number, axis=1))
            start = time.perf_counter()
            to_bytes(editor.edit(file, mask, "color: red", seed=1, steps=4).image)
            local_s.append(time.perf_counter() - start)
            data = {"prompt": "color: red", "seed": "1", "num_inference_steps": "4"}
            start = time.perf_counter()
            reply = client.post(
                "/v1/images/edits", files={"image": ("a.png", file), "mask": ("m.png", mask)}, data=data
            )
            http_s.append(time.perf_counter() - start)
            assert reply.status_code == 200
    local_ms, http_ms = statistics.median(local_s[4:]) * 1000, statistics.median(http_s[4:]) * 1000
    print(
        f"in process {local_ms:.1f} ms, over HTTP {http_ms:.1f} ms: {http_ms - local_ms:+.1f} ms (medians of {EDITS})"
    )
    assert http_ms - local_ms <= 15
