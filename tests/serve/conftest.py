"""One server for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import RunningServer, serving


@pytest.fixture(scope="session")
def served(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server of the tiny bundle with its defaults and no key."""
    with serving(tiny_bundle, max_queue=16) as running:
        yield running
