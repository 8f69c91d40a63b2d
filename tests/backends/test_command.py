"""The command line chooses a backend as the editor does."""

from __future__ import annotations

from pathlib import Path

import pytest
from alterbute.bundle import Bundle
from alterbute.cli import main


def _edit(bundle: Path, out: Path, *options: str) -> int:
    return main(["edit", "--bundle", str(bundle), "--steps", "1", "--seed", "1", "-o", str(out), *options])


def test_a_named_backend_without_engines_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["edit", "--steps", "1", "--backend", "tensorrt", "-o", str(tmp_path / "out.png")])
    assert code == 2
    assert "no engines of tensorrt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_the_given_key_did_not_sign_is_refused(
    engine_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from alterbute_export.packaging.sign import make_key

    public = make_key(tmp_path / "key.pem")
    assert _edit(engine_bundle.path, tmp_path / "out.png", "--trust-key", str(public)) == 2
    assert "not signed" in capsys.readouterr().err
