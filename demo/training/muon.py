"""Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers"): momentum with all singular values set to one.

A CPU affords a few thousand steps only, so each step should change a weight in all directions. torch's own class computes
in bf16, which is ten times slower than fp32 on a machine without bf16 units, and does not support convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the published quintic; five iterations bring every singular value near one


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Approximation of the nearest matrix [rows,columns] whose singular values are one, by Newton-Schulz iterations."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):  # type: ignore[misc]  # mypy skips torch: the base is Any
    """Optimizer of weights with two or more dimensions; a convolution is a matrix [out, in * kh * kw].

    Updates are scaled to the size of AdamW's (Liu et al., arXiv 2502.16982), so that both use the same learning rate.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 1e-2
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]  # mypy skips torch: the decorator is Any
    def step(self, closure: Any = None) -> None:
        """Update all weights that have a gradient; `closure` is ignored."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
                velocity.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(velocity, group["momentum"]).flatten(1)
                size = 0.2 * max(ahead.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonalise(ahead).view_as(weight), alpha=-group["lr"] * size)
