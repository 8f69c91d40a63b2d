"""One image whose numbers are not finite costs no other image of its call, from C++ as from Python."""

from __future__ import annotations

import ctypes
import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cpp.build import library
from tests.cpp.driver import Driver
from tests.cpp.test_edits import draw_mask, draw_photo

BROKEN = "lcm"
PHOTO, MASK = draw_photo(96, 80), draw_mask(96, 80, 0)


def overflow_solver(bundle: Path, solver: str) -> None:
    """Make a solver's second call of three overflow: its matrix is finite, and far too large for any latent."""
    path = bundle / "solvers.safetensors"
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), 8 + length

    def read(name: str) -> Any:
        entry = header[f"{solver}.{name}"]
        dtype = {"F32": "<f4", "I64": "<i8"}[entry["dtype"]]
        start, stop = (body + offset for offset in entry["data_offsets"])
        return np.frombuffer(data, dtype, (stop - start) // np.dtype(dtype).itemsize, start).reshape(entry["shape"])

    second = int(read("offset")[2]) + 1
    read("matrix")[second] = 3e38
    path.write_bytes(data)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = hashlib.sha256(data).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def bundle(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle, in which one solver overflows."""
    bundle = tmp_path_factory.mktemp("overflow") / "bundle"
    shutil.copytree(demo, bundle)
    overflow_solver(bundle, BROKEN)
    return bundle


@pytest.fixture(scope="module")
def cpp_editor(built: Path, bundle: Path) -> Iterator[Driver]:
    """A driver of its own, with that bundle."""
    with Driver(built / "tests" / "driver") as driver:
        driver.ask("open", path=str(bundle), threads=1, slots=4)
        yield driver


def edit_several(driver: Driver, requests: list[dict[str, object]]) -> tuple[list[bytes], list[str]]:
    """Each image's bytes, empty for one that failed, and each image's fault, empty for one that was finished."""
    blobs = [PHOTO.tobytes(), MASK.tobytes()]
    pictures = {"photo": [0, 80, 96, 3], "mask": [1, 80, 96, 1]}
    answer, images = driver.ask("edit", blobs, requests=requests, **pictures)
    return images, answer["faults"]


@pytest.mark.parametrize("options", [{"guidance": 1.0}, {"guidance": 1.2}, {"guidance": 1.5, "guidance_rescale": 0.5}])
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_image_that_breaks_leaves_the_bytes_of_the_others_alone(
    cpp_editor: Driver, broken: int, options: dict[str, float]
) -> None:
    def request(number: int, solver: str) -> dict[str, object]:
        # The last one owns a single row, whatever the others own.
        chosen = options if number < 2 else {"guidance": 1.0}
        return {"prompt": "color: red", "seed": number, "steps": 3, "solver": solver, **chosen}

    solvers = ["ddim", "euler_a", "dpmpp_2m"]
    alone = [edit_several(cpp_editor, [request(number, solver)])[0][0] for number, solver in enumerate(solvers)]
    solvers[broken] = BROKEN
    images, faults = edit_several(cpp_editor, [request(number, solver) for number, solver in enumerate(solvers)])
    for number, image in enumerate(images):
        assert (image == b"") == (faults[number] != "") == (number == broken)
        assert number == broken or image == alone[number]
    assert "not finite by step 2 of 3" in faults[broken]


def test_a_call_without_a_finished_image_throws_the_fault_itself(cpp_editor: Driver) -> None:
    request = {"prompt": "color: red", "seed": 1, "steps": 3, "solver": BROKEN}
    for count in (1, 2):
        with pytest.raises(Exception, match="not finite by step 2 of 3") as caught:
            edit_several(cpp_editor, [request] * count)
        assert "images failed" not in str(caught.value)


class CImage(ctypes.Structure):
    _fields_ = (
        ("pixels", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("width", "height", "channels")),
        ("stride", ctypes.c_int64),
    )


class CRequest(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        *((name, ctypes.c_char_p) for name in ("prompt", "negative_prompt", "solver")),
        ("seed", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("steps", "count", "reinject")),
        ("scales", ctypes.c_double * 7),
        ("detail", ctypes.c_int32),
    )


def test_the_c_interface_returns_the_finished_images_and_the_error_of_the_other(
    built: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALTERBUTE_ONNXRUNTIME", str(library()))
    c = ctypes.CDLL(str(built / "libalterbute.so"))
    for name in ("open", "prepare", "edit"):
        getattr(c, f"alterbute_{name}").restype = ctypes.c_void_p
    for name in ("error_message", "result_error"):
        getattr(c, f"alterbute_{name}").restype = ctypes.c_char_p
    c.alterbute_result_image.restype = CImage
    error = ctypes.c_void_p()
    pictures = [np.ascontiguousarray(array) for array in (PHOTO, MASK)]
    photo, mask = (CImage(array.ctypes.data, 80, 96, size, 0) for array, size in zip(pictures, (3, 1), strict=True))
    editor = ctypes.c_void_p(c.alterbute_open(str(bundle).encode(), None, ctypes.byref(error)))
    assert editor, c.alterbute_error_message(error)
    subject = ctypes.c_void_p(
        c.alterbute_prepare(editor, ctypes.byref(photo), ctypes.byref(mask), None, ctypes.byref(error))
    )
    requests = (CRequest * 2)()
    for request, solver in zip(requests, (BROKEN, "ddim"), strict=True):
        c.alterbute_request_init(ctypes.byref(request))
        request.prompt, request.solver, request.seed, request.steps = b"color: red", solver.encode(), 1, 3
    edit = c.alterbute_edit
    results = ctypes.c_void_p(edit(subject, requests, ctypes.c_size_t(2), None, ctypes.byref(error)))
    assert results, c.alterbute_error_message(error)
    first, second = ctypes.c_size_t(0), ctypes.c_size_t(1)
    assert b"not finite by step 2 of 3" in c.alterbute_result_error(results, first)
    assert c.alterbute_result_error(results, second) is None
    sizes = [(image.width, image.height) for image in (c.alterbute_result_image(results, at) for at in (first, second))]
    assert sizes == [(0, 0), (80, 96)]
    assert not edit(subject, requests, ctypes.c_size_t(1), None, ctypes.byref(error))
    assert b"not finite" in c.alterbute_error_message(error)
    c.alterbute_error_free(error)
    for name, handle in (("results", results), ("subject", subject), ("editor", editor)):
        getattr(c, f"alterbute_{name}_free")(handle)
