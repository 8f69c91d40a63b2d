"""torch as a backend of the editor: the exporter's modules with the checkpoint's weights, and step state on the device."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import torch
from alterbute.backends import Array, Arrays, Backend
from alterbute.backends.base import HOST_GRAPHS
from alterbute.bundle import VariantPrecision
from alterbute_export.export_bundle import read_specs
from torch import nn

_PRECISIONS: Final[dict[torch.dtype, VariantPrecision]] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


class HalfDenoiser(nn.Module):  # type: ignore[misc]  # mypy skips torch: nn.Module is Any
    """The family's UNet call in half precision; latent, timestep and output stay fp32, as in exported graphs."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, row: dict[str, torch.Tensor]) -> torch.Tensor:
        """Predict noise [N,C,h,w] f32 in half precision.

        Args:
            latent: [N,C,h,w] f32.
            timestep: [N] f32.
            row: The UNet's other inputs by name, each with N rows.
        """
        half = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in row.items()}
        output: torch.Tensor = self.inner(latent.to(self.dtype), timestep, half)
        return output.float()


class TorchBackend:
    """A backend that runs the exporter's modules with torch.

    Args:
        checkpoint: The checkpoint that the bundle was exported from.
        host: The backend that runs the image graphs (`window`, `paste`).
        device: Name of a torch device.
        dtype: Type that the graphs compute in.
        compile_mode: Mode of `torch.compile` for the step; None runs it eagerly.
    """

    min_slots: int = 1
    min_rows: int = 1

    def __init__(
        self, checkpoint: Any, host: Backend, *, device: str, dtype: torch.dtype, compile_mode: str | None = None
    ) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._host, self._device, self._dtype = host, torch.device(device), dtype
        self.precisions = {**host.precisions, "step": _PRECISIONS[dtype]}
        self._specs = {spec.name: spec for spec in read_specs(checkpoint) if spec.name not in HOST_GRAPHS}
        self._graphs: dict[str, Any] = {name: spec.graph for name, spec in self._specs.items()}
        for graph in self._graphs.values():
            graph.to(self._device)
        step = self._graphs["step"]
        if dtype is not torch.float32:
            step.denoiser = HalfDenoiser(step.denoiser, dtype)
        self._step = torch.compile(step, mode=compile_mode) if compile_mode else step

    def run(self, graph: str, inputs: Arrays, outputs: Arrays | None = None) -> dict[str, Array]:
        """Run a graph once with torch, and copy its outputs to the host.

        Args:
            graph: Name of the graph.
            inputs: Every input of the graph by name.
            outputs: Arrays to write results into, by output name.
        """
        if graph in HOST_GRAPHS:
            return self._host.run(graph, inputs, outputs)
        spec = self._specs[graph]
        arguments = [torch.from_numpy(np.ascontiguousarray(inputs[edge.name])).to(self._device) for edge in spec.inputs]
        half = self._dtype is not torch.float32 and graph != "step"
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            results: Any = self._graphs[graph](*arguments)
        results = results if isinstance(results, tuple) else (results,)
        return {edge.name: _to_numpy(value, edge.dtype) for edge, value in zip(spec.outputs, results, strict=True)}

    def open_step_state(self, state: tuple[int, ...]) -> TorchStepState:
        """Allocate the state [slots,K,C,h,w] on the device."""
        return TorchStepState(self._step, [edge.name for edge in self._specs["step"].inputs], state, self._device)

    def close(self) -> None:
        """Release the modules and the device's cached memory."""
        self._specs.clear()
        self._host.close()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class TorchStepState:
    """State of the step module in two torch tensors [slots,K,C,h,w], which swap roles after each step."""

    def __init__(self, step: Any, names: list[str], state: tuple[int, ...], device: torch.device) -> None:
        self._step, self._names, self._device = step, names, device
        self._states = [torch.zeros(state, device=device) for _ in range(2)]
        self._inputs: dict[str, torch.Tensor] = {}

    def write_slot(self, slot: int, state: Array) -> None:
        """Copy a slot's state [K,C,h,w] to the device."""
        self._states[0][slot] = torch.from_numpy(state).to(self._device)

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """Upload inputs that changed, and compute the next state of all slots."""
        for name, array in inputs.items():
            if name in changed or name not in self._inputs or self._inputs[name].shape != array.shape:
                self._inputs[name] = torch.from_numpy(array.copy()).to(self._device, non_blocking=True)
        slots = len(inputs["guidance"])
        arguments = [self._states[0][:slots] if name == "state" else self._inputs[name] for name in self._names]
        with torch.inference_mode():
            self._states[1][:slots] = self._step(*arguments)

    def is_finite(self, slot: int) -> bool:
        """True: parity with the reference is checked instead."""
        return True

    def flip(self) -> None:
        """Make the next state the current one."""
        self._states.reverse()

    def latent(self, slot: int) -> Array:
        """A slot's current latent [C,h,w] on the host."""
        latent: Array = self._states[0][slot, 0].cpu().numpy().copy()
        return latent

    def last_states(self, slot: int) -> tuple[Array, Array]:
        """A slot's states [K,C,h,w] before and after the last step, on the host."""
        before, after = (state[slot].cpu().numpy().copy() for state in reversed(self._states))
        return before, after


def _to_numpy(value: torch.Tensor, dtype: str) -> Array:
    value = value.float().cpu() if value.is_floating_point() else value.cpu()
    array: Array = value.numpy()
    if dtype == "uint8" and array.dtype != np.uint8:
        array = np.rint(np.clip(array, 0, 255))
    return array.astype(dtype)
