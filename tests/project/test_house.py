"""Promises about the tree itself: sizes, paths, and that README and Makefile agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = {"runtime", "export", "engines", "demo", "tests", "benchmarks", "docs"}


def _tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def test_no_source_file_is_over_400_lines() -> None:
    long = [path.name for path in _tracked() if path.suffix == ".py" and len(path.read_text().splitlines()) > 400]
    assert not long


def test_no_file_is_over_16_megabytes_and_none_is_a_pickle() -> None:
    for path in _tracked():
        assert path.stat().st_size <= 16 * 2**20, path
        assert path.suffix not in {".pt", ".pth", ".pkl", ".ckpt", ".whl"}, path


def test_top_level_folders_are_those_of_the_design() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in _tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert {name for name in folders if not name.startswith(".")} <= ROOMS


def test_readme_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_readme_make_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()):
        assert command in targets, command


def test_ci_runs_the_readme_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
