"""A bundle that Python refuses is refused by C++, in the same words; and no bytes do worse than that."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alterbute.bundle import WEIGHTS_FILE, Bundle, open_bundle, parse_manifest, read_trust_keys, verify_bundle
from alterbute.errors import AlterbuteError, BundleError
from alterbute.solver.solver_table import read_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cpp.conftest import SOLVER_TABLE
from tests.cpp.driver import Driver, Refused
from tests.runtime import test_bundle as python_suite
from tests.support.bundles import write_stub_bundle


def cases_of(test: Callable[..., None]) -> list[tuple[Any, ...]]:
    """The parameters of a test of the Python suite: what is added there is compared here."""
    return next(mark.args[1] for mark in test.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]


def refusal_of(call: Callable[[], object]) -> tuple[str, str] | None:
    """Class and words of what a call refuses with; None when it does not."""
    try:
        call()
    except AlterbuteError as fault:
        return type(fault).__name__, str(fault)
    except Refused as fault:
        return fault.kind, str(fault)
    return None


def assert_same_refusal(ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    expected = refusal_of(ours)
    assert expected is not None, "Python accepts it"
    assert refusal_of(theirs) == expected


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_stub_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(("damage", "words"), cases_of(python_suite.test_a_damaged_folder_is_refused))
def test_a_damaged_folder_is_refused_in_pythons_words(
    driver: Driver, bundle: Bundle, damage: Callable[[Path], None], words: str
) -> None:
    damage(bundle.path / WEIGHTS_FILE)
    assert_same_refusal(
        lambda: verify_bundle(bundle.path), lambda: driver.ask("bundle", path=str(bundle.path), how="verify")
    )


def test_bytes_swapped_after_the_manifest_was_checked_are_not_returned(driver: Driver, bundle: Bundle) -> None:
    (bundle.path / "step.onnx").write_bytes(b"evil")
    assert_same_refusal(
        lambda: bundle.read("step.onnx"),
        lambda: driver.ask("bundle", path=str(bundle.path), how="read", name="step.onnx"),
    )


def test_a_name_outside_the_manifest_is_never_read(driver: Driver, bundle: Bundle) -> None:
    assert_same_refusal(
        lambda: bundle.read("../secret"),
        lambda: driver.ask("bundle", path=str(bundle.path), how="read", name="../secret"),
    )


def test_several_resolutions_are_refused_rather_than_one_of_them_taken(driver: Driver, bundle: Bundle) -> None:
    document: Any = json.loads((bundle.path / "manifest.json").read_text())
    side = document["resolution"]
    for sides, is_fine in (([], True), ([side], True), ([side, 2 * side], False)):
        (bundle.path / "manifest.json").write_text(json.dumps({**document, "resolutions": sides}))
        open_bundle(bundle.path)
        refused = refusal_of(partial(driver.ask, "bundle", path=str(bundle.path), how="verify"))
        assert (refused is None) == is_fine, sides
        assert is_fine or (refused is not None and f"resolutions [{side}, {2 * side}]; expected one" in refused[1])


def test_sound_bundles_are_accepted_with_their_bytes(driver: Driver, bundle: Bundle, demo: Path) -> None:
    driver.ask("bundle", path=str(demo), how="verify")
    os.link(bundle.path / WEIGHTS_FILE, bundle.path.parent / "cache")
    (bundle.path / WEIGHTS_FILE).chmod(0o644)
    _, parts = driver.ask("bundle", path=f"{bundle.path}//./", how="read", name=WEIGHTS_FILE)
    assert parts == [bundle.read(WEIGHTS_FILE)]


@pytest.mark.parametrize("name", ["nowhere", "file", "link", "fifo", "big"])
def test_odd_places_are_refused_in_pythons_words(driver: Driver, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "elsewhere.json").write_text("{}")
    for folder in ("link", "fifo", "big"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link" / "manifest.json").symlink_to(tmp_path / "elsewhere.json")
    os.mkfifo(tmp_path / "fifo" / "manifest.json")
    (tmp_path / "big" / "manifest.json").write_bytes(b" " * (4 << 20) + b"{}")
    assert_same_refusal(lambda: open_bundle(tmp_path / name), lambda: driver.ask("bundle", path=str(tmp_path / name)))


def compare_manifest(driver: Driver, text: bytes) -> None:
    """The same refusal, or none on either side; a JSON library's own reason stands in parentheses and is not compared."""
    expected, found = refusal_of(lambda: parse_manifest(text)), refusal_of(lambda: driver.ask("manifest", [text]))
    if expected and expected[1].startswith("manifest.json is not JSON ("):
        assert found is not None and found[0] == "BundleError" and found[1].startswith("manifest.json is not JSON ("), (
            found
        )
    else:
        assert any_missing(found) == any_missing(expected), text[:500]


def any_missing(refusal: tuple[str, str] | None) -> tuple[str, str] | None:
    """The refusal without the name of a missing key: of several, Python names one that its sets happen to give first."""
    return refusal and (refusal[0], re.sub(r"\w+` is missing", "...` is missing", refusal[1]))


@pytest.mark.parametrize(("path", "value", "words"), cases_of(python_suite.test_a_wrong_key_is_named), ids=str)
def test_a_wrong_key_is_named_in_pythons_words(
    driver: Driver, bundle: Bundle, path: tuple[str, ...], value: object, words: str
) -> None:
    document: Any = json.loads((bundle.path / "manifest.json").read_text())
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    compare_manifest(driver, json.dumps(document).encode())


ENGINE: dict[str, Any] = {
    "graph": "step",
    "file": "step.onnx",
    "recipe": "h100",
    "product": "tensorrt",
    "version": "11.4.0",
    "platform": "linux",
    "fit": "same_gpu",
    "capabilities": ["9.0"],
    "gpu": "H100",
    "cuda": "13.0",
    "driver": "580.65",
    "precision": "fp16",
    "profiles": [{"state": {"min": [1, 4], "opt": [2, 4], "max": [4, 4]}}],
    "builder": {"level": 3},
    "source": "step.onnx",
    "onnx": "0" * 64,
    "weights": {WEIGHTS_FILE: "1" * 64},
    "timing_cache": None,
    "refit": "none",
}
GRID = {"blank": "zeros", "null_identity": "encoded", "photo_fill": 0.0, "reference_fill": -1.0, "mask": "object"}
MERGED = {"kind": "lora", "file": "style.safetensors", "sha256": "0" * 64, "weight": 0.8, "token": None}
TABLE = {"file": WEIGHTS_FILE, "max_steps": 50, "spacing": "trailing", "solvers": ["ddim"]}
HUGE = 10**30
NUMBERS: tuple[Any, ...] = (True, 0, -1, 3, 7.5, -0.0, 1e16, 1.5e-7, 4.0, HUGE)
WRONG = (*NUMBERS, None, "", "x'\"", "é\n\u200b", "0" * 64, "../x", "9.0", [], [1, "a"], {}, {"k": [None]})


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside a JSON value; of long lists and of graphs only the first."""
    if isinstance(value, dict):
        for name in value:
            if path != ("graphs",) or name in ("step", "window"):
                yield (*path, name)
                yield from places_in(value[name], (*path, name))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            yield (*path, index)
            yield from places_in(value[index], (*path, index))


@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_manifest_with_anything_wrong_anywhere_is_refused_in_pythons_words(
    driver: Driver, bundle: Bundle, every: int
) -> None:
    document: Any = json.loads((bundle.path / "manifest.json").read_text())
    shapes = {
        edge["name"]: dict.fromkeys(("min", "opt", "max"), [1] * len(edge["shape"]))
        for edge in document["graphs"]["step"]["inputs"]
    }
    document |= {
        "engines": [{**ENGINE, "profiles": [shapes]}],
        "grid": GRID,
        "family": "grid",
        "merged": [MERGED],
        "solver_table": TABLE,
    }
    sound = json.dumps(document)
    compare_manifest(driver, sound.encode())
    assert refusal_of(lambda: parse_manifest(sound.encode())) is None
    for number, path in enumerate(places_in(document)):
        for value in ("missing", "unknown", *WRONG)[number % every :: every]:
            changed = json.loads(sound)
            place = changed
            for name in path[:-1]:
                place = place[name]
            if value == "missing":
                del place[path[-1]]
            elif value == "unknown":
                if not isinstance(place[path[-1]], dict):
                    continue
                place[path[-1]]["zz"] = 1
            else:
                place[path[-1]] = value
            text = json.dumps(changed).encode()
            compare_manifest(driver, text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":1,"a":2}',
        b"NaN",
        b"null",
        b"3",
        b'{"schema_version": 7}',
        b"\xff",
        b"{}x",
        b"{}\0",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"1e999",
        b"1e-999",
        b"9" * 400,
        b"9007199254740992",
        b"0." + b"1" * 70,
        b'"\\ud800"',
        b"[" * 65 + b"]" * 65,
    ],
    ids=lambda text: text[:16].decode("latin1"),
)
def test_what_is_no_manifest_is_refused_as_in_python(driver: Driver, text: bytes) -> None:
    compare_manifest(driver, text)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.binary(max_size=200) | st.text(max_size=60).map(lambda text: json.dumps({text: text}).encode()))
def test_no_bytes_crash_the_manifest_reader(driver: Driver, text: bytes) -> None:
    with pytest.raises(Refused):
        driver.ask("manifest", [text])


def test_a_signed_bundle_opens_with_its_key_and_no_other(driver: Driver, bundle: Bundle, tmp_path: Path) -> None:
    signing = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.ed25519", reason="needs the package cryptography"
    )
    import base64

    from alterbute.bundle.signature import key_name, signed_text

    keys = {}
    for name in ("ours", "theirs"):
        private = signing.Ed25519PrivateKey.generate()
        keys[name] = private
        (tmp_path / f"{name}.pub").write_bytes(base64.b64encode(private.public_key().public_bytes_raw()) + b"\n")
    public = keys["ours"].public_key().public_bytes_raw()
    manifest = (bundle.path / "manifest.json").read_bytes()

    def check(key: str = "ours") -> None:
        path = tmp_path / f"{key}.pub"
        ours = refusal_of(lambda: open_bundle(bundle.path, trust_keys=read_trust_keys([path])))
        assert refusal_of(lambda: driver.ask("bundle", path=str(bundle.path), trust_key=str(path))) == ours

    def sign(text: bytes, **changes: object) -> None:
        signature = base64.b64encode(keys["ours"].sign(signed_text(text))).decode()
        record = {"algorithm": "ed25519", "key": key_name(public), "signature": signature, **changes}
        (bundle.path / "manifest.sig").write_text(json.dumps(record))

    check()  # unsigned
    sign(manifest)
    driver.ask("bundle", path=str(bundle.path), trust_key=str(tmp_path / "ours.pub"))
    check("theirs")
    for changes in (
        {"algorithm": "rsa"},
        {"key": "x" * 50},
        {"signature": "AAAA"},
        {"signature": "?"},
        {"signature": 1},
        {"more": 1},
    ):
        sign(manifest, **changes)
        check()
    sign(manifest + b" ")
    check()
    (bundle.path / "manifest.sig").write_text("{")
    assert refusal_of(lambda: driver.ask("bundle", path=str(bundle.path), trust_key=str(tmp_path / "ours.pub")))
    for number, data in enumerate((b"", b"AAAA", b"?", base64.b64encode(public)[:-1], base64.b64encode(public + b"x"))):
        (tmp_path / f"bad{number}.pub").write_bytes(data)
        check(f"bad{number}")
    check("nowhere")


def test_a_bundle_that_the_cpu_cannot_run_is_refused_in_pythons_words(
    driver: Driver, demo: Path, tmp_path: Path
) -> None:
    from alterbute.backends import open_backend

    shutil.copytree(demo, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    document = json.loads(path.read_text())
    document["graphs"]["step"]["variants"] = [
        {"backend": backend, "file": "step.onnx", "precision": "bf16"} for backend in ("tensorrt", "onnxruntime-cuda")
    ]
    path.write_text(json.dumps(document))
    ours = refusal_of(lambda: open_backend("onnxruntime", open_bundle(tmp_path / "bundle")))
    assert ours is not None
    assert "'step' is bf16, for tensorrt, onnxruntime-cuda" in ours[1]
    assert refusal_of(lambda: driver.ask("open", path=str(tmp_path / "bundle"), load=True)) == ours


def test_an_edit_never_starts_on_altered_weights_or_graphs(driver: Driver, demo: Path, tmp_path: Path) -> None:
    for name in ("step.mha.onnx", WEIGHTS_FILE, SOLVER_TABLE):
        copy = tmp_path / name.replace(".", "_")
        shutil.copytree(demo, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(Refused, match="SHA-256") as refused:
            driver.ask("open", path=str(copy), load=True)
        assert refused.value.kind == "BundleError"


def test_a_graph_that_is_none_is_refused(driver: Driver, bundle: Bundle) -> None:
    from alterbute.backends import open_backend

    backend = open_backend("onnxruntime", bundle)
    ours = refusal_of(lambda: backend.run("paste", {}))
    with pytest.raises(Refused, match="no solver table"):
        driver.ask("open", path=str(bundle.path))
    assert ours is not None and "graph file 'paste.onnx' is not what an export writes" in ours[1]
    theirs = refusal_of(lambda: driver.ask("graph_file", [bundle.read("paste.onnx")], size=0))
    assert theirs is not None and theirs[0] == ours[0] and "is not what an export writes" in theirs[1]


def test_wrong_solver_tables_are_refused_as_in_python(driver: Driver, demo: Path) -> None:
    data = (demo / SOLVER_TABLE).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])

    def rebuilt(change: Callable[[Any], object]) -> bytes:
        changed = json.loads(json.dumps(header))
        change(changed)
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + size :]

    name = next(name for name in header if name.endswith(".timestep"))
    meta = "__metadata__"
    tables = [b"", b"\0" * 7, b"\xff" * 8, data[:-1], data + b"x", data[: 8 + size]]
    tables += [(3).to_bytes(8, "little") + b"[1]", (2).to_bytes(8, "little") + b"{}"]
    changes: list[Callable[[Any], object]] = [
        lambda h: h.pop(meta),
        lambda h: h[meta].update(version="2"),
        lambda h: h[meta].update(state_rows="3"),
        lambda h: h[meta].update(max_steps="many"),
        lambda h: h[meta].update(max_steps="49"),
        lambda h: h[meta].update(solvers=""),
        lambda h: h[meta].update(solvers="ddim"),
        lambda h: h.pop(name),
        lambda h: h[name].update(dtype="F64"),
        lambda h: h[name].update(shape=[-1]),
        lambda h: h[name].update(shape=[1 << 62, 1 << 62]),
        lambda h: h[name].update(shape=[0, 1 << 62]),
        lambda h: h[name].update(shape=[]),
        lambda h: h[name].update(data_offsets=[0, 4]),
        lambda h: h[name].update(data_offsets=[1e300, 4]),
        lambda h: h[name].update(extra=1),
    ]
    for table in [*tables, *map(rebuilt, changes)]:
        ours = refusal_of(partial(read_table, table))
        theirs = refusal_of(partial(driver.ask, "solver", [table], table=os.urandom(4).hex(), solver="ddim", steps=5))
        assert ours is not None and theirs is not None
        assert theirs[0] == ours[0] == BundleError.__name__
        assert theirs[1].split(" has ")[0] == ours[1].split(" has ")[0]
    infinite = bytearray(data)
    infinite[-1], infinite[-2] = 0x7F, 0x80
    with pytest.raises(Refused, match=r"infinite|rise"):
        driver.ask("solver", [bytes(infinite)], table="infinite", solver="ddim", steps=5)
