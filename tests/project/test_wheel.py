"""The wheel: its content and size, and an edit with it from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_wheel_holds_the_two_packages_and_the_demo_bundle_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert roots == {"alterbute", "alterbute_export"}
    assert "alterbute/demo_bundle/manifest.json" in names
    assert {"alterbute/py.typed", "alterbute_export/py.typed"} <= set(names)


def test_wheel_is_at_most_20_megabytes(wheel: Path) -> None:
    assert wheel.stat().st_size <= 20 * 10**6


def test_installed_wheel_edits_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, work_folder = tmp_path / "site", tmp_path / "work_folder"
    work_folder.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import alterbute; assert alterbute.__file__.startswith(sys.argv[1]); "
        "from alterbute.cli import main; sys.argv = ['alterbute', 'edit', '--steps', '4', '--seed', '1', '-o', 'out.png']; main()"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=work_folder, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    assert (work_folder / "out.png").exists()
