"""Five object families as signed distance functions, each with its own identity parameters.

A distance function takes points [P,3] float32 (object space, y up, about two units tall) and returns distances [P] and parts
[P] int8. Part 0 has the look's colour, material and texture; part 1 (tyres, windows) is always dark. Parameters are plain
floats: all points belong to one object, so no per-point parameters have to be gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Params = dict[str, float]
Sdf = Callable[[Floats, Params], tuple[Floats, NDArray[np.int8]]]


def f32(values: Sequence[float] | Sequence[Sequence[float]]) -> Floats:
    """Numbers as a float32 array: a vector of them, or one row per inner sequence."""
    return np.asarray(values, np.float32)


def _box(p: Floats, centre: tuple[float, float, float], half: tuple[float, float, float], radius: float) -> Floats:
    """Distance to a box of half sides `half` with edges rounded by `radius`."""
    q = np.abs(p - f32(centre)) - (f32(half) - np.float32(radius))
    outside = np.sqrt(np.sum(np.maximum(q, 0) ** 2, axis=-1))
    distance: Floats = outside + np.minimum(q.max(axis=-1), 0) - np.float32(radius)
    return distance


def _capsule(p: Floats, a: tuple[float, float, float], b: tuple[float, float, float], ra: float, rb: float) -> Floats:
    """Distance to a capsule from a to b, whose radius changes from ra to rb."""
    pa, ba = p - f32(a), f32(b) - f32(a)
    along = np.clip(pa @ ba / np.float32(ba @ ba), 0, 1)
    distance: Floats = np.linalg.norm(pa - along[:, None] * ba, axis=-1) - (
        np.float32(ra) + np.float32(rb - ra) * along
    )
    return distance


def _ring_xy(p: Floats, cx: float, cy: float, rx: float, ry: float, thick: float) -> Floats:
    """Distance to an elliptic ring in the xy plane with a round section of radius `thick`: a handle."""
    x, y = (p[:, 0] - np.float32(cx)) / np.float32(rx), (p[:, 1] - np.float32(cy)) / np.float32(ry)
    around = (np.sqrt(x * x + y * y) - 1) * np.float32(min(rx, ry))
    distance: Floats = np.sqrt(around**2 + p[:, 2] ** 2) - np.float32(thick)
    return distance


def _wheel(p: Floats, x: float, y: float, z: float, radius: float) -> Floats:
    """Distance to a cylinder of half width 0.1 along z."""
    around = np.sqrt((p[:, 0] - np.float32(x)) ** 2 + (p[:, 1] - np.float32(y)) ** 2) - np.float32(radius)
    distance: Floats = np.maximum(around, np.abs(p[:, 2] - np.float32(z)) - np.float32(0.10))
    return distance


def _part_0(p: Floats) -> NDArray[np.int8]:
    """Part 0 for every point."""
    return np.zeros(len(p), np.int8)


def _vessel(p: Floats, radius: Floats, half: float, wall: float) -> tuple[Floats, Floats]:
    """An open-topped shell of revolution: distance to it, and distance to the solid within its outer side."""
    outer = (np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2) - radius) * np.float32(0.8)
    side = np.abs(outer + np.float32(wall)) - np.float32(wall)
    shell = np.maximum(side, np.abs(p[:, 1]) - np.float32(half))
    floor = np.maximum(outer, np.abs(p[:, 1] + np.float32(half - 0.06)) - np.float32(0.06))
    return np.minimum(shell, floor), np.maximum(outer, np.abs(p[:, 1]) - np.float32(half))


def mug(p: Floats, k: Params) -> tuple[Floats, NDArray[np.int8]]:
    """Distance function of a mug: tapered, bulging body and handle."""
    t = p[:, 1] / np.float32(k["half"])
    radius = np.float32(k["r"]) * (1 + np.float32(k["taper"]) * t + np.float32(k["bulge"]) * (1 - t * t))
    body, solid = _vessel(p, radius.astype(np.float32), k["half"], 0.045)
    handle = _ring_xy(p, k["r"] + 0.04, k["hy"], k["hw"], k["hh"], k["ht"])
    return np.minimum(body, np.maximum(handle, -solid)), _part_0(p)


def vase(p: Floats, k: Params) -> tuple[Floats, NDArray[np.int8]]:
    """Distance function of a vase: wavy body with a neck."""
    t = np.clip(p[:, 1] / np.float32(k["half"]), -1.1, 1.1)
    radius = np.float32(k["r"]) * (
        1 + np.float32(k["wave"]) * np.sin(np.float32(k["freq"]) * t + np.float32(k["phase"]))
    )
    radius = radius * (1 - np.float32(k["neck"]) * np.exp(-(((t - np.float32(0.62)) / np.float32(0.28)) ** 2)))
    body, _ = _vessel(p, radius.astype(np.float32), k["half"], 0.045)
    return body * np.float32(0.8), _part_0(p)


def teapot(p: Floats, k: Params) -> tuple[Floats, NDArray[np.int8]]:
    """Distance function of a teapot: ellipsoid, spout, handle and knob."""
    scale = f32((k["r"], k["half"], k["r"]))
    body = (np.linalg.norm(p / scale, axis=-1) - 1) * np.float32(min(k["r"], k["half"]))
    spout = _capsule(p, (-k["r"] * 0.75, -0.15, 0), (-k["r"] - k["sx"], k["sy"], 0), 0.17, 0.075)
    handle = np.maximum(_ring_xy(p, k["r"] + 0.02, 0.05, k["hw"], k["hh"], 0.075), -body)
    knob = np.linalg.norm(p - f32((0, k["half"] + k["knob"] * 0.7, 0)), axis=-1) - np.float32(k["knob"])
    return np.minimum(np.minimum(body, spout), np.minimum(handle, knob)), _part_0(p)


def chair(p: Floats, k: Params) -> tuple[Floats, NDArray[np.int8]]:
    """Distance function of a chair: seat, back, four legs and two posts."""
    w, d, seat = k["w"], k["d"], k["seat"]
    dist = _box(p, (0, seat, 0), (w, k["pad"], d), 0.04)
    dist = np.minimum(dist, _box(p, (0, seat + k["back"], -d + 0.05), (w * k["bw"], k["back"] * k["fill"], 0.06), 0.04))
    q = np.abs(p * f32((1, 0, 1))) + p * f32((0, 1, 0))  # legs mirrored in x and z
    dist = np.minimum(
        dist, _capsule(q, (w - 0.07, seat, d - 0.07), (w - 0.07 + k["splay"], -1, d - 0.07), k["leg"], k["leg"] * 0.8)
    )
    post = p * f32((0, 1, 1)) + np.abs(p * f32((1, 0, 0)))
    top = (w * k["bw"] - 0.07, seat + 2 * k["back"] * 0.9, -d + 0.05)
    dist = np.minimum(dist, _capsule(post, (w - 0.07, seat, -d + 0.05), top, 0.06, 0.05))
    return dist, _part_0(p)


def car(p: Floats, k: Params) -> tuple[Floats, NDArray[np.int8]]:
    """Distance function of a car: body, cabin and wheels; windows and wheels are part 1."""
    body = _box(p, (0, -0.12, 0), (k["len"], k["deck"], 0.46), k["round"])
    slant = p + f32((k["slant"], 0, 0)) * np.clip(p[:, 1:2] - np.float32(0.1), 0, 1) * np.sign(
        p[:, :1] - np.float32(k["cx"])
    )
    cabin = _box(slant, (k["cx"], k["deck"] + k["ch"] - 0.15, 0), (k["cl"], k["ch"], 0.40), 0.08) * np.float32(0.85)
    part = _part_0(p)
    low, high = k["deck"] - 0.06, k["deck"] + 2 * k["ch"] - 0.27
    part[(cabin < body) & (p[:, 1] > low) & (p[:, 1] < high) & (np.abs(p[:, 0] - np.float32(k["cx"])) > 0.06)] = 1
    wx, wy = k["len"] * 0.6, -0.12 - k["deck"] * 0.85
    q = np.abs(p * f32((1, 0, 1))) + p * f32((0, 1, 0))
    wheels = _wheel(q, wx, wy, 0.42, k["wheel"])
    dist = np.minimum(body, cabin)
    part[wheels < dist] = 1
    return np.minimum(dist, wheels), part


@dataclass(frozen=True, slots=True)
class Family:
    """A family of objects: distance function, and the range of each identity parameter."""

    sdf: Sdf
    ranges: dict[str, tuple[float, float]]
    emblem: tuple[str, str]  # names of the parameters of the emblem's centre (x, y)


FAMILIES: dict[str, Family] = {
    "mug": Family(
        mug,
        {
            "r": (0.5, 0.72),
            "half": (0.55, 0.85),
            "taper": (-0.14, 0.16),
            "bulge": (-0.06, 0.16),
            "hy": (-0.1, 0.1),
            "hw": (0.22, 0.36),
            "hh": (0.28, 0.46),
            "ht": (0.07, 0.10),
            "ex": (-0.1, 0.1),
            "ey": (-0.1, 0.05),
            "er": (0.26, 0.34),
        },
        ("ex", "ey"),
    ),
    "vase": Family(
        vase,
        {
            "r": (0.36, 0.52),
            "half": (0.8, 1.05),
            "wave": (0.12, 0.34),
            "freq": (1.6, 3.0),
            "phase": (0.0, 6.28),
            "neck": (0.0, 0.3),
            "ex": (-0.05, 0.05),
            "ey": (-0.3, 0.0),
            "er": (0.24, 0.32),
        },
        ("ex", "ey"),
    ),
    "teapot": Family(
        teapot,
        {
            "r": (0.58, 0.76),
            "half": (0.5, 0.66),
            "sx": (0.2, 0.4),
            "sy": (0.1, 0.4),
            "hw": (0.24, 0.36),
            "hh": (0.26, 0.36),
            "knob": (0.09, 0.15),
            "ex": (-0.08, 0.08),
            "ey": (-0.1, 0.05),
            "er": (0.27, 0.35),
        },
        ("ex", "ey"),
    ),
    "chair": Family(
        chair,
        {
            "w": (0.48, 0.62),
            "d": (0.44, 0.56),
            "seat": (-0.25, -0.05),
            "pad": (0.07, 0.13),
            "back": (0.42, 0.56),
            "bw": (0.85, 1.05),
            "fill": (0.6, 0.95),
            "leg": (0.055, 0.085),
            "splay": (0.0, 0.12),
            "ex": (-0.05, 0.05),
            "ey": (0.30, 0.42),
            "er": (0.24, 0.3),
        },
        ("ex", "ey"),
    ),
    "car": Family(
        car,
        {
            "len": (0.95, 1.2),
            "deck": (0.22, 0.32),
            "round": (0.06, 0.16),
            "slant": (0.15, 0.5),
            "cx": (-0.2, 0.2),
            "cl": (0.45, 0.65),
            "ch": (0.2, 0.3),
            "wheel": (0.2, 0.27),
            "ex": (-0.1, 0.1),
            "ey": (-0.12, -0.08),
            "er": (0.18, 0.24),
        },
        ("ex", "ey"),
    ),
}
