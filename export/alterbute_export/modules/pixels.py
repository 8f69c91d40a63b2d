"""Conversion between uint8 pictures and the value ranges of models."""

from __future__ import annotations

import torch


def to_signed(pixels: torch.Tensor) -> torch.Tensor:
    """NHWC uint8 RGB to NCHW f32 in [-1,1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(signed: torch.Tensor) -> torch.Tensor:
    """NCHW f32 in [-1,1] to NHWC f32 in [0,255], clipped and not yet rounded."""
    return ((signed + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1)


def to_coverage(mask: torch.Tensor) -> torch.Tensor:
    """NHW uint8, 255 = inside, to N1HW f32 in [0,1]."""
    return mask.unsqueeze(1).float() / 255
