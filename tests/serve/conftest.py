"""A server that is shared by all tests that do not change its settings or state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import RunningServer, serving


@pytest.fixture(scope="session")
def server(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server of the tiny bundle with room for 16 waiting images, other settings at their defaults, and no API key."""
    with serving(tiny_bundle, max_queue=16) as running:
        yield running
