"""`alterbute-export`: errors that the user can correct are one line on stderr, with exit code 2."""

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


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "bundle" in capsys.readouterr().out


def test_a_sample_checkpoint_is_made_and_an_existing_folder_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "checkpoint"
    assert main(["sample-checkpoint", "sd15", "-o", str(target)]) == 0
    assert (target / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert main(["sample-checkpoint", "sd15", "-o", str(target)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["sample-checkpoint", "list"]) == 0
    assert "sdxl-adapter-plus" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (["--lora", "style.ckpt:0.5"], "--lora style.ckpt is a pickle"),
        (["--embedding", "nowhere.safetensors"], "--embedding nowhere.safetensors is not there"),
        (["--adapter", "ip-adapter.bin"], "--adapter ip-adapter.bin is a pickle"),
        (["--image-encoder", "nowhere"], "no adapter"),
    ],
)
def test_flags_for_extra_files_are_read(
    flag: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from alterbute_export.sample_checkpoints import make_checkpoint

    monkeypatch.chdir(tmp_path)
    make_checkpoint(tmp_path / "checkpoint", "sd15-inpaint")
    assert main(["bundle", "checkpoint", "-o", "bundle", *flag]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
