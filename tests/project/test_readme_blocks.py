"""Python and shell blocks of README and docs run as printed, in an empty folder, with the demo bundle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from alterbute.bundle import default_bundle_path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ALTERBUTE = [sys.executable, "-m", "alterbute.cli"]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def work_folder(tmp_path: Path) -> Path:
    """A folder with a photo, a mask, an edited photo and README's own photo, under the names that README uses."""
    sample = default_bundle_path() / "sample"
    (tmp_path / "photo.png").write_bytes((sample / "photo.png").read_bytes())
    (tmp_path / "mask.png").write_bytes((sample / "mask.png").read_bytes())
    (tmp_path / "edited.png").write_bytes((sample / "photo.png").read_bytes())
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    return tmp_path


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_blocks_run(block: str, work_folder: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", block], cwd=work_folder, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr[-2000:]


COMMANDS = [line for block in _blocks("sh") for line in block.splitlines() if line.startswith("alterbute ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_alterbute_commands_run(line: str, work_folder: Path) -> None:
    import shlex

    words = shlex.split(line, comments=True)[1:]
    words = [str(default_bundle_path()) if word == "BUNDLE" else word for word in words]
    completed = subprocess.run([*ALTERBUTE, *words], cwd=work_folder, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr[-2000:]


def test_the_worked_example_of_the_step_graph_page_prints_what_the_page_shows(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "step_graph.md").read_text()
    code, printed = re.findall(r"```python\n(.*?)```\s+```text\n(.*?)```", page, re.DOTALL)[0]
    completed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert completed.stdout == printed


def test_readme_has_blocks_to_run() -> None:
    assert _blocks("python") and COMMANDS
