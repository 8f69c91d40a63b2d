"""The state of the step graph's slots, kept on the device (or host) that runs the graph from the first step to the last."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import numpy as np

from alterbute.backends.base import Array, Arrays, Backend


class StepState(Protocol):
    """Two state buffers: a launch reads one and writes the other, and `flip` swaps them without a copy."""

    def write_slot(self, slot: int, state: Array) -> None:
        """Copy a state [K,C,h,w] f32 into a slot."""
        ...

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """Run the step graph once; without a `flip` afterwards, the next launch starts from the same state.

        Args:
            inputs: Every input but `state`, by name; their first axes give the slots and rows of the launch.
            changed: Names of the inputs that may differ from the last launch.
        """
        ...

    def is_finite(self, slot: int) -> bool:
        """Whether the last launch wrote only finite numbers for a slot; always True where a check would wait for the device."""
        ...

    def flip(self) -> None:
        """Swap the buffers: the next launch reads what the last one wrote."""
        ...

    def warm_up(self) -> None:
        """Launch every shape that a lane can need, so that no later launch is the first of its shape; states and inputs are kept."""
        ...

    def latent(self, slot: int) -> Array:
        """Copy a slot's latent [C,h,w] f32 to the host; waits for the launches before."""
        ...

    def last_states(self, slot: int) -> tuple[Array, Array]:
        """Copy a slot's state [K,C,h,w] f32 before and after the last launch that was followed by `flip`."""
        ...


@runtime_checkable
class DeviceBackend(Backend, Protocol):
    """A backend that keeps the state of the slots on its device."""

    def open_step_state(self, state: tuple[int, ...]) -> StepState:
        """Allocate two state buffers of this shape, [slots,K,C,h,w]."""
        ...


def open_step_state(backend: Backend, state: tuple[int, ...]) -> StepState:
    """Allocate state of this shape, [slots,K,C,h,w], on the backend's device, or on the host for a CPU backend."""
    return backend.open_step_state(state) if isinstance(backend, DeviceBackend) else HostStepState(backend, state)


class HostStepState:
    """State in numpy arrays, for backends that run on the CPU."""

    def __init__(self, backend: Backend, state: tuple[int, ...]) -> None:
        self._backend = backend
        self._states = [np.zeros(state, np.float32) for _ in range(2)]

    def write_slot(self, slot: int, state: Array) -> None:
        """Copy a state [K,C,h,w] f32 into a slot of the buffer that the next launch reads."""
        self._states[0][slot] = state

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """Run the step graph once, from one buffer to the other; `changed` is not needed here."""
        slots = len(inputs["guidance"])
        state, next_state = (array[:slots] for array in self._states)
        self._backend.run("step", {"state": state, **inputs}, {"next_state": next_state})

    def is_finite(self, slot: int) -> bool:
        """Whether the last launch wrote only finite numbers for a slot."""
        return bool(np.isfinite(self._states[1][slot]).all())

    def flip(self) -> None:
        """Swap the buffers."""
        self._states.reverse()

    def warm_up(self) -> None:
        """Do nothing: on the CPU the first launch of a shape costs what the others cost."""

    def latent(self, slot: int) -> Array:
        """Copy a slot's latent [C,h,w] f32."""
        latent: Array = self._states[0][slot, 0].copy()
        return latent

    def last_states(self, slot: int) -> tuple[Array, Array]:
        """Copy a slot's state [K,C,h,w] f32 before and after the last launch."""
        return self._states[1][slot].copy(), self._states[0][slot].copy()
