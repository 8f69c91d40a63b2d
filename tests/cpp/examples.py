"""The example programs: where they are, and requests to the one that serves HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest


def example(built: Path, name: str) -> Path:
    """The program; the test is skipped where it cannot be built."""
    if not (built / name).exists():
        pytest.skip("the examples are not built: no libpng headers on this machine (`apt-get install libpng-dev`)")
    return built / name


def form(fields: dict[str, bytes]) -> tuple[bytes, str]:
    """A body of multipart/form-data and its type."""
    mark = b"--x7d9f3"
    parts = []
    for name, data in fields.items():
        parts += [mark, f'Content-Disposition: form-data; name="{name}"'.encode(), b"", data]
    return b"\r\n".join([*parts, mark + b"--", b""]), "multipart/form-data; boundary=x7d9f3"


def post(url: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    """Status and body of the answer of `http_server` to an edit."""
    request = urllib.request.Request(f"{url}/edit", body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read()
