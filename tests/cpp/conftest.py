"""One build, one driver and one bundle for all tests of the C++ library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alterbute import Editor
from alterbute.bundle import default_bundle_path, describe_files, open_bundle, write_manifest

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
    with Driver(built / "tests" / "driver") as running:
        yield running


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle, with a solver table where it was exported without one."""
    found = open_bundle(default_bundle_path())
    if found.manifest.solver_table:
        return found.path
    from alterbute_export.solver_table import write_solver_table

    folder = tmp_path_factory.mktemp("bundles") / "demo"
    shutil.copytree(found.path, folder)
    table = write_solver_table(folder, found.manifest.scheduler, found.manifest.defaults.spacing)
    write_manifest(folder, replace(found.manifest, files=describe_files(folder), solver_table=table))
    return folder


@pytest.fixture(scope="session")
def python_editor(demo: Path) -> Iterator[Editor]:
    with Editor.open(demo) as editor:
        yield editor


@pytest.fixture(scope="session")
def cpp_editor(driver: Driver, demo: Path) -> Driver:
    """The driver with the demo bundle open."""
    driver.ask("open", path=str(demo), load=True)
    return driver
