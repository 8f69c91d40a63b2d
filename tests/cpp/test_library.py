"""Promises of the library as it is installed: found by CMake and pkg-config, small, and with few dependencies."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import sys
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alterbute import Editor
from alterbute.bundle import read_manifest
from PIL import Image

from tests.cpp.build import BUILD, ROOT, SOURCE, build, library, run
from tests.cpp.examples import example, form, post
from tests.cpp.test_edits import draw_mask, draw_photo, python_edit
from tests.cpp.test_pictures import as_photo, widen
from tests.support.pictures import png_chunk, to_bytes
from tests.support.profiles import P3

CONSUMER = Path(__file__).parent / "consumer"
ALLOWED = {
    "libcrypto",
    "liblcms2",  # where the build has it
    "libstdc++",
    "libgcc_s",
    "libm",
    "libc",
    "libdl",
    "libpthread",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "linux-vdso",
}


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("prefix")
    run(["cmake", "--install", built, "--prefix", prefix])
    return prefix


def shared_library(prefix: Path) -> Path:
    return next(path for path in prefix.rglob("libalterbute.so.*") if not path.is_symlink())


def test_ctest_passes(built: Path, demo: Path) -> None:
    env = {"ALTERBUTE_TEST_BUNDLE": str(demo), "ALTERBUTE_ONNXRUNTIME": str(library())}
    # test_cuda.py runs the test of several editors on a GPU, over the stand-in of CUDA.
    done = run(["ctest", "--test-dir", built, "--output-on-failure", "--exclude-regex", "editors_test"], env=env)
    assert "100% tests passed" in done.stdout and "Skipped" not in done.stdout, done.stdout


def test_find_package_and_the_installed_headers_are_enough(installed: Path, demo: Path, tmp_path: Path) -> None:
    shutil.copytree(CONSUMER, tmp_path / "consumer")
    run(["cmake", "-S", tmp_path / "consumer", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}"])
    run(["cmake", "--build", tmp_path / "build"])
    done = run([tmp_path / "build" / "consumer", demo], env={"ALTERBUTE_ONNXRUNTIME": str(library())})
    assert done.stdout == f"{read_manifest(demo).name}\n"
    refused = run([tmp_path / "build" / "consumer", tmp_path / "nothing"], check=False)
    assert refused.returncode == 3 and "does not exist" in refused.stdout


def test_pkg_config_knows_the_library(installed: Path, tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("no pkg-config on this machine")
    config = next(installed.rglob("alterbute.pc")).parent
    flags = run(["pkg-config", "--cflags", "--libs", "alterbute"], env={"PKG_CONFIG_PATH": str(config)}).stdout.split()
    run(
        [
            "c++",
            "-std=c++17",
            CONSUMER / "main.cpp",
            "-o",
            tmp_path / "consumer",
            *flags,
            f"-Wl,-rpath,{shared_library(installed).parent}",
        ]
    )
    assert run([tmp_path / "consumer", tmp_path / "nothing"], check=False).returncode == 3


def test_the_library_is_small_and_needs_little(installed: Path) -> None:
    found = shared_library(installed)
    assert found.stat().st_size <= 2 << 20
    needed = re.findall(r"^\s*(\S+?)\.so", run(["ldd", found]).stdout, re.MULTILINE)
    assert {Path(name).name for name in needed} <= ALLOWED


def test_the_library_shows_its_own_names_only(installed: Path) -> None:
    lines = run(["nm", "-D", "--defined-only", "-C", shared_library(installed)]).stdout.splitlines()
    names = [line.split(maxsplit=2)[2] for line in lines]
    assert any(name.startswith("alterbute_open") for name in names)
    assert not [name for name in names if not re.match(r"(vtable for |typeinfo (name )?for )?alterbute(::|_)", name)]


def test_the_public_headers_stand_alone_in_c_and_in_cpp(tmp_path: Path) -> None:
    if shutil.which("cc") is None or shutil.which("c++") is None:
        pytest.skip("no compiler on this machine")
    (tmp_path / "one.c").write_text("#include <alterbute/alterbute.h>\n")
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{SOURCE / 'include'}", "-fsyntax-only"]
    run(["cc", "-std=c99", *strict, tmp_path / "one.c"])
    for header in sorted((SOURCE / "include" / "alterbute").glob("*.hpp")):
        (tmp_path / "one.cpp").write_text(f"#include <alterbute/{header.name}>\n")
        run(["c++", "-std=c++17", *strict, tmp_path / "one.cpp"])


def test_the_example_edits_a_png_as_python_does(built: Path, demo: Path, tmp_path: Path, python_editor: Editor) -> None:
    photo, mask = draw_photo(96, 80), draw_mask(96, 80, 0)
    (tmp_path / "photo.png").write_bytes(to_bytes(photo))
    (tmp_path / "mask.png").write_bytes(to_bytes(mask))
    command: list[str | Path] = [
        example(built, "edit_png"),
        demo,
        tmp_path / "photo.png",
        tmp_path / "mask.png",
        "color: red",
        tmp_path / "out.png",
    ]
    env = {"ALTERBUTE_ONNXRUNTIME": str(library())}
    done = run([*command, "--seed", "5", "--steps", "4"], env=env)
    assert "seed 5" in done.stdout
    ours, _, _ = python_edit(python_editor, photo, mask, {"prompt": "color: red", "seed": 5, "steps": 4})
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), ours[0])
    for wrong in (["--steps", "many"], ["--steps", "0"], ["--solver", "magic"], ["--colour", "red"]):
        refused = run([*command, *wrong], env=env, check=False)
        assert refused.returncode in (1, 2) and ("error: " in refused.stdout or "unknown option" in refused.stdout)
    (tmp_path / "photo.png").write_bytes(to_bytes(photo)[:-200])
    assert "the photo is damaged" in run(command, env=env, check=False).stdout


def test_the_example_keeps_16_bits_and_the_profile(
    built: Path, demo: Path, tmp_path: Path, python_editor: Editor
) -> None:
    mask, request = draw_mask(96, 80, 0), {"prompt": "color: red", "seed": 5, "steps": 2}
    wide, icc = widen(draw_photo(96, 80)), P3
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 96, 16, 2, 0, 0, 0))
    rows = b"".join(b"\0" + row.tobytes() for row in wide.astype(">u2"))
    parts = (b"\x89PNG\r\n\x1a\n", header, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b""))
    env = {"ALTERBUTE_ONNXRUNTIME": str(library())}
    files = {name: tmp_path / f"{name}.png" for name in ("photo", "mask", "out")}
    files["mask"].write_bytes(to_bytes(mask))
    program = example(built, "edit_png")
    command: list[str | Path] = [
        program,
        demo,
        files["photo"],
        files["mask"],
        "color: red",
        files["out"],
        "--seed",
        "5",
        "--steps",
        "2",
    ]
    files["photo"].write_bytes(b"".join(parts))
    run(command, env=env)
    assert files["out"].read_bytes()[24] == 16
    ours, _, _ = python_edit(python_editor, as_photo(wide), mask, request)
    # Pillow reads the high byte of such a level.
    assert np.array_equal(np.asarray(Image.open(files["out"])), (ours[0] >> 8).astype(np.uint8))
    files["photo"].write_bytes(to_bytes(draw_photo(96, 80), icc_profile=icc))
    done = run(command, env=env, check=False)
    if "no littlecms" in done.stdout:
        return
    assert done.returncode == 0, done.stdout
    ours, _, _ = python_edit(python_editor, as_photo(draw_photo(96, 80), icc), mask, request)
    edited = Image.open(files["out"])
    assert np.array_equal(np.asarray(edited), ours[0]) and edited.info["icc_profile"] == icc


def test_the_http_example_answers_with_the_edit_or_with_what_is_wrong(server: str, python_editor: Editor) -> None:
    photo, mask = draw_photo(64, 64), draw_mask(64, 64, 0)
    fields = {"photo": to_bytes(photo), "mask": to_bytes(mask), "prompt": b"color: red", "seed": b"9", "steps": b"2"}
    status, body = post(server, *form(fields))
    ours, _, _ = python_edit(python_editor, photo, mask, {"prompt": "color: red", "seed": 9, "steps": 2})
    assert status == 200
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), ours[0])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"steps": b"x"}, "steps"),
        ({"steps": b"2000"}, "steps"),
        ({"mask": to_bytes(mask[:40])}, "mask"),
        ({"photo": b"GIF89a"}, "photo"),
        ({"prompt": b"\xff"}, "prompt"),
    ]
    for changes, param in wrong:
        status, body = post(server, *form({**fields, **changes}))
        assert (status, json.loads(body)["error"]["param"]) == (400, param)
    del fields["mask"]
    status, body = post(server, *form(fields))
    assert (status, json.loads(body)["error"]["code"]) == (400, "mask_missing")
    for junk, kind in [
        (b"", "text/plain"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"junk", "multipart/form-data; boundary="),
    ]:
        status, body = post(server, junk, kind)
        assert (status, json.loads(body)["error"]["param"]) == (400, "body")
    with urllib.request.urlopen(f"{server}/health", timeout=10) as answer:
        assert answer.read() == b"ok\n"


SUPPRESSIONS = SOURCE / "tests"
SANITIZERS = {
    "address,undefined": {
        "ASAN_OPTIONS": "detect_leaks=1",
        "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS / 'lsan.supp'}:print_suppressions=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
    "thread": {"TSAN_OPTIONS": f"suppressions={SUPPRESSIONS / 'tsan.supp'} halt_on_error=1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers_find_nothing(built: Path, demo: Path, sanitizer: str) -> None:
    """ctest under either; under the first also the comparisons of this folder, whose driver has to end without a finding."""
    settings = ("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1", "-DALTERBUTE_TESTS=ON")
    folder = build(sanitizer.replace(",", "-"), *settings, f"-DALTERBUTE_SANITIZE={sanitizer}")
    env = {**SANITIZERS[sanitizer], "ALTERBUTE_TEST_BUNDLE": str(demo), "ALTERBUTE_ONNXRUNTIME": str(library())}
    ctest = ("ctest", "--output-on-failure", "--exclude-regex", "editors_test")
    done = run([*ctest, "--test-dir", folder], env=env, timeout_s=3000)
    assert "100% tests passed" in done.stdout and "Skipped" not in done.stdout, done.stdout
    if sanitizer == "thread":
        return
    names = ("numbers", "bundles", "edits", "pictures", "colors", "hostile", "png")
    suite = [Path(__file__).parent / f"test_{name}.py" for name in names]
    run(
        [sys.executable, "-m", "pytest", "-m", "not slow", *suite],
        env={**env, "ALTERBUTE_CPP_BUILD": str(folder)},
        timeout_s=3000,
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", ["graph_file", "manifest", "tokenizer", "safetensors"])
def test_fuzzing_the_readers_finds_nothing(built: Path, demo: Path, tmp_path: Path, target: str) -> None:
    """$ALTERBUTE_FUZZ_S seconds for each reader: 200 make ten minutes of all three."""
    clang = shutil.which("clang++") or shutil.which("clang++-14")
    if clang is None:
        pytest.skip("no clang on this machine: `apt-get install clang` brings libFuzzer")
    compilers = (f"-DCMAKE_CXX_COMPILER={clang}", f"-DCMAKE_C_COMPILER={clang.replace('++', '')}")
    folder = build(
        "fuzz", *compilers, "-DALTERBUTE_FUZZERS=ON", "-DALTERBUTE_EXAMPLES=OFF", targets=(f"fuzz_{target}",)
    )
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(fuzz_seeds(demo)[target]):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = [
        f"-max_total_time={os.environ.get('ALTERBUTE_FUZZ_S', '20')}",
        "-max_len=65536",
        "-timeout=20",
        "-rss_limit_mb=4096",
    ]
    run([folder / "tests" / "fuzz" / f"fuzz_{target}", *limits, corpus], timeout_s=3000)


def fuzz_seeds(demo: Path) -> dict[str, list[bytes]]:
    """Sound inputs of each reader, small enough to be changed everywhere."""
    tokenizer = (demo / "tokenizer" / "tokenizer.json").read_bytes()
    shapes = {"ddim.timestep": (1,), "ddim.matrix": (1, 1, 3), "ddim.level": (1, 2), "ddim.start": (1, 2)}
    about = {"version": "1", "state_rows": "4", "max_steps": "1", "spacing": "trailing", "solvers": "ddim"}
    header: dict[str, Any] = {"__metadata__": about}
    body = np.array([0, 1], np.int64).tobytes()
    header["ddim.offset"] = {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}
    for name, shape in shapes.items():
        data = np.ones(shape, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return {
        "graph_file": [(demo / "decode.onnx").read_bytes(), (demo / "paste.onnx").read_bytes()],
        "manifest": [(demo / "manifest.json").read_bytes(), b"{}"],
        "tokenizer": [b"color: red\0" + tokenizer, "Größe 😀 <|endoftext|>\0".encode() + tokenizer, b"it's"],
        "safetensors": [len(text).to_bytes(8, "little") + text + body],
    }


def test_the_build_folder_is_not_part_of_the_repository() -> None:
    assert BUILD.relative_to(ROOT).parts[0] in (ROOT / ".gitignore").read_text().replace("/", " ").split()
