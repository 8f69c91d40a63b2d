"""Gaussian noise that can be reproduced in any language: Philox4x32-10, then Box-Muller.

An implementation in another language must follow this layout:

- key: the seed's low 32 bits, then its high 32 bits.
- counter: (block, step, image, 0). Step 0 is the first latent, step k + 1 the fresh noise of the solver's step k;
  image is the image's index within its request.
- The four words w0..w3 of block i become elements 4i..4i+3 of the tensor in C order ([C,h,w]); a last block
  may be cut. With u = (w + 0.5) / 2^32: elements (0, 1) are r cos, r sin of w0, w1, and (2, 3) of w2, w3, where
  r = sqrt(-2 ln u(even word)) and the angle is (2 pi) u(odd word), all in float64, rounded once to float32.

Precision: the integers and u are exact everywhere. numpy's vectorised log, sin and cos may differ from libm's by one
unit in float64's last place; rounding to float32 hides that unless the value lies that close to the middle of two
float32 neighbours, about one element in 10^8. So another implementation agrees bit for bit except in such an element.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_ROUNDS: Final = 10
_WORD: Final = 0xFFFFFFFF
_HALF_WORD: Final = np.uint64(32)


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-10 of Salmon et al. (SC11), as Random123 defines it.

    Args:
        counter: [n,4] u32.
        key: Two 32-bit words.

    Returns:
        [n,4] u32.
    """
    c0, c1, c2, c3 = (counter[:, word].astype(np.uint64) for word in range(4))
    low = np.uint64(_WORD)
    for turn in range(_ROUNDS):
        k0, k1 = (np.uint64((key[word] + turn * _WEYL[word]) & _WORD) for word in range(2))
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (second >> _HALF_WORD) ^ c1 ^ k0, second & low, (first >> _HALF_WORD) ^ c3 ^ k1, first & low
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def draw_noise(seed: int, image: int, step: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw standard normal noise of a seed, an image and a step.

    Args:
        seed: 0..2^64-1.
        image: Index of the image within its request, 0..2^32-1.
        step: 0 for the first latent, k + 1 for the fresh noise of solver step k.
        shape: The tensor's shape, [C,h,w].

    Returns:
        f32 of this shape; equal arguments give equal bits.
    """
    size = math.prod(shape)
    blocks = -(-size // 4)
    counter = np.zeros((blocks, 4), np.uint32)
    counter[:, 0] = np.arange(blocks, dtype=np.uint32)
    counter[:, 1], counter[:, 2] = step, image
    words = philox4x32(counter, (seed & _WORD, seed >> 32))
    uniform = (words.astype(np.float64) + 0.5) / 2.0**32
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0::2]))
    angle = (2.0 * math.pi) * uniform[:, 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(-1)[:size].astype(np.float32).reshape(shape)
