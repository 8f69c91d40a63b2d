"""Start of the autoencoder at a PCA of 4x4 patches, so that training begins at 25 dB inside the object.

The space-to-channel layout has a linear path from pixels to latents and back. The weights along this path are set
analytically, those at its two ends by least squares; all others start near zero.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderDC
from torch import Tensor

from demo.model import FACTOR, LATENTS

_CONSTANT = 20.0  # value of a constant channel, which keeps the last RMS norm almost linear


def split_patches(picture: Tensor) -> Tensor:
    """Patches [B,H/4,W/4,48] of a picture [B,3,H,W]."""
    b, c, h, w = picture.shape
    return (
        picture.reshape(b, c, h // FACTOR, FACTOR, w // FACTOR, FACTOR)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(b, h // FACTOR, w // FACTOR, -1)
    )


def _add_to_centre(weight: Tensor, out_channel: int, in_channel: int, value: float = 1.0) -> None:
    """Add a value to the centre tap of a 3x3 convolution."""
    weight[out_channel, in_channel, 1, 1] += value


@torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
def start_from_pca(vae: AutoencoderDC, picture: Tensor, weight: Tensor) -> None:
    """Initialise an autoencoder with the principal components of patches of pictures.

    Args:
        vae: The autoencoder, changed in place.
        picture: [B,3,H,W] in [-1,1].
        weight: [B,1,H,W], 0..1, weight of each pixel.
    """
    points = split_patches(picture).flatten(0, 2)
    mass = torch.nn.functional.avg_pool2d(0.3 + weight, FACTOR).permute(0, 2, 3, 1).flatten()[:, None]
    mean = (points * mass).sum(0) / mass.sum()
    energy, basis = torch.linalg.eigh((points - mean).T @ ((points - mean) * mass) / mass.sum())
    basis = basis.flip(1)[:, :LATENTS] / energy.flip(0)[:LATENTS].sqrt()
    target = (points - mean) @ basis  # [P,16], unit variance
    encoder, decoder = vae.encoder, vae.decoder
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.mul_(0.05)
            if module.bias is not None:
                module.bias.zero_()
    for block in [*encoder.down_blocks, *decoder.up_blocks]:
        for layer in block:
            if hasattr(layer, "norm"):
                layer.norm.weight.fill_(0.02)
            for convolution in (getattr(layer, "conv1", None), getattr(layer, "conv2", None)):
                if convolution is not None:
                    convolution.weight.mul_(20)
    for c in range(3):
        _add_to_centre(encoder.conv_in.conv.weight, c, c)
    down = encoder.down_blocks[1][-1].conv.weight
    for c in range(12):
        _add_to_centre(down, c, c)
    _fit(
        encoder.conv_out,
        _record_input(encoder, encoder.conv_out, picture),
        target.reshape(*split_patches(picture).shape[:3], LATENTS),
        pad=0,
    )

    latent = vae.encode(picture).latent
    decode_points = torch.linalg.lstsq(
        torch.cat([latent.permute(0, 2, 3, 1).flatten(0, 2), torch.ones(len(points), 1)], 1), points
    ).solution  # [17,48]
    # patch value (c, y, x) with y = 2 y1 + y2 goes to hidden channel ((c*4 + y1*2 + x1) * 4 + y2*2 + x2): shuffling it up once gives 12 maps
    up = decoder.up_blocks[1][0].conv
    for c in range(3):
        for y in range(4):
            for x in range(4):
                hidden = (c * 4 + (y % 2) * 2 + x % 2) * 4 + (y // 2) * 2 + x // 2
                decoder.conv_in.weight[hidden, :, 1, 1] = decode_points[:-1, c * 16 + y * 4 + x]
                decoder.conv_in.bias[hidden] = decode_points[-1, c * 16 + y * 4 + x]
    for out in range(up.weight.shape[0]):
        _add_to_centre(up.weight, out, out // 2, -1.0)  # cancels the shortcut
    for channel in range(12):
        for place in range(4):
            _add_to_centre(up.weight, channel * 4 + place, channel * 4 + place, 1.0)
            _add_to_centre(
                up.weight, (12 + channel) * 4 + place, channel * 4 + place, -1.0
            )  # both signs, because of the rectifier
    up.bias[24 * 4 : 25 * 4] = _CONSTANT
    decoder.norm_out.weight.fill_(_CONSTANT / 32**0.5)
    _fit(
        decoder.conv_out.conv,
        _record_input(decoder, decoder.conv_out, latent),
        torch.nn.functional.pixel_unshuffle(picture, 2).permute(0, 2, 3, 1),
        pad=1,
    )


def _record_input(module: torch.nn.Module, layer: torch.nn.Module, value: Tensor) -> Tensor:
    """Input of `layer` when `module` is called with `value`."""
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    module(value)
    handle.remove()
    return inputs[0]


def _fit(convolution: torch.nn.Conv2d, features: Tensor, target: Tensor, pad: int) -> None:
    """Set a 3x3 convolution by least squares, to map features [B,C,h,w] to target [B,h,w,O]; pad 0 fits its centre tap only."""
    side = 2 * pad + 1
    columns = torch.nn.functional.unfold(features, side, padding=pad).transpose(1, 2).flatten(0, 1).double()
    goals = target.flatten(0, 2).double()
    columns = torch.cat([columns, torch.ones(len(columns), 1, dtype=torch.float64)], 1)
    gram = columns.T @ columns + 1e-7 * len(columns) * torch.eye(columns.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(gram, columns.T @ goals).float()
    convolution.weight.zero_()
    weight = solution[:-1].T.reshape(len(convolution.weight), features.shape[1], side, side)
    convolution.weight[:, :, 1 - pad : 2 + pad, 1 - pad : 2 + pad] = weight
    convolution.bias.copy_(solution[-1])
