"""The C++ side of a comparison: a process that answers requests, so that its start is paid once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from alterbute.images.photo import Bytes, Pixels
from numpy.typing import NDArray

from tests.cpp.build import library


class Refused(Exception):
    """An `alterbute::Error`: `kind` is its class, the rest as in `alterbute.errors`."""

    def __init__(self, kind: str, message: str, param: str, code: str) -> None:
        super().__init__(message)
        self.kind, self.param, self.code = kind, param, code


class Driver:
    """Talks to `driver` (runtime/cpp/tests/driver.cpp)."""

    def __init__(self, program: Path, env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "ALTERBUTE_ONNXRUNTIME": str(library()), **(env or {})},
        )

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the process took so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def peak_bytes(self) -> int:
        """Largest resident memory of the process so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def ask(self, verb: str, blobs: Sequence[bytes] = (), **fields: object) -> tuple[dict[str, Any], list[bytes]]:
        """One request.

        Raises:
            Refused: the library refused it.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        line = _exact({"do": verb, "bytes": [len(blob) for blob in blobs], **fields})
        self._process.stdin.write(json.dumps(line).encode() + b"\n" + b"".join(blobs))
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the driver died at {json.dumps(line)[:300]} (exit code {self._process.wait()})"
        told: dict[str, Any] = json.loads(answer)
        parts = [self._process.stdout.read(size) for size in told["bytes"]]
        if "error" in told:
            raise Refused(told["error"], told["message"], told["param"], told["code"])
        return told, parts

    def edit(
        self, photo: Pixels, mask: Pixels | None, **options: Any
    ) -> tuple[list[Pixels], list[Bytes], dict[str, Any]]:
        """Images, alphas, and the rest of the answer; pictures among the options are sent as such, with their profile if there is
        one, such as `photo_profile`."""
        blobs: list[bytes] = []
        fields: dict[str, Any] = {}
        for name, value in {"photo": photo, "mask": mask, **options}.items():
            if isinstance(value, np.ndarray):
                channels = value.shape[2] if value.ndim == 3 else 1
                fields[name] = [len(blobs), value.shape[1], value.shape[0], channels, 8 * value.itemsize]
                blobs.append(np.ascontiguousarray(value).tobytes())
            elif isinstance(value, bytes):
                fields[name.removesuffix("_profile")].append(len(blobs))
                blobs.append(value)
            else:
                fields[name] = value
        told, parts = self.ask("edit", blobs, **fields)
        height, width = photo.shape[:2]
        images = [np.frombuffer(part, photo.dtype).reshape(height, width, told["channels"]) for part in parts[::2]]
        alphas = [np.frombuffer(part, np.uint8).reshape(height, width) for part in parts[1::2]]
        return images, alphas, told

    def noise(self, seed: int, image: int, step: int, size: int) -> NDArray[np.float32]:
        """What `draw_noise` draws."""
        _, parts = self.ask("noise", seed=seed, image=image, step=step, size=size)
        return np.frombuffer(parts[0], np.float32)

    def close(self) -> int:
        """The process's exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(timeout=60)
        self._process.stdout.close()
        return code

    def __enter__(self) -> Driver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _exact(value: Any) -> Any:
    """The value with integers beyond 2^53 as their digits: the library's JSON has none, and seeds are larger."""
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    return str(value) if isinstance(value, int) and abs(value) >= 1 << 53 else value
