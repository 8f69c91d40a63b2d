"""SIGTERM under load: every accepted request gets its response, and the process ends in time."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from alterbute.cli import main

from tests.support.process import Process, is_ready, running_process
from tests.support.serving import edit_files, wait_until


def terminate_under_load(process: Process, moment_s: float, steps: str) -> tuple[Counter[int | str], float]:
    """Send from six clients, and send SIGTERM `moment_s` seconds after the first edit; clients stop when the server is not ready.

    Returns the number of responses by status, or of connection errors by class, and the seconds from signal to exit.
    """
    outcomes: Counter[int | str] = Counter()
    is_open = threading.Event()
    is_open.set()

    def send(number: int) -> None:
        generator = random.Random(number)
        while is_open.is_set():
            try:
                with httpx.Client(base_url=process.url, timeout=60) as client:
                    reply = client.post(
                        "/v1/images/edits",
                        files=edit_files(number),
                        data={"prompt": "color: red", "num_inference_steps": steps},
                    )
                outcomes[reply.status_code] += 1
            except httpx.TransportError as fault:
                outcomes[type(fault).__name__] += 1
            time.sleep(generator.random() * 0.05)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for sender in senders:
        sender.start()
    wait_until(lambda: outcomes[200] > 0, 30)
    time.sleep(moment_s)
    start = time.monotonic()
    process.popen.send_signal(signal.SIGTERM)
    with httpx.Client(base_url=process.url) as client:
        while is_ready(process, client):
            time.sleep(0.02)
    is_open.clear()
    for sender in senders:
        sender.join(60)
    code = process.popen.wait(60)
    assert code == 0, process.lines[-5:]
    return outcomes, time.monotonic() - start


def test_sigterm_under_load_loses_nothing(tiny_bundle: Path) -> None:
    with running_process("--drain-delay-s", "0.5", "--max-queue", "16", str(tiny_bundle)) as process:
        outcomes, seconds = terminate_under_load(process, 0.2, "10")
    # A refused connection carried no accepted request; a broken one would have another class.
    assert outcomes.keys() <= {200, 503, "ConnectError"}, outcomes
    assert seconds < 35
    assert process.lines[-1]["message"] == "stopped"


@pytest.mark.slow
def test_sigterm_at_twenty_random_moments_loses_nothing(tiny_bundle: Path) -> None:
    generator = random.Random(3)
    for _ in range(20):
        with running_process(str(tiny_bundle)) as process:
            outcomes, seconds = terminate_under_load(process, generator.random() * 2, "20")
        print(dict(outcomes), f"{seconds:.1f} s")
        assert outcomes.keys() <= {200, 429, 503, "ConnectError"}, outcomes
        assert seconds < 35


def test_a_second_signal_ends_running_requests_with_503(tiny_bundle: Path) -> None:
    with running_process(
        "--drain-delay-s", "0", "--drain-timeout-s", "20", "--max-steps", "1000", "--timeout-s", "600", str(tiny_bundle)
    ) as process:
        replies: list[httpx.Response] = []

        def send() -> None:
            data = {"prompt": "color: red", "num_inference_steps": "1000", "n": "4"}
            replies.append(httpx.post(f"{process.url}/v1/images/edits", files=edit_files(), data=data, timeout=60))

        sender = threading.Thread(target=send)
        sender.start()
        wait_until(lambda: "alterbute_requests_running 1.0" in httpx.get(f"{process.url}/metrics").text, 60)
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("draining")
        refused = httpx.post(f"{process.url}/v1/images/edits", files=edit_files(), data={"prompt": "color: red"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"]
        assert refused.headers["connection"] == "close"
        assert httpx.get(f"{process.url}/health/live").status_code == 200
        start = time.monotonic()
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(20) == 0
        assert time.monotonic() - start < 15
        sender.join(10)
    assert replies[0].status_code == 503
    assert replies[0].json()["error"]["code"] == "draining"
    assert replies[0].headers["x-should-retry"] == "true"


def test_a_port_in_use_is_reported_before_the_bundle_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert main(["serve", "--port", str(port), "/no/bundle"]) == 2
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err
