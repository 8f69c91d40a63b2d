"""One build, one driver and one bundle for all tests of the C++ library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from alterbute import Editor
from alterbute.bundle import default_bundle_path

from tests.cpp.build import FAST, build, require_tools
from tests.cpp.driver import Driver

SOLVER_TABLE = "solvers.safetensors"


@pytest.fixture(scope="session")
def built() -> Path:
    """The build folder of the library, its examples and its test programs; $ALTERBUTE_CPP_BUILD names one that is there."""
    if given := os.environ.get("ALTERBUTE_CPP_BUILD"):
        return Path(given)
    require_tools()
    return build("fast", *FAST, "-DALTERBUTE_TESTS=ON")


@pytest.fixture(scope="session")
def driver(built: Path) -> Iterator[Driver]:
    running = Driver(built / "tests" / "driver")
    yield running
    # A sanitizer that finds something, such as what was never freed, says so as the process ends.
    assert running.close() == 0


@pytest.fixture(scope="session")
def demo() -> Path:
    return default_bundle_path()


@pytest.fixture(scope="session")
def python_editor(demo: Path) -> Iterator[Editor]:
    with Editor.open(demo, backend="onnxruntime") as editor:
        yield editor


@pytest.fixture(scope="session")
def cpp_editor(driver: Driver, demo: Path) -> Driver:
    """The driver with the demo bundle open."""
    driver.ask("open", path=str(demo), load=True)
    return driver
