"""A backend that needs no engine: the step graph's arithmetic in numpy around a small nonlinear function."""

from __future__ import annotations

import numpy as np
from alterbute.backends import Array, Arrays


def fake_unet(latent: Array, scene: Array, timestep: Array, text: Array, identity: Array, scale: Array) -> Array:
    """[N,C,h,w] from inputs per row; every input changes the output."""
    seen = text.mean((1, 2)) + scale * identity.mean((1, 2)) + np.sin(timestep / 100)
    output: Array = 0.7 * np.tanh(latent + scene[:, :1]) + 0.3 * np.sin(3 * latent + seen[:, None, None, None])
    return output.astype(np.float32)


class FakeBackend:
    """Runs `step` only. `launches` keeps (slots, rows) of every launch."""

    min_slots = 1
    min_rows = 1

    def __init__(self) -> None:
        self.launches: list[tuple[int, int]] = []

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        assert graph == "step"
        assert outputs is not None
        assert all(array.flags.c_contiguous for array in inputs.values())
        self.launches.append(inputs["guidance"].shape)
        result = outputs["next_state"]
        result[:] = fused_step(inputs)
        return {"next_state": result}

    def close(self) -> None:
        pass


def fused_step(inputs: Arrays) -> Array:
    """Design section 3, line by line."""
    state, owner = inputs["state"], inputs["owner"]
    rows = fake_unet(
        state[owner, 0],
        inputs["scene"][owner] * inputs["source_on"][:, None, None, None],
        inputs["timestep"][owner],
        inputs["text"],
        inputs["identity"],
        inputs["identity_scale"],
    )
    guided = np.einsum("bn,nchw->bchw", inputs["guidance"], rows)
    stacked = np.concatenate([state, guided[:, None], inputs["noise"][:, None]], axis=1)
    solved: Array = np.einsum("bij,bjchw->bichw", inputs["solver"], stacked)
    signal, sigma = (inputs["reinject"][:, part, None, None, None] for part in range(2))
    known = signal * inputs["background"] + sigma * inputs["background_noise"]
    solved[:, 0] = inputs["keep"] * known + (1 - inputs["keep"]) * solved[:, 0]
    return solved
