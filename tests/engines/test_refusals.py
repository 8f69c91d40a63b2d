"""Bundles that are tampered with, cut, foreign, unsigned or from the future: refused before an engine library sees a byte."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from alterbute.backends import open_backend, opener
from alterbute.backends.cuda import runtime as cuda_module
from alterbute.backends.tensorrt import module as tensorrt_module
from alterbute.bundle import MANIFEST_FILE, SIGNATURE_FILE, open_bundle
from alterbute.editor import Editor
from alterbute.errors import AlterbuteError
from alterbute_export.packaging.sign import make_key, make_signature, read_private_key, sign_bundle

from tests.backends.fake_cuda import FakeCuda
from tests.backends.test_choice import DRIVER
from tests.support.engines import write_engines

pytestmark = pytest.mark.usefixtures("on_h200")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the private keys `ours.pem` and `theirs.pem` and their public keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_key(folder / f"{name}.pem")
    return folder


@pytest.fixture(scope="session")
def signed(tiny_bundle: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = write_engines(tiny_bundle, tmp_path_factory.mktemp("signed") / "bundle")
    sign_bundle(bundle.path, keys / "ours.pem")
    return bundle.path


@pytest.fixture
def folder(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def on_h200(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with everything; `seen` fills when an engine library is handed anything."""
    seen: list[str] = []

    class Library:
        __version__ = "11.4.0.106"

        def __getattr__(self, name: str) -> Any:
            seen.append(name)
            raise AssertionError(f"the engine library was asked for {name}")

    monkeypatch.setattr(opener, "probe_driver", lambda device: DRIVER)
    monkeypatch.setattr(opener, "this_platform", lambda: "linux_x86_64")
    monkeypatch.setattr(tensorrt_module, "load_module", lambda product: Library())
    monkeypatch.setattr(cuda_module, "load_cuda", lambda extra: FakeCuda())
    return seen


def _refuse(folder: Path, seen: list[str], words: str, **options: Any) -> None:
    with pytest.raises(AlterbuteError, match=words):
        Editor.open(folder, backend="tensorrt", threads=1, **options)
    assert not seen


def _write_manifest(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / MANIFEST_FILE).write_text(text)

    return write


def _edit_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage


def _flip(position: float) -> Callable[[Path], None]:
    def change(data: bytes) -> bytes:
        index = int(position * (len(data) - 1))
        return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]

    return _edit_bytes(change)


def _to_link(path: Path) -> None:
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


def _to_shared_link(path: Path) -> None:
    os.link(path, path.parents[2] / "elsewhere")
    path.chmod(0o666)


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _swap(path: Path) -> None:
    other = next(other for other in sorted(path.parent.glob("*.plan")) if other != path)
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


DAMAGES = {
    "first byte flipped": _flip(0.0),
    "middle byte flipped": _flip(0.5),
    "last byte flipped": _flip(1.0),
    "cut to a half": _edit_bytes(lambda data: data[: len(data) // 2]),
    "one byte short": _edit_bytes(lambda data: data[:-1]),
    "empty": _edit_bytes(lambda data: b""),
    "one byte more": _edit_bytes(lambda data: data + b"\0"),
    "twice": _edit_bytes(lambda data: data + data),
    "gone": Path.unlink,
    "a link": _to_link,
    "a shared hard link": _to_shared_link,
    "a folder": _to_folder,
    "a fifo": _to_fifo,
    "another plan's bytes": _swap,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", ["h200_fp16/step.plan", "h200_fp16/decode.plan"])
def test_a_damaged_plan_is_refused(
    folder: Path, on_h200: list[str], keys: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / name)
    _refuse(folder, on_h200, "plan|plain files", trust_keys=[keys / "ours.pub"])


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_the_same_damage_is_refused_when_unsigned_engines_are_allowed(
    folder: Path, on_h200: list[str], damage: Callable[[Path], None]
) -> None:
    damage(folder / "h200_fp16/step.plan")
    _refuse(folder, on_h200, "plan|plain files", allow_unsigned=True)


@pytest.mark.parametrize("name", ["manifest.json", "weights.bin", "step.onnx", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut to a half", "empty", "gone", "twice"])
def test_a_cut_or_missing_file_beside_the_plans_is_refused(
    folder: Path, on_h200: list[str], keys: Path, name: str, damage: str
) -> None:
    DAMAGES[damage](folder / name)
    _refuse(folder, on_h200, "bundle|manifest", trust_keys=[keys / "ours.pub"])


def _edit_manifest(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / MANIFEST_FILE
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def _engine(**fields: Any) -> Callable[[Path], None]:
    def change(document: Any) -> None:
        for engine in document["engines"]:
            engine.update(fields)

    return _edit_manifest(change)


def _stranger(folder: Path) -> None:
    (folder / "h200_fp16" / "extra.so").write_bytes(b"\x7fELF")


MANIFESTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "newer schema": (_edit_manifest(lambda m: m.update(schema_version=99)), "install a newer alterbute"),
    "no engines": (_edit_manifest(lambda m: m.update(engines=[])), "no engines of tensorrt"),
    "an unknown engine key": (_engine(plugins=["libevil.so"]), "plugins"),
    "another version": (_engine(version="11.4.0.107"), "version"),
    "an older version": (_engine(version="10.16.1.11"), "version"),
    "another product": (_engine(product="tensorrt_rtx"), "no engines of tensorrt"),
    "an unknown product": (_engine(product="tensorrt_next"), "product"),
    "another GPU": (_engine(capabilities=["12.0"], gpu="NVIDIA B200"), "B200"),
    "no capabilities": (_engine(capabilities=[]), "capabilities"),
    "a capability that is none": (_engine(capabilities=["all"]), "capabilities"),
    "another platform": (_engine(platform="windows_amd64"), "platform"),
    "a newer CUDA": (_engine(cuda="14.0"), "CUDA 14.0"),
    "a version that is none": (_engine(version="11.4; rm"), "version"),
    "another graph's hash": (_engine(onnx="ab" * 32), "SHA-256"),
    "a hash that is none": (_engine(onnx="xyz"), "onnx"),
    "an unlisted plan": (_engine(file="h200_fp16/other.plan"), "files"),
    "a plan outside": (_engine(file="../../etc/passwd"), "files"),
    "an absolute plan": (_engine(file="/etc/passwd"), "files"),
    "an unknown graph": (_engine(graph="upscale"), "graph"),
    "two engines of one graph": (_engine(graph="step"), "second step"),
    "no profile": (_engine(profiles=[]), "profiles"),
    "a profile that shrinks": (_engine(profiles=[{"ids": {"min": [2], "opt": [1], "max": [1]}}]), "profiles"),
    "profiles of two ranks": (_engine(profiles=[{"ids": {"min": [1], "opt": [1, 1], "max": [1, 1]}}]), "profiles"),
    "a refit that is none": (_engine(refit="any"), "refit"),
    "a missing graph": (_edit_manifest(lambda m: m.update(engines=m["engines"][1:])), "no engine of graph"),
    "a file too many": (_stranger, "does not list"),
    "a key twice": (_write_manifest('{"name": 1, "name": 2}'), "twice"),
    "not JSON": (_write_manifest("plan"), "not JSON"),
    "5 MB of manifest": (_write_manifest(" " * 5_000_000), "bytes"),
}


@pytest.mark.parametrize(("change", "words"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_wrong_manifest_is_refused_even_when_it_is_signed(
    folder: Path, on_h200: list[str], keys: Path, change: Callable[[Path], None], words: str
) -> None:
    change(folder)
    manifest = (folder / MANIFEST_FILE).read_bytes()
    (folder / SIGNATURE_FILE).write_text(make_signature(manifest, read_private_key(keys / "ours.pem")))
    _refuse(folder, on_h200, words, trust_keys=[keys / "ours.pub"])


def _sign_with(folder: Path, **fields: Any) -> None:
    path = folder / SIGNATURE_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _link_signature(folder: Path) -> None:
    (folder / SIGNATURE_FILE).rename(folder.parent / "signature")
    (folder / SIGNATURE_FILE).symlink_to(folder.parent / "signature")


def _sign_bare(folder: Path, keys: Path) -> None:
    """A signature over the manifest without what marks it as one of a bundle."""
    signature = read_private_key(keys / "ours.pem").sign((folder / MANIFEST_FILE).read_bytes())
    _sign_with(folder, signature=base64.b64encode(signature).decode())


def _sign_as_us(folder: Path, keys: Path) -> None:
    name = json.loads((folder / SIGNATURE_FILE).read_text())["key"]
    sign_bundle(folder, keys / "theirs.pem")
    _sign_with(folder, key=name)


SIGNATURES: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "none": (lambda f, k: (f / SIGNATURE_FILE).unlink(), "not signed"),
    "of another key": (lambda f, k: sign_bundle(f, k / "theirs.pem"), "signed by key"),
    "of another key under our name": (_sign_as_us, "does not fit"),
    "of another manifest": (lambda f, k: _edit_manifest(lambda m: m.update(name="other"))(f), "does not fit"),
    "of the bare manifest": (_sign_bare, "does not fit"),
    "of zeros": (lambda f, k: _sign_with(f, signature="A" * 86 + "=="), "does not fit"),
    "too short": (lambda f, k: _sign_with(f, signature="AAAA"), "malformed"),
    "not base64": (lambda f, k: _sign_with(f, signature="?" * 88), "malformed"),
    "of another kind": (lambda f, k: _sign_with(f, algorithm="none"), "malformed"),
    "with another key in it": (lambda f, k: _sign_with(f, trust="me"), "malformed"),
    "not JSON": (lambda f, k: (f / SIGNATURE_FILE).write_text("yes"), "malformed"),
    "empty": (lambda f, k: (f / SIGNATURE_FILE).write_text(""), "malformed"),
    "10 MB long": (lambda f, k: (f / SIGNATURE_FILE).write_bytes(b" " * 10_000_000), "malformed"),
    "a link": (lambda f, k: _link_signature(f), "link|opened"),
}


@pytest.mark.parametrize(("change", "words"), SIGNATURES.values(), ids=SIGNATURES.keys())
def test_a_wrong_signature_is_refused(
    folder: Path, on_h200: list[str], keys: Path, change: Callable[[Path, Path], Any], words: str
) -> None:
    change(folder, keys)
    _refuse(folder, on_h200, words, trust_keys=[keys / "ours.pub"])


def test_an_unsigned_bundle_is_refused_without_the_explicit_word(folder: Path, on_h200: list[str]) -> None:
    (folder / SIGNATURE_FILE).unlink()
    _refuse(folder, on_h200, "not signed by a trusted key")


def test_a_signature_nobody_asked_about_is_no_trust(folder: Path, on_h200: list[str]) -> None:
    _refuse(folder, on_h200, "not signed by a trusted key")


@pytest.mark.parametrize("key", [b"short", b"x" * 33], ids=["short", "long"])
def test_a_trust_key_that_is_none_is_refused(folder: Path, on_h200: list[str], key: bytes) -> None:
    _refuse(folder, on_h200, "32 bytes", trust_keys=[key])


def test_the_untouched_bundle_reaches_the_engine_library(folder: Path, on_h200: list[str], keys: Path) -> None:
    with pytest.raises(AssertionError, match="ILogger"):
        Editor.open(folder, backend="tensorrt", threads=1, trust_keys=[keys / "theirs.pub", keys / "ours.pub"])
    assert on_h200 == ["ILogger"]


@pytest.mark.parametrize("name", ["step.mha.onnx", "weights.bin", "window.onnx"])
@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_flipped_graphs_and_weights_never_reach_onnx_runtime(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, position: float
) -> None:
    _flip(position)(folder / name)
    tampered = (folder / name).read_bytes()
    session = onnxruntime.InferenceSession
    given: list[bytes] = []

    def spy(model: bytes, *arguments: Any, **options: Any) -> Any:
        given.append(model)
        return session(model, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    backend = open_backend("onnxruntime", open_bundle(folder), threads=1)
    with pytest.raises(AlterbuteError, match="SHA-256"):
        backend.run("window" if name == "window.onnx" else "step", {})
    backend.close()
    assert tampered not in given
