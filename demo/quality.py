"""Quality measure of the demo: edits of held-out identities, compared with their exact renderings.

An attribute is right if, inside the mask, the edited photo is nearer (mean squared error) to the exact rendering with the
expected value than to the renderings with all other values. Every edit is pasted twice, as `auto` does it and with the model's own
pixels; and so is the ideal edit, the exact rendering after encoding and decoding: no editor of these latents is nearer to it. PSNR
and changed pixels are counted inside and outside the mask that was given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.rendering import render
from demo.rendering.render import ATTRIBUTES, EMBLEMS, GBuffer, Light, Look, ObjectIdentity
from demo.rendering.shapes import FAMILIES, Floats
from demo.training.sheet import write_contact_sheet

PHOTO = 96  # side of the photo; the object fills about 46 pixels, so that the window is close to the model's 64
HELD_OUT = 997_000_000  # first seed; the seeds of training shards are far below
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCase:
    """One edit, with all that is needed to render its photo and its exact result.

    Args:
        kind: Kind of the edit, a key of KINDS without its number.
        identity: The object.
        g: G-buffer of the object at twice the photo's resolution.
        light: The light.
        backdrop: [2h,2w,3] f32 in [0,1].
        before: Look of the object in the photo.
        after: Look of the object after the edit.
        named: Attributes that the prompt names.
    """

    kind: str
    identity: ObjectIdentity
    g: GBuffer
    light: Light
    backdrop: Floats
    before: Look
    after: Look
    named: tuple[str, ...]

    def draw(self, look: Look, identity: ObjectIdentity | None = None) -> Bytes:
        """Render the photo HWC uint8 with a look, and with another identity of the same shape if one is passed."""
        colour = render.shade(identity or self.identity, look, self.light, self.g)
        return render.to_uint8(render.compose(colour, self.g, self.backdrop, 2)[0])

    @property
    def mask(self) -> Bytes:
        """Mask HW 0/255 of the object."""
        coverage = render.compose(self.backdrop, self.g, self.backdrop, 2)[1]
        return np.where(coverage >= 0.25, 255, 0).astype(np.uint8)

    @property
    def prompt(self) -> str:
        """The prompt, such as `color: red; material: metal`; empty if no attribute is named."""
        return "; ".join(f"{name}: {getattr(self.after, name)}" for name in self.named)


# Attributes that the prompt names, by kind of edit; a number in the name repeats a kind.
KINDS: dict[str, tuple[str, ...]] = {
    "color": ("color",),
    "color 2": ("color",),
    "material": ("material",),
    "texture": ("texture",),
    "color+material": ("color", "material"),
    "keep": (),
}


def draw_cases(scenes: int, seed: int = HELD_OUT) -> Iterator[QualityCase]:
    """Draw one case of each of KINDS for `scenes` identities; a named attribute always changes its value."""
    for scene in range(scenes):
        rng = np.random.default_rng(seed + scene)
        identity = render.sample_identity(rng, list(FAMILIES)[scene % len(FAMILIES)])
        view = render.sample_view(rng, identity)
        framed = render.frame(view, identity, margin=PHOTO / 46, shift=rng.uniform(-0.2, 0.2, 2))
        g, light = render.trace(identity, framed, 2 * PHOTO), render.sample_light(rng)
        backdrop, before = render.backdrop(rng, g.hit.shape), render.sample_look(rng)
        for kind, named in KINDS.items():
            changed = {
                name: str(rng.choice([v for v in ATTRIBUTES[name] if v != getattr(before, name)])) for name in named
            }
            yield QualityCase(
                kind=kind.split(" ")[0],
                identity=identity,
                g=g,
                light=light,
                backdrop=backdrop,
                before=before,
                after=replace(before, **changed),
                named=named,
            )


def find_nearest(picture: Bytes, inside: NDArray[np.bool_], options: dict[str, Bytes]) -> str:
    """Name of the rendering with the least mean squared error to a picture inside a mask.

    Args:
        picture: HWC uint8.
        inside: HW bool.
        options: Renderings HWC uint8 by name.
    """

    def distance(option: Bytes) -> float:
        return float(np.square(picture[inside].astype(float) - option[inside].astype(float)).mean())

    return min(options, key=lambda name: distance(options[name]))


def psnr(picture: Bytes, truth: Bytes, inside: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio in dB inside a mask.

    Args:
        picture: HWC uint8.
        truth: HWC uint8.
        inside: HW bool.
    """
    error = np.square(picture[inside].astype(float) - truth[inside].astype(float)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """The exact renderings of a case that a picture is compared with.

    Args:
        values: By attribute, the renderings HWC uint8 by value, everything else as after the edit.
        emblems: Renderings by emblem; empty where the emblem cannot be seen, so that they are equal.
    """

    values: dict[str, dict[str, Bytes]]
    emblems: dict[str, Bytes]


def draw_options(case: QualityCase) -> Options:
    """Render a case with every value of every attribute, and with every emblem."""
    values = {
        name: {value: case.draw(replace(case.after, **{name: value})) for value in options}
        for name, options in ATTRIBUTES.items()
    }
    emblems = {kind: case.draw(case.after, replace(case.identity, emblem=kind)) for kind in EMBLEMS}
    is_seen = all(
        (emblems[kind] != emblems[case.identity.emblem]).any() for kind in EMBLEMS if kind != case.identity.emblem
    )
    return Options(values=values, emblems=emblems if is_seen else {})


def judge(case: QualityCase, picture: Bytes, options: Options | None = None) -> dict[str, bool]:
    """Whether each attribute, and the emblem where it can be seen, is right in a picture.

    Args:
        case: The edit.
        picture: HWC uint8.
        options: Its renderings; None renders them.
    """
    inside, drawn = case.mask > 0, options or draw_options(case)
    verdict = {
        name: find_nearest(picture, inside, drawn.values[name]) == getattr(case.after, name) for name in ATTRIBUTES
    }
    if drawn.emblems:
        verdict["emblem"] = find_nearest(picture, inside, drawn.emblems) == case.identity.emblem
    return verdict


Edit = Callable[[QualityCase, Bytes, int], dict[str, Bytes]]
"""From a case, its photo HWC uint8 and a seed to edited photos by name: `auto` and `model`, the two ways of pasting the same edit, and
`ideal auto` and `ideal model`, those of the exact rendering after encoding and decoding."""
CONTENDERS = ("auto", "model", "ideal auto", "ideal model")


def measure(edit: Edit, scenes: int, *, seed: int = HELD_OUT, sheet: Path | None = None) -> dict[str, Any]:
    """Make all edits; returns per cent of right attributes, PSNR in dB, and counts.

    Args:
        edit: Makes an edit, and pastes it and the ideal one.
        scenes: Number of held-out identities; each is edited in six ways.
        seed: First seed of the identities.
        sheet: Path of a contact sheet (PNG); None writes none.
    """
    hits: dict[str, list[bool]] = defaultdict(list)
    decibels: dict[str, list[float]] = defaultdict(list)
    rows, foreign, count = [], 0, 0
    for case in draw_cases(scenes, seed):
        photo, truth, inside, options = case.draw(case.before), case.draw(case.after), case.mask > 0, draw_options(case)
        pictures = edit(case, photo, count)
        foreign += int((pictures["auto"] != photo).any(-1)[~inside].sum())
        for label in CONTENDERS:
            picture = pictures[label]
            verdict = judge(case, picture, options)
            for name in case.named:
                hits[f"{label}/{name} of edits that name it"].append(verdict[name])
            if case.kind == "color":
                hits[f"{label}/color of color edits"].append(verdict["color"])
                for name in ("texture", "emblem"):
                    if name in verdict:
                        hits[f"{label}/{name} kept by color edits"].append(verdict[name])
            for name in ATTRIBUTES:
                if name not in case.named:
                    hits[f"{label}/{name} kept where not named"].append(verdict[name])
            if "emblem" in verdict:
                hits[f"{label}/emblem kept"].append(verdict["emblem"])
            decibels[f"{label}/{case.kind}"].append(psnr(picture, truth, inside))
        decibels[f"unedited/{case.kind}"].append(psnr(photo, truth, inside) if case.named else 99.0)
        if count % 5 == 0:
            rows.append((case.prompt or "keep", [photo, truth, pictures["model"], pictures["auto"]]))
        count += 1
    if sheet:
        write_contact_sheet(rows[:48], sheet, zoom=1, across=3)
    return {
        "edits": count,
        "scenes": scenes,
        "first_seed": seed,
        "changed_pixels_outside_the_mask": foreign,
        "percent": {
            name: {"value": round(100 * float(np.mean(v)), 1), "n": len(v)} for name, v in sorted(hits.items())
        },
        "psnr_db": {name: round(float(np.mean(v)), 2) for name, v in sorted(decibels.items())},
        "auto_minus_model_db": {
            f"{editor} {kind}": compare_pastes(decibels[f"{prefix}auto/{kind}"], decibels[f"{prefix}model/{kind}"])
            for editor, prefix in (("edit", ""), ("ideal", "ideal "))
            for kind in dict.fromkeys(name.split(" ")[0] for name in KINDS)
        },
    }


def compare_pastes(auto: Sequence[float], model: Sequence[float]) -> dict[str, float]:
    """Mean and lowest gain of `auto` over `model` in dB, and how many edits lose any, and more than half a dB.

    Args:
        auto: PSNR of each edit in dB.
        model: PSNR of the same edits, pasted by the model's pixels.
    """
    gains = np.subtract(auto, model)
    return {
        "mean": round(float(gains.mean()), 2),
        "lowest": round(float(gains.min()), 2),
        "worse": int((gains < 0).sum()),
        "worse_by_half_a_db": int((gains < -0.5).sum()),
        "n": len(gains),
    }
