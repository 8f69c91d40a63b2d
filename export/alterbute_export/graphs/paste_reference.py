"""The paste graph's arithmetic in torch, in float64."""

from __future__ import annotations

import torch
from torch.nn import functional


def paste_reference(
    edited: torch.Tensor,
    roundtrip: torch.Tensor,
    object_mask: torch.Tensor,
    threshold: torch.Tensor,
    photo: torch.Tensor,
    alpha: torch.Tensor,
    *,
    radius: int,
    ridge: float,
    step: int,
) -> torch.Tensor:
    """The blended photo `[BH,BW,3]`, f32 in the range of the photo's levels, not rounded.

    Args:
        edited: `[SH,SW,3]` uint8 edited window.
        roundtrip: `[SH,SW,3]` uint8 decoded round trip of the photo's window.
        object_mask: `[SH,SW]` uint8, above 0 = object.
        threshold: `[1]` f32, T in [0,1]; negative pastes the model's pixels.
        photo: `[BH,BW,3]` uint8 or uint16 box of the photo.
        alpha: `[BH,BW]` uint8 weight of the edit, 255 for the edit alone.
        radius: Of the windows of the fit, in cells of its grid.
        ridge: Added to the diagonal of the covariance, for colours in [0,1].
        step: Window pixels per side of a cell of the fit's grid.
    """
    size = list(alpha.shape)
    scale = 257.0 if photo.dtype == torch.uint16 else 1.0
    picture = photo.double() / scale
    if float(threshold) < 0:
        drawn = _resize(edited.permute(2, 0, 1).double(), size).permute(1, 2, 0)
    else:
        gain, offset = fit_color_map(
            edited.double() / 255, roundtrip.double() / 255, object_mask > 0, float(threshold), radius, ridge, step
        )
        gain = _resize(gain.flatten(2).permute(2, 0, 1), size).permute(1, 2, 0).unflatten(2, (3, 3))
        offset = _resize(offset.permute(2, 0, 1), size).permute(1, 2, 0)
        drawn = picture + torch.einsum("hwi,hwij->hwj", picture, gain) + 255 * offset
    over = alpha[:, :, None].double()
    blended = (over * drawn.clamp(0, 255) + (255 - over) * picture) / 255
    return (scale * torch.where(over == 0, picture, blended)).float()


def fit_color_map(
    e: torch.Tensor, b: torch.Tensor, is_object: torch.Tensor, threshold: float, radius: int, ridge: float, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the change from round trip to edit as a local affine map of the round trip's colours: `e - b ~ b D + c`.

    What the map does not explain, rho, is added to c where its length is above T: c' = c + |rho|^4 / (|rho|^4 + T^4) rho. The
    fourth power keeps the model's noise out, and takes patterns that the photo does not have.
    D is [h,w,3,3], row by row, and c' is [h,w,3], both in the dtype of the inputs.

    Args:
        e: Edited window [h,w,3] in [0,1].
        b: Round trip of the photo's window [h,w,3] in [0,1].
        is_object: [h,w] bool; pixels outside have a thousandth of the weight.
        threshold: T, in [0,1].
        radius: Of the windows of the fit, in cells of its grid.
        ridge: Added to the diagonal of the covariance.
        step: Window pixels per side of a cell of the fit's grid.
    """
    weight = torch.where(is_object, 1.0, 1e-3).to(e)[..., None]
    d = e - b

    def pool(planes: torch.Tensor) -> torch.Tensor:
        flat = planes.flatten(2).permute(2, 0, 1)[None]
        pooled = functional.avg_pool2d(flat, 2 * radius + 1, 1, radius, count_include_pad=True)
        return pooled[0].permute(1, 2, 0).reshape(*pooled.shape[2:], *planes.shape[2:])

    def reduce(planes: torch.Tensor) -> torch.Tensor:
        flat = functional.avg_pool2d(planes.flatten(2).permute(2, 0, 1)[None], step)
        return flat[0].permute(1, 2, 0).reshape(*flat.shape[2:], *planes.shape[2:])

    total = pool(reduce(weight))

    def mean(planes: torch.Tensor) -> torch.Tensor:
        extra = (1,) * (planes.ndim - 3)
        return pool(reduce(planes * weight.reshape(*weight.shape, *extra))) / total.reshape(*total.shape, *extra)

    mb, md = mean(b), mean(d)
    covariance = (
        mean(b[..., :, None] * b[..., None, :]) - mb[..., :, None] * mb[..., None, :] + ridge * torch.eye(3).to(e)
    )
    change = mean(b[..., :, None] * d[..., None, :]) - mb[..., :, None] * md[..., None, :]
    gain = torch.linalg.solve(covariance, change)
    offset = md - torch.einsum("hwi,hwij->hwj", mb, gain)
    together = torch.cat([gain.flatten(2), offset], 2)
    smooth = pool(total * together) / pool(total)
    size = list(e.shape[:2])
    if step > 1:
        smooth = functional.interpolate(smooth.permute(2, 0, 1)[None], size, mode="bilinear")[0].permute(1, 2, 0)
    gain, offset = smooth[..., :9].unflatten(2, (3, 3)), smooth[..., 9:]
    rho = d - torch.einsum("hwi,hwij->hwj", b, gain) - offset
    energy = rho.square().sum(-1, keepdim=True) + 1e-12
    share = energy.square() / (energy.square() + threshold**4) * is_object[..., None]
    return gain, offset + share * rho


def _resize(planes: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Resize [C,h,w] bilinearly, antialiased where it shrinks."""
    return functional.interpolate(planes[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
