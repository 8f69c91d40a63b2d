"""The server names the type in which its backend runs the step graph, whatever types the graph's inputs have."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from alterbute.bundle import default_bundle_path, open_bundle

from tests.support.serving import edit_files, serving


def make_bundle(precision: str, fp32: Path, folder: Path) -> Path:
    """A bundle of this precision, converted from the fp32 bundle, or for int8 quantized from the demo bundle."""
    if precision == "int8":
        from alterbute_export.int8 import default_edits, quantize_bundle

        demo = default_bundle_path()
        quantize_bundle(demo, folder, default_edits(open_bundle(demo))[:1], steps=1)
    else:
        from alterbute_export.half.convert_bundle import convert_bundle

        shutil.copytree(fp32, folder)
        if precision == "fp16":
            convert_bundle(folder, "fp16", measure=False)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_models_replies_and_metrics_name_the_precision(precision: str, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = make_bundle(precision, tiny_bundle, tmp_path / "bundle")
    inputs = {edge.name: edge.dtype for edge in open_bundle(bundle).manifest.graphs["step"].inputs}
    assert inputs["text"] == "float32", "the step graph's inputs are float32 in every precision, so they do not show it"
    with serving(bundle) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        (model,) = client.get("/v1/models").json()["data"]
        reply = client.post(
            "/v1/images/edits", files=edit_files(), data={"prompt": "color: red", "num_inference_steps": "1"}
        ).json()
        metrics = client.get("/metrics").text
    assert model["alterbute"]["precision"] == precision
    assert reply["alterbute"]["precision"] == precision
    assert f'precision="{precision}"' in metrics
