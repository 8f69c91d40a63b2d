"""One build, one driver and one bundle for all tests of the C++ library."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from alterbute import Editor
from alterbute.bundle import default_bundle_path

from tests.cpp.build import FAST, build, library, require_tools
from tests.cpp.driver import Driver
from tests.cpp.examples import example

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


@pytest.fixture(scope="session")
def server(built: Path, demo: Path) -> Iterator[str]:
    """Address of the HTTP example with the demo bundle."""
    env = {**os.environ, "ALTERBUTE_ONNXRUNTIME": str(library())}
    with subprocess.Popen(
        [example(built, "http_server"), demo, "0"], stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield f"http://{line.split()[-1]}"
        process.terminate()
