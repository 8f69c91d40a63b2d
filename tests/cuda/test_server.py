"""`alterbute serve` on a GPU that is lost: the request fails with an error, and the process ends with code 70 for its supervisor."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.cuda.harness import StandIn
from tests.support.process import running_process
from tests.support.serving import edit_files

EXIT_DEVICE = 70


def test_a_lost_gpu_ends_the_server_with_code_70_and_no_request_hangs(standin: StandIn, cuda_bundle: Path) -> None:
    environment = standin.environment(faults="graph:400=700")
    with running_process("--backend", "onnxruntime-cuda", str(cuda_bundle), environment=environment) as process:
        statuses: list[int | str] = []
        with httpx.Client(base_url=process.url, timeout=60) as client:
            for number in range(20):
                try:
                    reply = client.post(
                        "/v1/images/edits",
                        files=edit_files(number),
                        data={"prompt": "color: red", "num_inference_steps": "50"},
                    )
                except httpx.TransportError as fault:
                    statuses.append(type(fault).__name__)
                    break
                statuses.append(reply.status_code)
                if reply.status_code != 200:
                    break
        assert process.popen.wait(60) == EXIT_DEVICE, process.lines[-5:]
    assert statuses[0] == 200, statuses
    assert statuses[-1] in {500, 503}, statuses
    messages = [line.get("message") for line in process.lines]
    assert "the device is broken: the process must be restarted" in messages
    assert messages[-1] == "stopped"
    assert not [line for line in process.lines if "Traceback" in str(line.get("message"))]
