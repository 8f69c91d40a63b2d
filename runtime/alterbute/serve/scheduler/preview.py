"""What an image will look like, told halfway: the clean estimate that the last launch was steered by.

The lane keeps no UNet output, but the solver's matrix gives it back: of S' = W @ [S ; y ; z] all but y is known.
"""

from __future__ import annotations

import numpy as np

from alterbute.backends import Array
from alterbute.denoise.plan import Plan
from alterbute.solver import NOISE, OUTPUT, STATE_ROWS


def preview_steps(steps: int, wanted: int) -> tuple[int, ...]:
    """After which steps to look, spread evenly; never after the last one, which gives the result itself."""
    return tuple(sorted({round(steps * (part + 1) / (wanted + 1)) for part in range(wanted)} & set(range(2, steps))))


def clean_estimate(plan: Plan, step: int, prediction: str, before: Array, after: Array, noise: Array | None) -> Array:
    """[C,h,w] f32, the clean latent that the UNet saw in a launch.

    Args:
        plan: The image's.
        step: Which launch it was, from 1: the first one starts from noise alone.
        prediction: What the UNet's output means: `epsilon`, `v_prediction` or `sample`.
        before: [K,C,h,w], state that it started from.
        after: [K,C,h,w], state that it wrote.
        noise: [C,h,w], the fresh noise that it took.
    """
    matrix = plan.matrix[step].astype(np.float64)
    # Re-injection changes row 0 after the solver; a row of history, where there is one, is what the solver wrote.
    row = max(
        range(STATE_ROWS),
        key=lambda index: (abs(matrix[index, OUTPUT]) > 1e-6 and index > 0, abs(matrix[index, OUTPUT])),
    )
    weight = matrix[row, OUTPUT]
    if abs(weight) < 1e-6:
        noisy: Array = before[0].astype(np.float32)
        return noisy
    known = np.tensordot(matrix[row, :STATE_ROWS], before.astype(np.float64), axes=1)
    if noise is not None and matrix[row, NOISE]:
        known = known + matrix[row, NOISE] * noise
    output = (after[row] - known) / weight
    signal, sigma = (float(scale) for scale in plan.level[step - 1])
    latent = before[0].astype(np.float64)
    if prediction == "epsilon":
        output = (latent - sigma * output) / signal
    elif prediction == "v_prediction":
        output = signal * latent - sigma * output
    clean: Array = output.astype(np.float32)
    return clean
