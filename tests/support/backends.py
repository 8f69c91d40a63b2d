"""A backend without an engine library: the step graph in numpy, around a small nonlinear function as UNet."""

from __future__ import annotations

import numpy as np
from alterbute.backends import Array, Arrays, Backend
from alterbute.bundle import VariantPrecision


def fake_unet(latent: Array, scene: Array, timestep: Array, text: Array, identity: Array, scale: Array) -> Array:
    """A function [N,C,h,w] of the UNet's inputs, one entry per row; every input affects the output."""
    shift = text.mean((1, 2)) + scale * identity.mean((1, 2)) + np.sin(timestep / 100)
    output: Array = 0.7 * np.tanh(latent + scene[:, :1] + 0.5 * scene[:, -1:]) + 0.3 * np.sin(
        3 * latent + shift[:, None, None, None]
    )
    return output.astype(np.float32)


class FakeBackend:
    """Runs the step graph only; `launches` records (slots, rows) of every launch."""

    min_slots = 1
    min_rows = 1

    def __init__(self) -> None:
        self.launches: list[tuple[int, int]] = []
        self.precisions: dict[str, VariantPrecision] = {"step": "fp32"}

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        assert graph == "step"
        assert outputs is not None
        assert all(array.flags.c_contiguous for array in inputs.values())
        self.launches.append(inputs["guidance"].shape)
        recorded = RecordingInputs(inputs)
        result = outputs["next_state"]
        result[:] = fused_step(recorded)
        assert recorded.names == inputs.keys(), f"the fake does not read {sorted(inputs.keys() - recorded.names)}"
        return {"next_state": result}

    def close(self) -> None:
        pass


class SharedBackend:
    """A backend that several tests share: `close` does nothing."""

    def __init__(self, inner: Backend) -> None:
        self.min_slots, self.min_rows, self.precisions = inner.min_slots, inner.min_rows, inner.precisions
        self._inner = inner

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        return self._inner.run(graph, inputs, outputs)

    def close(self) -> None:
        pass


class RecordingInputs(dict[str, Array]):
    """Inputs that record the names that were read."""

    def __init__(self, inputs: Arrays) -> None:
        super().__init__(inputs)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self.names.add(name)
        return super().__getitem__(name)


def gather(values: Array, index: Array) -> Array:
    """`values[index]` along the first axis; an index out of range fails the launch, as ONNX's Gather does.

    Raises:
        IndexError: an index is outside `[-n, n)`.
    """
    if not ((index >= -len(values)) & (index < len(values))).all():
        raise IndexError(f"Gather: indices {index.tolist()} must be within [{-len(values)},{len(values) - 1}]")
    return values[index]


def fused_step(inputs: Arrays) -> Array:
    """The step graph of docs/step_graph.md, line by line; `source_on` 0 drops the last scene channel."""
    state, owner, source_on = inputs["state"], inputs["owner"], inputs["source_on"]
    scene = gather(inputs["scene"], owner).copy()
    scene[:, -1] *= source_on[:, None, None]
    rows = fake_unet(
        gather(state[:, 0], owner),
        scene,
        gather(inputs["timestep"], owner),
        inputs["text"],
        inputs["identity"],
        inputs["identity_scale"],
    )
    guided = np.einsum("bn,nchw->bchw", inputs["guidance"], rows)
    prompt_rows = gather(rows, inputs["rescale_row"])
    guided_std, prompt_std = (latent.std((1, 2, 3)) for latent in (guided, prompt_rows))
    ratio = prompt_std / np.maximum(guided_std, 1e-12)
    guided *= (1 + inputs["guidance_rescale"] * (ratio - 1))[:, None, None, None]
    stacked = np.concatenate([state, guided[:, None], inputs["noise"][:, None]], axis=1)
    solved: Array = np.einsum("bij,bjchw->bichw", inputs["solver"], stacked)
    signal, sigma = (inputs["reinject"][:, part, None, None, None] for part in range(2))
    noised_background = signal * inputs["background"] + sigma * inputs["background_noise"]
    solved[:, 0] = inputs["keep"] * noised_background + (1 - inputs["keep"]) * solved[:, 0]
    return solved
