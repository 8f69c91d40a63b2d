"""The bundle: only verified bytes are returned, and the error of a wrong manifest names the key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from alterbute.bundle import (
    SCHEMA_VERSION,
    WEIGHTS_FILE,
    Bundle,
    Manifest,
    default_bundle_path,
    open_bundle,
    parse_manifest,
    verify_bundle,
)
from alterbute.errors import BundleError
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bundles import write_stub_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_stub_bundle(tmp_path / "bundle")


def test_manifest_read_back_equals_the_one_written(bundle: Bundle) -> None:
    assert verify_bundle(bundle.path).manifest == bundle.manifest


def test_read_returns_the_bytes_of_the_file(bundle: Bundle) -> None:
    assert bundle.read("step.onnx") == b"step"


def test_bytes_swapped_after_opening_are_never_returned(bundle: Bundle) -> None:
    (bundle.path / "step.onnx").write_bytes(b"evil")
    with pytest.raises(BundleError, match="SHA-256"):
        bundle.read("step.onnx")


def test_a_name_outside_the_manifest_is_never_read(bundle: Bundle) -> None:
    (bundle.path.parent / "secret").write_text("s")
    with pytest.raises(BundleError, match="lists no file"):
        bundle.read("../secret")


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def _symlink(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _writable_hard_link(path: Path) -> None:
    os.link(path, path.parent.parent / "elsewhere")
    path.chmod(0o666)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _unlisted_file(path: Path) -> None:
    (path.parent / "notes.txt").write_text("hello")


def _deeper_folder(path: Path) -> None:
    (path.parent / "tokenizer" / "deeper").mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "is missing"),
        (_append, "4097 bytes"),
        (_flip, "SHA-256"),
        (_symlink, "is a link"),
        (_writable_hard_link, "hard-linked"),
        (_fifo, "a device"),
        (_unlisted_file, "notes.txt"),
        (_deeper_folder, "deeper"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_folder_is_refused(bundle: Bundle, damage: Callable[[Path], None], message: str) -> None:
    damage(bundle.path / WEIGHTS_FILE)
    with pytest.raises(BundleError, match=message):
        verify_bundle(bundle.path)


def test_a_hard_link_that_only_its_owner_can_write_is_accepted_because_uv_installs_wheels_so(bundle: Bundle) -> None:
    os.link(bundle.path / WEIGHTS_FILE, bundle.path.parent / "cache")
    (bundle.path / WEIGHTS_FILE).chmod(0o644)
    verify_bundle(bundle.path)


def test_a_manifest_through_a_link_is_refused(bundle: Bundle) -> None:
    _symlink(bundle.path / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=name):
        open_bundle(tmp_path / name)


def test_a_newer_schema_is_refused_with_both_numbers(bundle: Bundle) -> None:
    text = (
        (bundle.path / "manifest.json")
        .read_text()
        .replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 77')
    )
    with pytest.raises(BundleError, match=f"schema 77; expected {SCHEMA_VERSION}"):
        parse_manifest(text.encode())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("text",), None, "`text` is null"),
        (("text", "dim"), "8", '`text.dim` is "8"'),
        (("family",), "gan", "`family`.*'adapter'"),
        (("mask", "dilate"), 4, "`mask.dilate` is 4; expected an odd"),
        (("resolution",), 0, "`resolution` is 0"),
        (("resolution",), True, "`resolution` is true"),
        (("resolutions",), [128], r"`resolutions` is \[128\]; expected rising multiples"),
        (("resolutions",), [64, "large"], r'`resolutions\[1\]` is "large"'),
        (("attributes", "color"), ["red", 3], r"`attributes.color\[1\]` is 3"),
        (("graphs", "step", "inputs"), {}, "`graphs.step.inputs`"),
        (("graphs", "step", "variants"), [], "`graphs.step.variants` is empty"),
        (("graphs", "step", "variants", 0, "prologue"), "lost.onnx", "'lost.onnx'; expected a name listed in `files`"),
        (
            ("graphs", "step", "variants", 0, "buckets"),
            [{"slots": 3, "rows": 2}],
            "3 slots and 2 rows; expected 1 slot",
        ),
        (
            ("graphs", "step", "variants", 0, "unfused"),
            {"GroupNorm": "3"},
            "`graphs.step.variants.0..unfused.GroupNorm`",
        ),
        (("graphs", "step", "variants", 0, "audit"), 5, r"`graphs.step.variants\[0\].audit` is 5"),
        (
            ("graphs", "step", "variants", 0, "audit"),
            {"multiply_adds": 1, "shares": {"fp16": "all"}, "islands": {}, "overflow": {}},
            r"audit.shares.fp16` is \"all\"; expected a number",
        ),
        (("graphs", "warp"), {"variants": [], "inputs": [], "outputs": [], "parity": None}, "`graphs.warp"),
        (("files", "step.onnx", "sha256"), "0", "`files.step.onnx.sha256`"),
        (("files", "../x"), {"sha256": "0" * 64, "size": 1}, r"'\.\./x'"),
        (("files", "manifest.json"), {"sha256": "0" * 64, "size": 1}, r"manifest\.json"),
        (("color",), 1, "`color` is an unknown key"),
    ],
)
def test_a_wrong_key_is_named(bundle: Bundle, path: tuple[Any, ...], value: object, message: str) -> None:
    document: Any = json.loads((bundle.path / "manifest.json").read_text())
    parent = document
    for name in path[:-1]:
        parent = parent[name]
    parent[path[-1]] = value
    with pytest.raises(BundleError, match=message):
        parse_manifest(json.dumps(document).encode())


def test_each_missing_key_is_named(bundle: Bundle) -> None:
    document = json.loads((bundle.path / "manifest.json").read_text())
    # Keys that were added within schema 1: older manifests lack them.
    optional = {field.name for field in fields(Manifest) if field.default is not MISSING}
    assert optional == {"engines", "grid", "merged", "resolutions", "solver_table"}
    for name in document.keys() - optional:
        rest = {key: value for key, value in document.items() if key != name}
        with pytest.raises(BundleError, match=f"`{name}` is missing"):
            parse_manifest(json.dumps(rest).encode())


@given(st.binary(max_size=200) | st.just(b"[" * 100_000) | st.just(b'{"a":1,"a":2}') | st.just(b"NaN"))
def test_no_bytes_crash_the_manifest_reader(text: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(text)


def test_without_a_demo_bundle_the_error_names_the_expected_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    with pytest.raises(BundleError, match=r"demo bundle.*--bundle"):
        default_bundle_path()
