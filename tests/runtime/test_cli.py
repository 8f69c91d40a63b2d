"""Promises of the command: what it prints, where, and how little it loads to print it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alterbute.cli import main
from alterbute.cli.progress import progress_bar
from alterbute.request import Progress

from tests.support.bundles import write_stub_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    return str(write_stub_bundle(tmp_path / "bundle").path)


def test_verify_says_what_it_verified(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", bundle]) == 0
    out, err = capsys.readouterr()
    assert "10 files" in out
    assert err == ""


def test_inspect_shows_the_model_its_words_and_every_graph(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", bundle]) == 0
    out, _ = capsys.readouterr()
    for words in (
        "64x64 pixels",
        "predicts sample",
        "at most 30 tokens",
        "color: red, blue",
        "20 steps of dpmpp_2m",
        "state[B,4,16,h,w]",
        "3.0e-07",
    ):
        assert words in out
    assert all(f"{name}: " in out for name in ("prompt", "identity", "scene", "step", "decode", "window", "paste"))


@pytest.mark.parametrize("words", [[], ["--help"], ["edit", "-h"], ["verify", "--help"]])
def test_help_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "Usage: alterbute" in capsys.readouterr().out


def test_every_option_has_a_twin_in_the_environment(
    bundle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALTERBUTE_EDIT_STEPS", "0")
    assert main(["edit", "--bundle", bundle]) == 2
    assert "steps is 0" in capsys.readouterr().err


def test_a_version_in_the_environment_is_not_an_option(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTERBUTE_VERSION", "0.1.0")
    assert main(["verify", bundle]) == 0


def test_verify_loads_no_pictures_arrays_or_engines(bundle: str) -> None:
    code = (
        "import sys; from alterbute.cli import main; main(sys.argv[1:]);"
        "print([name for name in ('numpy', 'PIL', 'onnxruntime', 'tokenizers', 'rich', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", bundle], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_pipe_gets_no_progress_bar_and_a_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress_bar() as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar(is_enabled=False) as progress:
        assert progress is None
    with progress_bar() as progress:
        assert progress is not None
        progress(Progress(image=0, images=1, step=1, steps=2))
