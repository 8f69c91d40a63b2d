"""Keys that no signer has, empty lists of keys, files that are none, and values of the Python API: all are errors with a name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute import Editor, EditRequest
from alterbute.bundle import open_bundle, read_trust_keys, verify_bundle
from alterbute.errors import BundleError, InputError, is_printable, printable
from alterbute.images import load_photo
from alterbute.images.masks.annotations import load_annotation

from tests.support.bundles import write_stub_bundle

_PRIME = 2**255 - 19
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_WRONG: dict[str, tuple[object, ...]] = {
    "guidance": (10**400, 10**5000, -(10**400), float("nan"), float("inf"), 1j, "3", [3]),
    "solver": ([], {}, 3),
    "steps": (True, 4.0, 10**5000, [4]),
    "guidance_interval": (5, (0, None), (10**400, 1), (0.9, 0.1), ("a", "b"), (0, 1, 2)),
    "reinject": ("yes", []),
    "detail": ([], "x" * 10_000),
    "sigmas": ([],),
}


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", [0, 1, _PRIME - 1, _PRIME, _PRIME + 1, 2**255 - 1, _ORDER_8, _PRIME - _ORDER_8, 2])
def test_a_key_that_no_signer_has_is_refused(y: int, sign: int) -> None:
    with pytest.raises(InputError, match="no key that a signer can have"):
        read_trust_keys([(y | sign).to_bytes(32, "little")])


def test_a_signers_key_is_taken() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for seed in range(8):
        key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key().public_bytes_raw()
        assert read_trust_keys([key])[0].data == key


def test_an_empty_list_of_keys_is_no_wish_for_no_check(tmp_path: Path) -> None:
    bundle = write_stub_bundle(tmp_path / "bundle")
    for check in (
        lambda: Editor.open(bundle.path, trust_keys=[]),
        lambda: Editor.open(bundle, trust_keys=()),
        lambda: open_bundle(bundle.path, trust_keys=()),
        lambda: verify_bundle(bundle.path, trust_keys=()),
        lambda: read_trust_keys([]),
        lambda: read_trust_keys([""]),
    ):
        with pytest.raises(InputError) as caught:
            check()
        assert caught.value.code == "key_unusable"


def test_a_key_file_that_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero", "a" * 300, "nul\0nul"):
        with pytest.raises(InputError, match="cannot be read"):
            read_trust_keys([path])


def test_a_bundle_that_vanishes_while_it_is_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_stub_bundle(tmp_path / "bundle")
    look = Path.lstat

    def vanish(path: Path) -> os.stat_result:
        if path.name == "weights.bin":
            path.unlink(missing_ok=True)
        return look(path)

    monkeypatch.setattr(Path, "lstat", vanish)
    with pytest.raises(BundleError, match="cannot be listed"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("path", ["", "a" * 300, "nul\0nul", "/dev/null/x"])
def test_a_path_that_is_no_folder_is_refused(path: str) -> None:
    with pytest.raises(BundleError):
        open_bundle(path)


@pytest.mark.parametrize(("name", "index"), [(name, index) for name in _WRONG for index in range(len(_WRONG[name]))])
def test_a_value_of_another_kind_is_an_input_error(name: str, index: int) -> None:
    options: dict[str, Any] = {name: _WRONG[name][index]}
    with pytest.raises(InputError) as caught:
        EditRequest(prompt="red", **options)
    assert len(str(caught.value)) < 400


def test_a_masked_array_is_refused() -> None:
    pixels = np.ma.masked_array(np.zeros((64, 64, 3), np.uint8), mask=False)
    with pytest.raises(InputError, match=r"numpy\.ma.*filled"):
        load_photo(pixels)


def test_printable_text_holds_no_controls() -> None:
    text = "a\x1b[31m\n\x9b\u202e\u200b\udc80\0\U000e0041b"
    assert printable(text) == "a\\x1b[31m \\x9b\\u202e\\u200b\\udc80\\x00\\U000e0041b"
    assert is_printable(printable(text))


def test_the_manifests_names_are_those_of_the_solvers() -> None:
    from alterbute.bundle import bounds
    from alterbute.solver import SOLVERS, STATE_ROWS
    from alterbute.solver.scheduler_config import SPACINGS

    assert set(bounds.SOLVER_NAMES) == set(SOLVERS)
    assert set(bounds.SPACINGS) == set(SPACINGS)
    assert bounds.STATE_ROWS == STATE_ROWS


def test_annotations_are_read_from_files_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "endless.json", "pipe.json#3"):
        with pytest.raises(InputError, match="is not a file") as caught:
            load_annotation(tmp_path / name, (64, 64))
        assert caught.value.code == "annotation_unreadable"
