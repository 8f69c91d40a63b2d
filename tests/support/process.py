"""A server in a process of its own, as in a deployment."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(slots=True)
class Process:
    """A running `alterbute serve`, with its log lines."""

    popen: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Base address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def read(self) -> None:
        """Collect the log until the process ends."""
        assert self.popen.stderr is not None
        for text in self.popen.stderr:
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                self.lines.append({"message": text})

    def wait_for(self, message: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the first log line with this message, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.popen.poll() is None:
            match = next((line for line in self.lines if line.get("message") == message), None)
            if match is not None:
                return match
            time.sleep(0.02)
        raise AssertionError((message, self.popen.poll(), self.lines[-10:]))


@contextmanager
def running_process(
    *flags: str, environment: Mapping[str, str] | None = None, program: Sequence[str] = ("-m", "alterbute.cli")
) -> Iterator[Process]:
    """Run `alterbute serve --port 0` with these flags until the block ends; the server is ready when the block starts.

    `program` are the arguments of Python that run the command `alterbute`.
    """
    command = [sys.executable, *program, "serve", "--port", "0", "--threads", "1", *flags]
    popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    process = Process(popen)
    reader = threading.Thread(target=process.read, daemon=True)
    reader.start()
    try:
        process.port = process.wait_for("listening")["port"]
        process.wait_for("ready")
        yield process
    finally:
        popen.kill()
        popen.wait()
        reader.join(5)


def is_ready(process: Process, client: httpx.Client) -> bool:
    """Whether the server answers a load balancer's readiness probe with 200."""
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False
