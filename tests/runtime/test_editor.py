"""`Editor` on a real exported bundle with random weights: background bits, reproducibility, caching and errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import alterbute
import numpy as np
import pytest
from alterbute import BundleError, Cancelled, EditRequest, EditResult, EngineError, InputError, Progress, Subject
from alterbute.backends import open_backend
from alterbute.bundle import open_bundle
from alterbute.editor import Editor
from alterbute.images.photo import Bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pictures import make_mask, noise

STEPS = 2


def pixels(result: EditResult) -> Bytes:
    return np.asarray(result.image)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), height=st.integers(32, 150), width=st.integers(32, 150), channels=st.sampled_from([3, 4]))
def test_background_is_bit_identical_outside_alpha(
    editor: Editor, data: Any, height: int, width: int, channels: int
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    if mask.all():
        mask[0, 0] = 0
    photo = noise(height, width, channels, seed=height * width)
    result = editor.edit(photo, mask, "color: red", steps=1, seed=1)
    edited = pixels(result)
    assert edited.shape == photo.shape
    assert result.alpha.shape == (height, width)
    untouched = result.alpha == 0
    assert np.array_equal(edited[untouched], photo[untouched])
    assert np.array_equal(edited[..., 3:], photo[..., 3:]), "transparency is the photo's"
    assert (result.alpha[mask == 255] > 0).any()


def test_same_request_gives_same_bytes_alone_in_a_batch_and_from_a_bundle_opened_twice(
    editor: Editor, subject: Subject, tiny_bundle: Path
) -> None:
    prompts = ["color: red", "material: wood", "color: blue"]
    alone = [pixels(subject.edit(prompt, seed=7, steps=STEPS)) for prompt in prompts]
    again = pixels(subject.edit(prompts[0], seed=7, steps=STEPS))
    together = [pixels(result) for result in subject.edit_many(prompts, seed=7, steps=STEPS)]
    with Editor.open(tiny_bundle, slots=1, threads=1) as second_editor:
        fresh = pixels(second_editor.edit(noise(70, 90), make_mask(70, 90), prompts[0], seed=7, steps=STEPS))
    assert np.array_equal(alone[0], again)
    assert np.array_equal(alone[0], fresh)
    for expected, batched in zip(alone, together, strict=True):
        assert np.array_equal(batched, expected)
    assert not np.array_equal(alone[0], alone[1]), "the prompt has an effect"


def test_an_array_is_copied_by_prepare_and_read_in_place_by_an_edit(editor: Editor) -> None:
    array = noise(70, 90)
    prepared, once = (
        editor.prepare(array, make_mask(70, 90)),
        editor.edit(array, make_mask(70, 90), "color: red", seed=7, steps=1),
    )
    assert array.flags.writeable and np.array_equal(array, noise(70, 90)), "the caller's array is unchanged"
    array[:] = 0
    assert np.array_equal(pixels(once), pixels(prepared.edit("color: red", seed=7, steps=1)))


def test_a_batch_of_different_requests_gives_each_its_own_bytes(subject: Subject) -> None:
    requests = [
        EditRequest(prompt="color: red", seed=1, steps=3, solver="ddim", guidance=1.0),
        EditRequest(prompt="color: blue", seed=2, steps=1, solver="euler_a"),
        EditRequest(prompt="material: wood", seed=3, steps=2, solver="dpmpp_2m", guidance=3.0, count=2),
        EditRequest(prompt="color: green", seed=4, steps=2, negative_prompt="color: red", identity_scale=0.0),
    ]
    together = subject.edit_many(requests)
    alone = [result for request in requests for result in subject.edit_many([request])]
    assert [result.seed for result in together] == [1, 2, 3, 3, 4]
    assert [result.index for result in together] == [0, 0, 0, 1, 0]
    for batched, expected in zip(together, alone, strict=True):
        assert np.array_equal(pixels(batched), pixels(expected))
    assert not np.array_equal(pixels(together[2]), pixels(together[3])), "images of a request differ"


def test_a_drawn_seed_is_reported_and_repeats_the_edit(subject: Subject) -> None:
    first, second = subject.edit("color: red", steps=1), subject.edit("color: red", steps=1)
    assert first.seed != second.seed
    assert np.array_equal(pixels(first), pixels(subject.edit("color: red", steps=1, seed=first.seed)))


def test_every_option_changes_the_picture(subject: Subject) -> None:
    base: dict[str, Any] = {"seed": 5, "steps": STEPS, "guidance": 2.0}
    default = pixels(subject.edit("color: red", **base))
    changes: tuple[dict[str, Any], ...] = (
        *(
            {"seed": 6},
            {"steps": 3},
            {"guidance": 4.0},
            {"identity_scale": 0.0},
            {"solver": "euler_a"},
            {"negative_prompt": "wood"},
        ),
        *(
            {"strength": 0.5},
            {"solver": "ddim", "eta": 1.0},
            {"guidance_rescale": 0.7},
            {"guidance_interval": (0.5, 1.0)},
        ),
        *({"reinject": True}, {"sigmas": "karras"}, {"solver": "heun"}, {"solver": "plms"}, {"solver": "lcm"}),
    )
    for change in changes:
        assert not np.array_equal(default, pixels(subject.edit("color: red", **{**base, **change}))), change
    longer = {**base, "steps": 5}
    for solver in ("unipc", "dpmpp_3m"):  # with two steps they equal dpmpp_2m
        assert not np.array_equal(
            pixels(subject.edit("color: red", **longer)), pixels(subject.edit("color: red", **longer, solver=solver))
        )


def test_mask_kinds_change_what_may_be_painted(editor: Editor) -> None:
    photo, mask = noise(70, 90), make_mask(70, 90)
    mask[20:32, 30:42] = 0  # a notch in the object, which its box covers

    def alpha(**options: Any) -> Bytes:
        result = editor.edit(photo, mask, "color: red", seed=1, steps=1, **options)
        assert np.array_equal(pixels(result)[result.alpha == 0], photo[result.alpha == 0])
        return result.alpha

    precise, box, wide = alpha(), alpha(mask_kind="box"), alpha(dilate=9)
    assert not precise[20:28, 30:38].any() and box[20:28, 30:38].all()
    assert np.array_equal(wide, precise), "the model's mask grows, the pixels that may change do not"
    mask[44:50, 30:54] = 60
    assert np.array_equal(alpha(mask_kind="soft"), mask), "blend weights are the alpha, to the bit"


def test_protected_pixels_stay_those_of_the_photo(editor: Editor) -> None:
    photo, mask, occluder = noise(70, 90), make_mask(70, 90), np.zeros((70, 90), np.uint8)
    occluder[::3, 35:60] = 255
    unprotected = editor.edit(photo, mask, "color: red", seed=1, steps=1)
    protected = editor.edit(photo, mask, "color: red", seed=1, steps=1, protect=occluder)
    assert unprotected.alpha[occluder > 0].any()
    assert not protected.alpha[occluder > 0].any()
    assert np.array_equal(pixels(protected)[occluder > 0], photo[occluder > 0])


def test_a_decoded_picture_with_nan_is_refused(
    editor: Editor, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = editor._backend.run

    def broken(graph: str, *arguments: Any) -> Any:
        out = run(graph, *arguments)
        return {**out, "mean": out["mean"] * np.nan} if graph == "decode" else out

    monkeypatch.setattr(editor._backend, "run", broken)
    with pytest.raises(EngineError, match="'decode'"):
        subject.edit("color: red", steps=1)


def test_a_reference_provides_the_identity(editor: Editor, subject: Subject) -> None:
    photo, mask = noise(70, 90), make_mask(70, 90)
    own = editor.edit(photo, mask, "color: red", seed=1, steps=1)
    referenced = editor.edit(
        photo,
        mask,
        "color: red",
        seed=1,
        steps=1,
        reference=noise(50, 40, seed=3),
        reference_mask=make_mask(50, 40, 5, 5, 30),
    )
    assert np.array_equal(own.alpha, referenced.alpha)
    assert not np.array_equal(pixels(own), pixels(referenced))


def test_a_second_edit_runs_only_steps_decode_and_paste(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Editor.open(tiny_bundle, threads=1) as editor:
        calls: list[str] = []
        run = editor._backend.run

        def record_call(graph: str, *inputs: Any) -> Any:
            calls.append(graph)
            return run(graph, *inputs)

        def graphs_before_the_first_step(**changes: Any) -> list[str]:
            calls.clear()
            arguments = {
                "photo": noise(70, 90),
                "mask": make_mask(70, 90),
                "prompt": "color: red",
                "steps": 2,
                "seed": 1,
                **changes,
            }
            editor.edit(arguments.pop("photo"), arguments.pop("mask"), arguments.pop("prompt"), **arguments)
            before = calls[: calls.index("step")]
            # The round trip of a window is decoded once, after the first edit of its scene.
            decodes = ["decode", "decode"] if "scene" in before else ["decode"]
            assert calls[len(before) :] == ["step"] * arguments["steps"] + decodes + ["paste"]
            return before

        monkeypatch.setattr(editor._backend, "run", record_call)
        first = graphs_before_the_first_step()
        assert sorted(first) == ["identity", "prompt", "prompt", "scene", "window", "window"]
        assert graphs_before_the_first_step() == []
        assert graphs_before_the_first_step(seed=2, steps=3, solver="euler", guidance=3.0) == []
        assert graphs_before_the_first_step(prompt="color: blue") == ["prompt"], "only the new prompt is encoded"
        assert graphs_before_the_first_step(prompt="color: red", negative_prompt="color: blue") == []
        other_mask = make_mask(70, 90, 20, 24, 30)
        assert sorted(graphs_before_the_first_step(mask=other_mask)) == ["identity", "scene", "window", "window"]
        assert graphs_before_the_first_step(mask=other_mask, prompt="color: blue") == []
        assert graphs_before_the_first_step() == [], "the encodings of the first mask are still cached"
        changed_outside = noise(70, 90)
        changed_outside[:2] = 0
        assert graphs_before_the_first_step(photo=changed_outside) == [], "a photo that differs outside the window"
        changed_inside = noise(70, 90)
        changed_inside[35, 45] ^= 255
        assert sorted(graphs_before_the_first_step(photo=changed_inside)) == ["identity", "scene", "window", "window"]

        subject = editor.prepare(noise(70, 90), make_mask(70, 90))
        calls.clear()
        subject.edit("color: red", steps=2)
        assert calls == ["step", "step", "decode", "paste"]


def test_cached_encodings_give_the_bytes_of_a_first_edit(tiny_bundle: Path) -> None:
    photo, masks = noise(70, 90), (make_mask(70, 90), make_mask(70, 90, 20, 24, 30))
    with Editor.open(tiny_bundle) as editor:
        for _ in range(2):
            cached = [pixels(editor.edit(photo, mask, "color: red", seed=1, steps=1)) for mask in masks]
    for mask, picture in zip(masks, cached, strict=True):
        with Editor.open(tiny_bundle) as fresh:
            assert np.array_equal(pixels(fresh.edit(photo, mask, "color: red", seed=1, steps=1)), picture)


def test_progress_reports_every_step_of_every_image(subject: Subject) -> None:
    reports: list[Progress] = []
    subject.edit_many(["color: red", EditRequest(prompt="color: blue", steps=1)], progress=reports.append)
    assert [(p.image, p.images, p.step, p.steps) for p in reports if p.image == 1] == [(1, 2, 1, 1)]
    assert [p.step for p in reports if p.image == 0] == list(range(1, 21)), "the bundle's default is 20 steps"


def test_cancel_ends_the_call_and_the_editor_stays_usable(subject: Subject) -> None:
    reports: list[Progress] = []
    with pytest.raises(Cancelled):
        subject.edit("color: red", steps=50, progress=reports.append, cancel=lambda: len(reports) >= 2)
    assert len(reports) == 2
    assert subject.edit("color: red", steps=1).alpha.any()


def test_a_result_has_seconds_by_stage_and_warns_of_words_outside_the_vocabulary(subject: Subject) -> None:
    result = subject.edit("color: plaid", steps=1)
    assert list(result.timings) == ["window", "encode", "steps", "decode", "paste"]
    assert all(seconds >= 0 for seconds in result.timings.values())
    assert "plaid" in result.warnings[0]
    assert subject.edit("color: red", steps=1).warnings == ()


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("prompt", {"prompt": "z" * 400}),
        ("prompt", {"negative_prompt": "z" * 400}),
        ("prompt", {"prompt": 5}),
        ("steps", {"steps": 0}),
        ("steps", {"steps": 1001}),
        ("steps", {"steps": 2.5}),
        ("solver", {"solver": "magic"}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("guidance", {"guidance": float("nan")}),
        ("identity_scale", {"identity_scale": -0.5}),
        ("strength", {"strength": 0.0}),
        ("strength", {"strength": 1.5}),
        ("strength", {"strength": 0.01}),
        ("eta", {"eta": 0.5, "solver": "dpmpp_2m"}),
        ("sigmas", {"sigmas": "steep"}),
        ("sigmas", {"sigmas": "karras", "solver": "ddim"}),
        ("eta", {"eta": 2.0, "solver": "ddim"}),
        ("identity_guidance", {"identity_guidance": 2.0}),
        ("guidance_rescale", {"guidance_rescale": 1.5}),
        ("guidance_interval", {"guidance_interval": (0.5, 0.2)}),
        ("guidance_interval", {"guidance_interval": (0.5, 2.0)}),
        ("guidance_interval", {"guidance_interval": 0.5}),
        ("count", {"count": 0}),
        ("count", {"count": 2, "steps": 1}),
    ],
)
def test_an_invalid_request_is_refused_with_the_name_of_its_argument(
    subject: Subject, param: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError) as caught:
        subject.edit(**{"prompt": "color: red", **options})
    assert caught.value.param == param


def test_an_invalid_editor_argument_is_refused(tiny_bundle: Path, editor: Editor) -> None:
    for arguments in ({"backend": "abacus"}, {"slots": 0}, {"threads": 0}):
        with pytest.raises(InputError):
            Editor.open(tiny_bundle, **arguments)
    with pytest.raises(InputError):
        editor.prepare(noise(70, 90), make_mask(70, 90), reference_mask=make_mask(70, 90))


def test_an_altered_file_is_refused_before_it_is_run(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    weights = bytearray((bundle / "weights.bin").read_bytes())
    weights[1000] ^= 1
    (bundle / "weights.bin").write_bytes(weights)
    with Editor.open(bundle) as editor, pytest.raises(BundleError, match=r"weights\.bin"):
        editor.edit(noise(70, 90), make_mask(70, 90), "color: red")


def test_a_graph_that_onnx_runtime_cannot_read_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    import onnx

    from tests.support.bundles import replace_file

    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    model = onnx.load(bundle / "window.onnx")
    model.graph.node[0].op_type = "Unheard"
    replace_file(bundle, "window.onnx", model.SerializeToString())
    with Editor.open(bundle) as editor, pytest.raises(EngineError, match="window"):
        editor.prepare(noise(70, 90), make_mask(70, 90))


def test_the_error_of_a_failed_run_names_its_graph(tiny_bundle: Path) -> None:
    backend = open_backend("onnxruntime", open_bundle(tiny_bundle), threads=1)
    with pytest.raises(EngineError, match="decode"):
        backend.run("decode", {"latent": np.zeros((1, 99, 4, 4), np.float32)})
    backend.close()


def test_the_error_of_a_missing_engine_library_names_the_command_that_installs_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"alterbute\[cpu\]"):
        Editor.open(tiny_bundle)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, alterbute; print([n for n in ('numpy', 'PIL', 'onnxruntime', 'tokenizers', 'torch') if n in sys.modules])"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert completed.stdout.strip() == "[]"


def test_there_are_at_most_ten_public_names_and_all_can_be_imported() -> None:
    assert len(alterbute.__all__) <= 10
    for name in alterbute.__all__:
        assert getattr(alterbute, name).__name__ == name
        assert name in dir(alterbute)
    with pytest.raises(AttributeError, match="Editer"):
        alterbute.Editer  # noqa: B018
