"""Where an object's detail comes from: the choice by prompt, mask kind and reference, and what the result reports."""

from __future__ import annotations

import numpy as np
import pytest
from alterbute import EditRequest, InputError, Subject
from alterbute.bundle import DetailRules
from alterbute.detail import choose_paste
from alterbute.editor import Editor
from alterbute.request import Detail

from tests.support.pictures import make_mask, noise

RULES = DetailRules(radius=4, ridge=3e-4, threshold=0.15, attributes=("color",))
VOCABULARY = {"color": ("red", "green"), "material": ("wood",), "shape": ("tall",)}


@pytest.mark.parametrize(
    ("detail", "prompt", "is_aligned", "chosen", "threshold"),
    [
        ("auto", "color: red", True, "photo", 0.15),
        ("auto", "red", True, "photo", 0.15),
        ("auto", "", True, "photo", 0.15),
        ("auto", "material: wood", True, "photo", 0.0),
        ("auto", "color: red; material: wood", True, "photo", 0.0),
        ("auto", "a new look", True, "photo", 0.0),
        ("auto", "shape: tall", True, "model", -1.0),
        ("auto", "tall", True, "model", -1.0),
        ("auto", "color: red", False, "model", -1.0),
        ("photo", "color: red", False, "photo", 0.15),
        ("photo", "shape: tall", False, "photo", 0.0),
        ("model", "color: red", True, "model", -1.0),
    ],
)
def test_the_prompt_and_the_mask_choose_the_paste(
    detail: Detail, prompt: str, is_aligned: bool, chosen: str, threshold: float
) -> None:
    rule = choose_paste(detail, prompt, rules=RULES, attributes=VOCABULARY, is_aligned=is_aligned, bits=8)
    assert (rule.detail, rule.threshold) == (chosen, threshold)


@pytest.mark.parametrize(("prompt", "threshold"), [("color: red", 0.15), ("a red mug", 0.0), ("material: wood", 0.0)])
def test_an_open_vocabulary_knows_attributes_by_their_names_alone(prompt: str, threshold: float) -> None:
    assert choose_paste("auto", prompt, rules=RULES, attributes=None, is_aligned=True, bits=8).threshold == threshold


def test_the_models_8_bits_are_refused_for_a_photo_of_16() -> None:
    rule = choose_paste("auto", "color: red", rules=RULES, attributes=VOCABULARY, is_aligned=True, bits=16)
    assert rule.detail == "photo"
    cases: list[tuple[Detail, bool]] = [("model", True), ("auto", False)]
    for detail, is_aligned in cases:
        with pytest.raises(InputError, match="the photo has 16 bits") as caught:
            choose_paste(detail, "color: red", rules=RULES, attributes=VOCABULARY, is_aligned=is_aligned, bits=16)
        assert caught.value.code == "detail_depth"


def test_another_detail_is_refused() -> None:
    with pytest.raises(InputError, match="auto, photo, model"):
        EditRequest(prompt="", detail="sharp")  # type: ignore[arg-type]


def test_the_result_reports_the_paste(editor: Editor, subject: Subject) -> None:
    photo, mask = noise(70, 90), make_mask(70, 90)
    for options, expected in (
        ({}, ("photo", 0.15)),
        ({"detail": "model"}, ("model", -1.0)),
        ({"mask_kind": "box"}, ("model", -1.0)),
        ({"reference": noise(50, 50)}, ("model", -1.0)),
    ):
        result = editor.edit(photo, mask, "color: red", seed=1, steps=1, **options)
        assert (result.detail, result.detail_threshold) == expected


def test_an_edit_gets_the_same_bytes_alone_beside_other_pastes_and_again(subject: Subject) -> None:
    requests = [
        EditRequest(prompt="color: red", seed=1, steps=2, detail="model"),
        EditRequest(prompt="color: red", seed=1, steps=2),
        EditRequest(prompt="material: wood", seed=1, steps=2),
    ]
    together = [np.asarray(result.image) for result in subject.edit_many(requests)]
    for request, image in zip(requests, together, strict=True):
        assert np.array_equal(np.asarray(subject.edit(request).image), image)
    assert not np.array_equal(together[0], together[1])
