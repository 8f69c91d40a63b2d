"""What an untrusted bundle or key can hold is refused with a typed error, as in Python, before a library sees it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from alterbute.bundle import open_bundle, read_trust_keys
from alterbute.errors import is_printable
from alterbute.images.photo import Pixels

from tests.cpp.driver import Driver, Refused
from tests.cpp.test_bundles import refusal_of
from tests.support.bent_bundles import BentBundle, bent_bundles, one_of_each_kind, write_bent


def bend(demo: Path, folder: Path, file: str, data: bytes) -> Path:
    """A copy of a bundle in which one file has other bytes, and the manifest their size and hash."""
    shutil.copytree(demo, folder)
    (folder / file).write_bytes(data)
    document = json.loads((folder / "manifest.json").read_text())
    document["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def external(model: Any, **entries: str) -> None:
    """Change the first external tensor of a model; an empty value drops the entry."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    kept = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        if value:
            tensor.external_data.add(key=key, value=value)


def hide(model: Any, place: str) -> None:
    """Put a tensor with an address for a place where few readers look."""
    tensor = onnx.TensorProto(name="hidden", data_type=1, dims=[4], data_location=1)
    for key, value in (("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "4096"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    node = onnx.helper.make_node("Constant", [], ["hidden"])
    inner = onnx.helper.make_graph([node], "inner", [], [])
    if place == "attribute":
        node.attribute.add(name="value", type=4).t.CopyFrom(tensor)
        model.graph.node.append(node)
    elif place == "attributes":
        node.attribute.add(name="values", type=9).tensors.append(tensor)
        model.graph.node.append(node)
    elif place == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif place == "sparse attribute":
        node.attribute.add(name="sparse_value", type=11).sparse_tensor.values.CopyFrom(tensor)
        model.graph.node.append(node)
    elif place == "function":
        node.attribute.add(name="value", type=4).t.CopyFrom(tensor)
        model.functions.add(name="f", domain="d").node.append(node)
    elif place == "training":
        model.training_info.add().initialization.initializer.append(tensor)
    else:
        inner.initializer.append(tensor)
        branch = onnx.helper.make_node("If", ["x"], ["y"])
        (
            branch.attribute.add(name="then", type=5).g
            if place == "graph"
            else branch.attribute.add(name="then", type=10).graphs.add()
        ).CopyFrom(inner)
        model.graph.node.append(branch)


WEIGHTS_BYTES = 14_466_816
PLACES = ("attribute", "attributes", "sparse", "sparse attribute", "function", "training", "graph", "graphs")
WHERE: dict[str, dict[str, str]] = {
    "an address": {"location": "*/_ORT_MEM_ADDR_/*", "offset": "4096"},
    "a folder above": {"location": "../weights.bin"},
    "the system": {"location": "/etc/passwd"},
    "another file": {"location": "decode.onnx"},
    "no place": {"location": ""},
    "beyond the end": {"offset": "14466816"},
    "an overflow": {"offset": "999999999999999"},
    "a negative offset": {"offset": "-64"},
    "a hexadecimal offset": {"offset": "0x40"},
    "another length": {"length": "4"},
    "more keys": {"basepath": "/"},
}


@pytest.fixture(scope="module")
def decode(demo: Path) -> bytes:
    return (demo / "decode.onnx").read_bytes()


def assert_refused(driver: Driver, data: bytes) -> None:
    with pytest.raises(Refused, match=r"decode\.onnx") as refused:
        driver.ask("graph_file", [data], size=WEIGHTS_BYTES)
    assert refused.value.kind == "BundleError"
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("where", WHERE)
def test_a_tensor_outside_the_bundles_weights_is_refused(driver: Driver, decode: bytes, where: str) -> None:
    assert driver.ask("graph_file", [decode], size=WEIGHTS_BYTES)[0]["inputs"] == ["latent"]
    model = onnx.load_from_string(decode)
    external(model, **WHERE[where])
    assert_refused(driver, model.SerializeToString())


def test_an_address_in_a_bundle_reaches_no_library(driver: Driver, demo: Path, tmp_path: Path, decode: bytes) -> None:
    model = onnx.load_from_string(decode)
    external(model, **WHERE["an address"])
    folder = bend(demo, tmp_path / "bundle", "decode.onnx", model.SerializeToString())
    with pytest.raises(Refused, match=r"_ORT_MEM_ADDR_.*expected a file of the manifest: weights\.bin") as refused:
        driver.ask("open", path=str(folder), load=True)
    assert refused.value.kind == "BundleError"


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_is_found_wherever_it_may_be(driver: Driver, decode: bytes, place: str) -> None:
    model = onnx.load_from_string(decode)
    hide(model, place)
    assert_refused(driver, model.SerializeToString())


def test_forms_that_two_readers_could_read_in_two_ways_are_refused(driver: Driver, decode: bytes) -> None:
    """A second graph would be merged with the first, a long tag be cut to 32 bits, and `ORTM` be read as another format."""
    forms = {
        "merged": decode + onnx.ModelProto(graph=onnx.GraphProto(name="more")).SerializeToString(),
        "long tag": decode + b"\xba\x80\x80\x80\x40\x00",
        "longer tag": decode + b"\x8a\x80\x00\x00",
        "group": decode + b"\x0b\x0c",
        "no field": decode + b"\x00\x00",
        "cut": decode[:-1],
        "ort": b"\x12\x06\x00\x00ORTM" + decode,
        "deep": onnx_nested(40),
        "empty": b"",
    }
    for data in forms.values():
        assert_refused(driver, data)


def test_no_change_of_a_byte_does_worse_than_a_refusal(driver: Driver, decode: bytes) -> None:
    draw = np.random.default_rng(17)
    kinds: Counter[str] = Counter()
    for _ in range(1500):
        data = bytearray(decode)
        for at in draw.integers(0, len(data), 3):
            data[at] = draw.integers(0, 256)
        refused = refusal_of(lambda data=data: driver.ask("graph_file", [bytes(data)], size=WEIGHTS_BYTES))  # type: ignore[misc]
        kinds[refused[0] if refused else "taken"] += 1
    assert set(kinds) == {"BundleError", "taken"}


def onnx_nested(depth: int) -> bytes:
    """A field `graph` with graphs inside one another."""
    graph = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute's graph, node's attribute, graph's node
            graph = tag + varint(len(graph)) + graph
    return b"\x3a" + varint(len(graph)) + graph


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes(parts) + bytes([number])


@pytest.mark.parametrize("change", ["renamed", "flat", "type"])
def test_outputs_that_are_not_the_manifests_are_refused_at_load(
    driver: Driver, demo: Path, tmp_path: Path, decode: bytes, change: str
) -> None:
    model = onnx.load_from_string(decode)
    output = model.graph.output[0]
    if change == "renamed":
        output.name = "picture"
    elif change == "flat":
        del output.type.tensor_type.shape.dim[1:]
    else:
        output.type.tensor_type.elem_type = 1
    with pytest.raises(Refused, match=r"decode\.onnx") as refused:
        driver.ask(
            "open", path=str(bend(demo, tmp_path / "bundle", "decode.onnx", model.SerializeToString())), load=True
        )
    assert refused.value.kind == "BundleError"


def edit(driver: Driver, folder: Path) -> None:
    """Open a bundle and edit a photo of 8 and one of 16 bits, as `bent_runs.edit_with` does in Python."""
    photo = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    mask = np.zeros((80, 96), np.uint8)
    mask[20:60, 24:70] = 255
    pictures: tuple[Pixels, ...] = (photo, (photo.astype(np.uint16) << 8).astype(np.uint16))
    driver.ask("open", path=str(folder), load=True)
    for picture in pictures:
        driver.edit(picture, mask, prompt="color: red", seed=1, steps=1, detail="photo")


def read(driver: Driver, bundle: BentBundle) -> None:
    """Give a bent tokenizer or graph to its reader alone, which takes a hundredth of the time of loading all graphs."""
    if bundle.kind.startswith("tokenizer"):
        driver.ask("tokenizer", list(bundle.files.values()), **json.loads(bundle.manifest)["text"])
    elif bundle.kind.startswith("graph: ") and "put " not in bundle.kind:
        driver.ask("graph_file", list(bundle.files.values()), size=WEIGHTS_BYTES)


@pytest.mark.parametrize("share", ["one of each kind", pytest.param("all", marks=pytest.mark.slow)])
def test_bent_bundles_are_refused_with_a_typed_error(built: Path, demo: Path, tmp_path: Path, share: str) -> None:
    """None is taken, ends the process, takes it 5 s, or makes it grow beyond 1 GB.

    Python refuses the same ones: tests/hostile/test_bent_bundles.py.
    """
    bundles, folder = list(bent_bundles(demo)), tmp_path / "bent"
    kinds: Counter[str] = Counter()
    failed, longest = [], (0.0, "")
    with Driver(built / "tests" / "driver") as driver:
        for bundle in bundles if share == "all" else one_of_each_kind(bundles):
            write_bent(bundle, demo, folder)
            before_s, kind = driver.cpu_s, "taken"
            try:
                if share != "all":
                    read(driver, bundle)
                edit(driver, folder)
            except Refused as fault:
                kind = fault.kind if is_printable(str(fault)) else "not printable"
            except AssertionError as fault:  # of a driver that died
                pytest.fail(f"{bundle.name}: {fault}")
            longest = max(longest, (driver.cpu_s - before_s, bundle.name))
            kinds[kind] += 1
            # ONNX Runtime itself refuses, in Python too, to write a state into memory of another size.
            if kind != "BundleError" and not (kind == "EngineError" and "output next_state" in bundle.name):
                failed.append((bundle.name, kind))
            shutil.rmtree(folder)
        peak = driver.peak_bytes
    print(f"{kinds.total()} bent bundles: {dict(kinds)}, at most {longest} CPU s and {peak / 1e6:.0f} MB")
    assert not failed
    assert kinds.total() >= (1200 if share == "all" else 150)
    assert longest[0] < 5
    # Sanitizers keep a shadow of all memory.
    assert peak < (1e9 if "ASAN_OPTIONS" not in os.environ else 4e9)


def test_nothing_of_a_graph_that_fails_is_printed(
    built: Path, demo: Path, tmp_path: Path, decode: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load_from_string(decode)
    for node in model.graph.node:
        node.input[:] = ["bent" if name == "latent" else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([10**6]), "far"))
    nodes = [
        onnx.helper.make_node("Gather", ["latent", "far"], ["outside"], name="\x1b]0;owned\x07", axis=0),
        onnx.helper.make_node("Add", ["latent", "outside"], ["bent"]),
    ]
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    folder = bend(demo, tmp_path / "bundle", "decode.onnx", model.SerializeToString())
    with (
        Driver(built / "tests" / "driver") as driver,
        pytest.raises(Refused, match="failed in ONNX Runtime") as refused,
    ):
        edit(driver, folder)
    assert is_printable(str(refused.value))
    assert capfd.readouterr().err == ""


SMALL_ORDER = ("01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32, "00" * 31 + "80", "01" + "00" * 30 + "80")
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
NOT_CANONICAL = ("ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "ff", "ff" * 32)
OFF_THE_CURVE = "02" + "00" * 31


def test_keys_that_fit_forged_signatures_are_refused_as_in_python(driver: Driver, demo: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pub"
    for digits in (*SMALL_ORDER, ORDER_8, ORDER_8[:-2] + "85", *NOT_CANONICAL, OFF_THE_CURVE):
        path.write_bytes(base64.b64encode(bytes.fromhex(digits)))
        ours = refusal_of(lambda: open_bundle(demo, trust_keys=read_trust_keys([path])))
        theirs = refusal_of(lambda: driver.ask("bundle", path=str(demo), trust_key=str(path)))
        assert theirs == ours and ours is not None and "no key that a signer can have" in ours[1], digits


def test_a_key_that_is_no_plain_file_is_refused_without_waiting(driver: Driver, demo: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for key in (str(tmp_path / "fifo"), "/dev/zero", str(tmp_path), ""):
        with pytest.raises(Refused, match="key") as refused:
            driver.ask("bundle", path=str(demo), trust_keys=[key])
        assert (refused.value.kind, refused.value.param) == ("InputError", "trust_keys")


OLDEST = "1.21.0"


@pytest.mark.slow
def test_the_oldest_onnx_runtime_that_is_promised_edits_to_the_same_bytes(
    built: Path, demo: Path, tmp_path: Path, cpp_editor: Driver
) -> None:
    """The wheel is fetched; without one of this system, the test says so and is skipped. 1.20 is refused by its version."""
    photo = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    mask = np.zeros((80, 96), np.uint8)
    mask[20:60, 24:70] = 255
    ours, _, _ = cpp_editor.edit(photo, mask, prompt="color: red", seed=1, steps=4)
    with Driver(built / "tests" / "driver", {"ALTERBUTE_ONNXRUNTIME": str(fetch(OLDEST, tmp_path))}) as driver:
        driver.ask("open", path=str(demo), load=True)
        theirs, _, _ = driver.edit(photo, mask, prompt="color: red", seed=1, steps=4)
        # Kernels may round otherwise from version to version; a graph that is not understood would be far off.
        assert int(np.abs(theirs[0].astype(int) - ours[0]).max()) <= 1
    with Driver(built / "tests" / "driver", {"ALTERBUTE_ONNXRUNTIME": str(fetch("1.20.1", tmp_path))}) as driver:
        with pytest.raises(Refused, match=r"of version 1\.20\.1; expected 1\.21 or newer") as refused:
            driver.ask("open", path=str(demo), load=True)
        assert refused.value.kind == "EngineError"


def fetch(version: str, folder: Path) -> Path:
    """The library of a release, out of its wheel."""
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-d",
        folder,
    ]
    done = subprocess.run([*pip, f"onnxruntime=={version}", "--python-version", tag], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no wheel of onnxruntime {version}: {done.stderr.strip()[-200:]}")
    wheel = next(folder.glob(f"onnxruntime-{version}-*.whl"))
    shutil.unpack_archive(wheel, folder / version, "zip")
    return next((folder / version).rglob("libonnxruntime.so.*"))
