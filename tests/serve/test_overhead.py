"""What HTTP adds to an edit: form, decoding, queue, PNG and base64, measured beside the same edits in this process."""

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
    inside, outside = [], []
    with running_process() as process, httpx.Client(base_url=process.url, timeout=60) as client:
        for number in range(EDITS + 4):
            # Neither side has seen this photo before, so both encode it.
            file = to_bytes(np.roll(pixels, number, axis=1))
            start = time.perf_counter()
            to_bytes(editor.edit(file, mask, "color: red", seed=1, steps=4).image)
            inside.append(time.perf_counter() - start)
            data = {"prompt": "color: red", "seed": "1", "num_inference_steps": "4"}
            start = time.perf_counter()
            reply = client.post(
                "/v1/images/edits", files={"image": ("a.png", file), "mask": ("m.png", mask)}, data=data
            )
            outside.append(time.perf_counter() - start)
            assert reply.status_code == 200
    here, there = statistics.median(inside[4:]) * 1000, statistics.median(outside[4:]) * 1000
    print(f"in process {here:.1f} ms, over HTTP {there:.1f} ms: {there - here:+.1f} ms (medians of {EDITS})")
    assert there - here <= 15
