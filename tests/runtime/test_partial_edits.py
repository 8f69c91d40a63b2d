"""An image that fails does not affect the others of its call, and finished images are returned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from alterbute import EditRequest, EngineError, Subject
from alterbute.editor import Editor
from alterbute.result import PartialEditError

from tests.runtime.test_editor import pixels


def test_an_image_that_fails_loses_no_finished_image(
    editor: Editor, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        EditRequest(prompt=prompt, seed=1, steps=2, guidance=1.5)
        for prompt in ("color: red", "color: blue", "color: green")
    ]
    expected_results = subject.edit_many(requests)
    make_jobs = editor.make_jobs

    def break_second(*arguments: Any) -> Any:
        (first, first_info), (second, second_info), third = make_jobs(*arguments).items()
        matrix = second.plan.matrix * np.float32(np.nan)
        broken = replace(second, plan=replace(second.plan, matrix=matrix))
        return {first: first_info, broken: second_info, third[0]: third[1]}

    monkeypatch.setattr(editor, "make_jobs", break_second)
    with pytest.raises(PartialEditError, match="1 of 3 images failed") as caught:
        subject.edit_many(requests)
    results, faults = caught.value.results, caught.value.faults
    assert [result is None for result in results] == [fault is not None for fault in faults] == [False, True, False]
    assert "step 1 of 2" in str(faults[1])
    for result, expected in zip(results, expected_results, strict=True):
        assert result is None or np.array_equal(pixels(result), pixels(expected))


def test_a_failed_decode_fails_its_image_alone(
    editor: Editor, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = editor.decode, []

    def break_first(latent: Any) -> Any:
        calls.append(latent)
        if len(calls) == 1:
            raise EngineError("the decoder failed", "a picture", "try again")
        return decode(latent)

    monkeypatch.setattr(editor, "decode", break_first)
    with pytest.raises(PartialEditError) as caught:
        subject.edit_many(["color: red"], seed=1, steps=1, count=2)
    assert [result is None for result in caught.value.results] == [True, False]


def test_a_launch_that_fails_loses_no_image_that_was_finished_before(
    editor: Editor, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = editor._backend.run
    launches: list[str] = []

    def fail_third_step(graph: str, *arguments: Any) -> Any:
        launches.append(graph)
        if launches.count("step") == 3:
            raise EngineError("the engine failed", "a step", "restart the process")
        return run(graph, *arguments)

    monkeypatch.setattr(editor._backend, "run", fail_third_step)
    short, long = (EditRequest(prompt="color: red", seed=1, steps=steps) for steps in (1, 5))
    with pytest.raises(PartialEditError) as caught:
        subject.edit_many([long, short])
    assert [result is None for result in caught.value.results] == [True, False]
    launches.clear()
    with pytest.raises(EngineError, match="the engine failed") as caught_fault:
        subject.edit_many([long, long])
    assert not isinstance(caught_fault.value, PartialEditError), (
        "no image was finished, so the engine's own error is raised"
    )


def test_the_error_of_the_first_image_is_raised_when_no_image_was_finished(
    editor: Editor, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = (EditRequest(prompt="color: red", seed=1, steps=steps) for steps in (2, 1))
    calls = []

    def fail(latent: Any) -> Any:
        calls.append(latent)
        raise EngineError(f"decode {len(calls)} failed", "a picture", "try again")

    monkeypatch.setattr(editor, "decode", fail)
    # The second image has fewer steps, so it is decoded first.
    with pytest.raises(EngineError, match="decode 2 failed"):
        subject.edit_many([long, short])
