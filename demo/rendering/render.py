"""Renderer: an identity in a view is traced once into a G-buffer, which is then shaded with any look and light.

The renderings of one G-buffer have equal geometry, so they are exact ground truth for changes of colour, material and
texture. Arrays are float32; pictures are HWC in [0,1] until `to_uint8`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from demo.rendering.shapes import FAMILIES, Floats, Params, f32

Reals: TypeAlias = NDArray[np.floating[Any]]

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.07, 0.07),
    "orange": (0.98, 0.45, 0.04),
    "yellow": (0.96, 0.86, 0.10),
    "green": (0.08, 0.56, 0.16),
    "blue": (0.08, 0.24, 0.86),
    "purple": (0.46, 0.12, 0.66),
    "pink": (0.98, 0.52, 0.70),
    "white": (0.93, 0.93, 0.91),
}
MATERIALS = ("matte", "glossy", "metal", "wooden")
TEXTURES = ("plain", "striped", "checkered")
EMBLEMS = ("ring", "disc", "cross", "diamond", "triangle", "bars")
ATTRIBUTES: dict[str, tuple[str, ...]] = {"color": tuple(COLORS), "material": MATERIALS, "texture": TEXTURES}

_CREAM, _SLATE = f32((0.95, 0.92, 0.84)), f32((0.28, 0.30, 0.34))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectIdentity:
    """The properties that an edit must keep: family, shape parameters, texture scale and phase, and emblem."""

    family: str
    params: Params
    emblem: str
    texture_scale: float
    texture_phase: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The intrinsic attributes, which a prompt can name."""

    color: str
    material: str
    texture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The light: unit vector towards it, strength, ambient light and tint (RGB)."""

    direction: tuple[float, float, float]
    strength: float
    ambient: float
    tint: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Camera: yaw and pitch in radians, and the window in the image plane (centre x, centre y, half side)."""

    yaw: float
    pitch: float
    window: tuple[float, float, float] = (0.0, 0.0, 0.40)


@dataclass(frozen=True, slots=True)
class GBuffer:
    """Geometry of one picture of h x w pixels, in object space.

    Args:
        hit: [h,w] bool, whether the pixel's ray hits the object.
        position: [h,w,3], the point that is hit.
        normal: [h,w,3], the unit normal at that point.
        part: [h,w], part of the object, see `shapes`.
        origin: [3], the camera's position.
        rays: [h,w,3], unit vector of each pixel's ray.
    """

    hit: NDArray[np.bool_]
    position: Floats
    normal: Floats
    part: NDArray[np.int8]
    origin: Floats
    rays: Floats


def sample_identity(rng: np.random.Generator, family: str | None = None) -> ObjectIdentity:
    """Draw an identity; None draws its family, too."""
    family = family or str(rng.choice(list(FAMILIES)))
    params = {name: float(rng.uniform(*bounds)) for name, bounds in FAMILIES[family].ranges.items()}
    return ObjectIdentity(
        family=family,
        params=params,
        emblem=str(rng.choice(EMBLEMS)),
        texture_scale=float(rng.uniform(2.6, 3.8)),
        texture_phase=float(rng.uniform(0, 1)),
    )


def sample_look(rng: np.random.Generator) -> Look:
    """Draw colour, material and texture."""
    return Look(
        color=str(rng.choice(list(COLORS))), material=str(rng.choice(MATERIALS)), texture=str(rng.choice(TEXTURES))
    )


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a light above and in front of the object."""
    azimuth, height = rng.uniform(-1.0, 1.0), rng.uniform(0.5, 1.1)
    direction = (np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height))
    red, green, blue = (float(share) for share in 1 + rng.uniform(-0.06, 0.06, 3))
    return Light(
        direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        strength=float(rng.uniform(0.65, 0.85)),
        ambient=float(rng.uniform(0.32, 0.45)),
        tint=(red, green, blue),
    )


def sample_view(rng: np.random.Generator, identity: ObjectIdentity) -> View:
    """Draw a camera whose window frames the object about as the runtime's crop does."""
    view = View(yaw=float(rng.uniform(-0.75, 0.75)), pitch=float(rng.uniform(0.15, 0.6)))
    return frame(view, identity, margin=float(rng.uniform(1.3, 1.6)), shift=rng.uniform(-0.06, 0.06, 2))


def outline(identity: ObjectIdentity, view: View) -> tuple[float, float, float, float]:
    """Bounding box (x0, x1, y0, y1) of the object in the image plane, from a coarse trace."""
    wide = trace(identity, replace(view, window=(0.0, 0.0, 0.40)), 40)
    ys, xs = np.nonzero(wide.hit)
    cell = 0.8 / 40
    return (
        float(xs.min() * cell - 0.4),
        float((xs.max() + 1) * cell - 0.4),
        float(0.4 - (ys.max() + 1) * cell),
        float(0.4 - ys.min() * cell),
    )


def frame(view: View, identity: ObjectIdentity, margin: float, shift: NDArray[np.float64]) -> View:
    """The view with a window of which the object's longer side fills the share 1/margin.

    Args:
        view: The camera.
        identity: The object.
        margin: Side of the window divided by the longer side of the object's box.
        shift: [2], offset of the window's centre from the box's, in half window sides.
    """
    x0, x1, y0, y1 = outline(identity, view)
    half = max(x1 - x0, y1 - y0) / 2 * margin
    return replace(
        view, window=(float((x0 + x1) / 2 + shift[0] * half), float((y0 + y1) / 2 + shift[1] * half), float(half))
    )


def align(identity: ObjectIdentity, view: View, to: View) -> View:
    """The view with a window in which the object's box has the place of, and fits into, its box in the window of `to`.

    The runtime's `reference_box` aligns a reference to the mask's box in the same way.

    Args:
        identity: The object.
        view: The view whose window is replaced.
        to: The view to align with.
    """
    a, b = outline(identity, view), outline(identity, to)
    scale = max((a[1] - a[0]) / (b[1] - b[0]), (a[3] - a[2]) / (b[3] - b[2]))
    cx = (a[0] + a[1]) / 2 - ((b[0] + b[1]) / 2 - to.window[0]) * scale
    cy = (a[2] + a[3]) / 2 - ((b[2] + b[3]) / 2 - to.window[1]) * scale
    return replace(view, window=(float(cx), float(cy), float(to.window[2] * scale)))


def trace(identity: ObjectIdentity, view: View, size: int, height: int | None = None) -> GBuffer:
    """Sphere-trace an object into a G-buffer of [height,size] pixels.

    Args:
        identity: The object.
        view: The camera.
        size: Columns of pixels.
        height: Rows of pixels; None takes `size`.
    """
    sdf, k = FAMILIES[identity.family].sdf, identity.params
    rows = height or size
    cx, cy, half = view.window
    xs = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    ys = (1 - (np.arange(rows, dtype=np.float32) + 0.5) / rows * 2) * np.float32(rows / size)
    plane = np.stack(np.broadcast_arrays(cx + half * xs[None, :], cy + half * ys[:, None], np.float32(-1)), -1).astype(
        np.float32
    )
    cos_y, sin_y, cos_p, sin_p = np.cos(view.yaw), np.sin(view.yaw), np.cos(view.pitch), np.sin(view.pitch)
    turn = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]]) @ np.array(
        [[1, 0, 0], [0, cos_p, sin_p], [0, -sin_p, cos_p]]
    )
    rays = (plane @ turn.T.astype(np.float32)).astype(np.float32)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = (turn @ np.array([0, 0, 5.0])).astype(np.float32)
    flat = rays.reshape(-1, 3)
    # rays that miss the bounding sphere are not traced
    along = -(flat @ origin)
    closest = float(origin @ origin) - along**2
    reach = np.sqrt(np.maximum(np.float32(1.75**2) - closest, 0))
    active = np.nonzero(closest < 1.75**2)[0]
    depth = (along - reach).astype(np.float32)
    far = along + reach
    hit = np.zeros(len(flat), bool)
    for _ in range(56):
        distance, _ = sdf(origin + flat[active] * depth[active, None], k)
        depth[active] += distance * np.float32(0.9)
        landed = distance < 0.004
        hit[active[landed]] = True
        active = active[~landed & (depth[active] < far[active])]
        if len(active) == 0:
            break
    index = np.nonzero(hit)[0]
    points = origin + flat[index] * depth[index, None]
    _, parts = sdf(points, k)
    eps = np.float32(0.006)
    normals = np.zeros_like(points)
    for corner in f32([(1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)]):
        normals += corner * sdf(points + corner * eps, k)[0][:, None]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    position, normal, part = np.zeros_like(flat), np.zeros_like(flat), np.zeros(len(flat), np.int8)
    position[index], normal[index], part[index] = points, normals, parts
    shape = (rows, size)
    return GBuffer(
        hit.reshape(shape), position.reshape(*shape, 3), normal.reshape(*shape, 3), part.reshape(shape), origin, rays
    )


def _emblem(kind: str, x: Reals, y: Reals) -> Reals:
    """Signed distance, roughly, to the outline of an emblem of unit radius: negative inside."""
    r, ax, ay = np.sqrt(x * x + y * y), np.abs(x), np.abs(y)
    if kind == "ring":
        ring: Reals = np.abs(r - 0.72) - 0.26
        return ring
    if kind == "disc":
        return r - 0.85
    if kind == "cross":
        return np.maximum(np.minimum(ax, ay) - 0.3, np.maximum(ax, ay) - 0.98)
    if kind == "diamond":
        return (ax + ay - 1.05) * 0.7
    if kind == "triangle":
        triangle: Reals = np.maximum(0.87 * ax + 0.5 * y - 0.5, -y - 0.6)
        return triangle
    bars: Reals = np.maximum(np.abs(ax - 0.55) - 0.28, ay - 0.9)
    return bars


def _albedo(identity: ObjectIdentity, look: Look, p: Floats, normal: Floats, part: NDArray[np.int8]) -> Floats:
    """Surface colour [P,3] of points [P,3] from look and emblem; part 1 is always dark."""
    base = f32(COLORS[look.color])
    cells = np.floor(p * np.float32(identity.texture_scale) + np.float32(identity.texture_phase))
    parity = {
        "plain": np.zeros(p.shape[:-1], np.float32),
        "striped": cells[..., 1] % 2,
        "checkered": cells.sum(-1) % 2,
    }[look.texture]
    second = _SLATE if look.color == "white" else _CREAM
    colour = base + (second - base) * parity[..., None].astype(np.float32)
    if look.material == "wooden":
        bend = np.sin(p[..., 1] * 2.3 + identity.texture_phase * 6) * 0.35 + np.sin(p[..., 0] * 3.1) * 0.2
        grain = 0.5 + 0.5 * np.sin((p[..., 0] * 0.6 + p[..., 1] * 0.5 + bend) * 21)
        colour = colour * (0.45 + 0.6 * grain[..., None]) * f32((1.0, 0.86, 0.70)) + f32((0.07, 0.035, 0.01))
    x = (p[..., 0] - identity.params["ex"]) / identity.params["er"]
    y = (p[..., 1] - identity.params["ey"]) / identity.params["er"]
    extent = np.where((normal[..., 2] > 0.25) & (part == 0), _emblem(identity.emblem, x, y), 9)[..., None]
    colour = np.where(extent < 0.16, _CREAM, colour)
    colour = np.where(extent < 0, f32((0.06, 0.06, 0.08)), colour)
    return np.where((part == 1)[..., None], f32((0.07, 0.08, 0.10)), colour).astype(np.float32)


def shade(identity: ObjectIdentity, look: Look, light: Light, g: GBuffer) -> Floats:
    """Colour of the lit object [h,w,3] in [0,1]; zero outside the object.

    Args:
        identity: The object.
        look: Colour, material and texture.
        light: The light.
        g: The G-buffer of the object.
    """
    n, rays = g.normal[g.hit], g.rays[g.hit]
    colour = _albedo(identity, look, g.position[g.hit], n, g.part[g.hit])
    direction = f32(light.direction)
    tint = f32(light.tint) * np.float32(light.strength)
    diffuse = np.maximum(n @ direction, 0)[..., None] * tint + light.ambient * (0.75 + 0.25 * n[..., 1:2])
    facing = np.maximum(-(rays * n).sum(-1), 0)
    mirror = rays + 2 * facing[..., None] * n
    gleam = np.maximum(mirror @ direction, 0)
    if look.material == "glossy":
        fresnel = (1 - facing) ** 3
        out = (
            colour * diffuse * 0.92 + (gleam**36 * 1.1)[..., None] * tint + fresnel[..., None] * f32((0.36, 0.38, 0.42))
        )
    elif look.material == "metal":
        up = mirror[..., 1]
        sky = (
            0.30
            + 0.95 / (1 + np.exp(-(up - 0.12) * 14))
            - 0.55 * np.exp(-(((up - 0.02) / 0.13) ** 2))
            + 0.25 * np.exp(-(((up + 0.55) / 0.2) ** 2))
        )
        out = colour * (0.18 * diffuse + sky[..., None] * 0.92) + (gleam**14 * 0.7)[..., None] * tint
    else:
        out = colour * diffuse
    lit = np.zeros((*g.hit.shape, 3), np.float32)
    lit[g.hit] = np.clip(out, 0, 1)
    return lit


def _noise_field(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Floats:
    """Mean of `count` random plane waves [H,W], in [-1,1]."""
    ys, xs = np.meshgrid(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1]), indexing="ij")
    field = np.zeros(shape)
    for _ in range(count):
        fx, fy, phase = rng.uniform(-7, 7), rng.uniform(-7, 7), rng.uniform(0, 6.3)
        field += np.sin(fx * xs + fy * ys + phase)
    return (field / count).astype(np.float32)


def backdrop(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Draw a background of a wall and a floor [H,W,3] in [0,1]."""
    height, width = shape
    horizon = rng.uniform(0.35, 0.75)
    ys, xs = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    wall, wall2, floor, floor2 = (rng.uniform(0.15, 0.85, 3).astype(np.float32) for _ in range(4))
    wall2, floor2 = wall * 0.65 + wall2 * 0.35, floor * 0.65 + floor2 * 0.35
    kind = int(rng.integers(4))
    angle = rng.uniform(0, 6.3)
    lean = np.cos(angle) * xs + np.sin(angle) * ys
    blend = [
        lean,
        (np.sin(lean * rng.uniform(12, 30)) > 0) * 0.8,
        _noise_field(rng, shape, 4) * 0.5 + 0.5,
        np.full(shape, 0.0),
    ][kind]
    picture = wall + (wall2 - wall) * np.clip(blend, 0, 1)[..., None]
    depth = 1 / np.maximum(ys - horizon + 0.12, 0.04)
    tiles = (
        (np.floor(xs * depth * 1.4 + 3) + np.floor(depth * 2.2)) % 2
        if rng.random() < 0.5
        else _noise_field(rng, shape, 3)
    )
    ground = floor + (floor2 - floor) * np.clip(tiles, 0, 1)[..., None] * 0.7
    return np.where((ys > horizon)[..., None], ground, picture).astype(np.float32)


def compose(colour: Floats, g: GBuffer, background: Floats, down: int) -> tuple[Floats, Floats]:
    """Place a lit object on a background with a soft shadow, and downscale by averaging.

    Args:
        colour: [h,w,3], from `shade`.
        g: The G-buffer of the object.
        background: [h,w,3] in [0,1].
        down: Factor of the downscaling.

    Returns:
        Picture [h/down,w/down,3] and coverage of the object [h/down,w/down], both in [0,1].
    """
    ys, xs = np.nonzero(g.hit)
    shaded = background
    if len(ys):  # a soft contact shadow, the object's only effect on its surroundings
        rows, cols = np.meshgrid(np.arange(g.hit.shape[0]), np.arange(g.hit.shape[1]), indexing="ij")
        dx = (cols - xs.mean()) / (0.62 * (np.ptp(xs) + 1))
        dy = (rows - ys.max() + 2) / (0.14 * (np.ptp(xs) + 1))
        shaded = background * (1 - 0.5 * np.exp(-2 * (dx**2 + dy**2)))[..., None]
    picture = np.where(g.hit[..., None], colour, shaded)
    return _pool(picture, down), _pool(g.hit[..., None].astype(np.float32), down)[..., 0]


def _pool(x: Floats, down: int) -> Floats:
    """Means of blocks of `down` x `down` pixels of [h,w,c]."""
    h, w, c = x.shape
    pooled: Floats = x.reshape(h // down, down, w // down, down, c).mean((1, 3)).astype(np.float32)
    return pooled


def to_uint8(picture: Reals) -> NDArray[np.uint8]:
    """Round a picture in [0,1] to 0..255."""
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
