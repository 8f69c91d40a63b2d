"""`alterbute-export`: one line on stderr and exit code 2 for what the user can mend."""

from __future__ import annotations

from pathlib import Path

import pytest
from alterbute_export.cli import main


@pytest.mark.parametrize(
    "arguments",
    [["bundle"], ["bundle", "nowhere", "-o", "out"], ["burn"], ["bundle", "x", "-o", "y", "--storage", "int4"]],
)
def test_user_errors_are_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_help_names_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "bundle" in capsys.readouterr().out
