"""The step graph with the state of its slots, which stays where the graph runs from the first step to the last."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import numpy as np

from alterbute.backends.base import Array, Arrays, Backend


class StepState(Protocol):
    """Two states in turn: what a launch writes is what the next one reads after `flip`, and nothing is copied."""

    def write_slot(self, slot: int, state: Array) -> None:
        """Give a slot its state [K,C,h,w]."""
        ...

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """Run the step graph once; without a `flip` in between, the next launch starts from the same state.

        Args:
            inputs: Every input but `state`; how many slots and rows they have is how many take part.
            changed: The names of those that may differ from the last launch.
        """
        ...

    def is_finite(self, slot: int) -> bool:
        """Whether what the last launch wrote for a slot is finite. A device that would have to wait says True."""
        ...

    def flip(self) -> None:
        """What was written becomes what is read."""
        ...

    def latent(self, slot: int) -> Array:
        """A copy of a slot's latent [C,h,w]; waits for the launches before it."""
        ...

    def last_states(self, slot: int) -> tuple[Array, Array]:
        """Copies of a slot's state [K,C,h,w] before and after the last launch that was flipped."""
        ...


@runtime_checkable
class DeviceBackend(Backend, Protocol):
    """A backend that keeps the state of the slots itself."""

    def open_step_state(self, state: tuple[int, ...]) -> StepState:
        """Memory for a state [slots,K,C,h,w] and its launches."""
        ...


def open_step_state(backend: Backend, state: tuple[int, ...]) -> StepState:
    """The backend's own steps, or those of arrays on the host."""
    return backend.open_step_state(state) if isinstance(backend, DeviceBackend) else HostStepState(backend, state)


class HostStepState:
    """State in numpy arrays, for backends that run where they are."""

    def __init__(self, backend: Backend, state: tuple[int, ...]) -> None:
        self._backend = backend
        self._states = [np.zeros(state, np.float32) for _ in range(2)]

    def write_slot(self, slot: int, state: Array) -> None:
        """As `StepState.write_slot`."""
        self._states[0][slot] = state

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """As `StepState.launch`."""
        slots = len(inputs["guidance"])
        state, next_state = (array[:slots] for array in self._states)
        self._backend.run("step", {"state": state, **inputs}, {"next_state": next_state})

    def is_finite(self, slot: int) -> bool:
        """As `StepState.is_finite`."""
        return bool(np.isfinite(self._states[1][slot]).all())

    def flip(self) -> None:
        """As `StepState.flip`."""
        self._states.reverse()

    def latent(self, slot: int) -> Array:
        """As `StepState.latent`."""
        latent: Array = self._states[0][slot, 0].copy()
        return latent

    def last_states(self, slot: int) -> tuple[Array, Array]:
        """As `StepState.last_states`."""
        return self._states[1][slot].copy(), self._states[0][slot].copy()
