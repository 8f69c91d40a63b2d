"""The server names the backend and the device that run the bundle, and logs why it is not a faster one."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import httpx
import pytest
from alterbute.backends import opener
from alterbute.backends.cuda.driver import Driver, Gpu
from alterbute.serve.context import make_context
from alterbute.serve.logs import JsonFormatter
from alterbute.serve.openai.openapi import make_document
from alterbute.serve.settings import ServerSettings

from tests.support.process import running_process


def test_the_ready_line_and_the_model_name_backend_and_device(tiny_bundle: Path) -> None:
    with running_process("--backend", "onnxruntime", str(tiny_bundle)) as process:
        ready = process.wait_for("ready")
        (model,) = httpx.get(f"{process.url}/v1/models").json()["data"]
        metadata = httpx.get(f"{process.url}/v2/models/{model['id']}").json()
    assert (ready["backend"], ready["device"], ready["precision"]) == ("onnxruntime", "cpu", "fp32")
    assert (model["alterbute"]["backend"], model["alterbute"]["device"]) == ("onnxruntime", "cpu")
    assert metadata["platform"] == "alterbute_onnxruntime"
    schema = make_document(model["id"])["components"]["schemas"]["Model"]
    assert list(model) == schema["required"]
    assert list(model["alterbute"]) == schema["properties"]["alterbute"]["required"]


def test_a_gpu_that_cannot_be_used_is_a_warning_in_the_log(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = Gpu(name="NVIDIA L4", capability="8.9", memory=24 << 30)
    monkeypatch.setattr(opener, "probe_driver", lambda device: Driver(cuda="12.4", gpu=gpu, reason=""))
    context = make_context(ServerSettings(bundle=str(tiny_bundle), threads=1))
    context.close()
    assert (context.backend, context.device) == ("onnxruntime", "cpu")
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    line = json.loads(JsonFormatter().format(record))
    assert line["level"] == "warning"
    assert line["message"].startswith("backend onnxruntime-cuda skipped, onnxruntime runs instead: ")
