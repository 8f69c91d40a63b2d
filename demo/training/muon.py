"""Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers"): momentum whose singular values are all made one.

A few thousand steps are all that a CPU affords, and there every step should move every direction of a weight. torch's own
class computes in bf16, which is ten times slower than fp32 on a machine without bf16 units, and takes no convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the published quintic; five rounds bring every singular value near one


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrix with equal singular values, roughly: Newton-Schulz on `[rows, columns]`."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """For weights of two or more dimensions; a convolution counts as a matrix [out, in * kh * kw].

    Updates are scaled to the size that AdamW's would have (Liu et al., arXiv 2502.16982), so both share a learning rate.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 1e-2
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
                velocity.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(velocity, group["momentum"]).flatten(1)
                size = 0.2 * max(ahead.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(ahead).view_as(weight), alpha=-group["lr"] * size)
