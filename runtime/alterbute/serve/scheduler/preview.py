"""Previews: the clean latent that the UNet predicted in an image's last launch.

The lane keeps no UNet output, but it follows from the solver's matrix: of S' = W @ [S ; y ; z] every term but y is known.
"""

from __future__ import annotations

import numpy as np

from alterbute.backends import Array
from alterbute.denoise.plan import Plan
from alterbute.solver import NOISE, OUTPUT, STATE_ROWS


def preview_steps(steps: int, count: int) -> tuple[int, ...]:
    """The steps after which `count` previews are made, from 1, spread evenly; neither the first nor the last step."""
    return tuple(sorted({round(steps * (part + 1) / (count + 1)) for part in range(count)} & set(range(2, steps))))


def clean_estimate(plan: Plan, step: int, prediction: str, before: Array, after: Array, noise: Array | None) -> Array:
    """Compute the clean latent [C,h,w] f32 that the UNet predicted in a launch.

    Args:
        plan: The image's plan.
        step: Index of the launch, from 1: the first launch starts from noise alone.
        prediction: Type of the UNet's output: `epsilon`, `v_prediction` or `sample`.
        before: [K,C,h,w] f32, state before the launch.
        after: [K,C,h,w] f32, state after the launch.
        noise: [C,h,w] f32, the fresh noise of the launch.
    """
    matrix = plan.matrix[step].astype(np.float64)
    # Re-injection changes row 0 after the solver, so a row of history, where there is one, is used instead.
    row = max(
        range(STATE_ROWS),
        key=lambda index: (abs(matrix[index, OUTPUT]) > 1e-6 and index > 0, abs(matrix[index, OUTPUT])),
    )
    weight = matrix[row, OUTPUT]
    if abs(weight) < 1e-6:
        noisy: Array = before[0].astype(np.float32)
        return noisy
    other_terms = np.tensordot(matrix[row, :STATE_ROWS], before.astype(np.float64), axes=1)
    if noise is not None and matrix[row, NOISE]:
        other_terms = other_terms + matrix[row, NOISE] * noise
    output = (after[row] - other_terms) / weight
    signal, sigma = (float(scale) for scale in plan.level[step - 1])
    latent = before[0].astype(np.float64)
    if prediction == "epsilon":
        output = (latent - sigma * output) / signal
    elif prediction == "v_prediction":
        output = signal * latent - sigma * output
    clean: Array = output.astype(np.float32)
    return clean
