"""The step graph's state on a CUDA device: state and inputs stay there, and one launch is kept per shape and direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import numpy as np

from alterbute.backends.base import Array, Arrays
from alterbute.backends.cuda.device_thread import DeviceThread
from alterbute.backends.cuda.runtime import Cuda
from alterbute.backends.cuda.upload_ring import UploadRing
from alterbute.bundle import ShapeRange, TensorSpec
from alterbute.errors import EngineError

_ITEM_BYTES: Final = {"float32": 4, "float16": 2, "int64": 8, "uint8": 1}
# Inputs that change at every step are small and get a deep ring, so that no edit of ordinary length waits for it. Inputs
# that change at an admission are large and rare.
_SMALL_BYTES: Final = 64 << 10
_SMALL_DEPTH: Final = 64
_LARGE_DEPTH: Final = 2


class Launch(Protocol):
    """The step graph at one shape, from one state buffer to the other."""

    def launch(self, uploaded: Collection[str]) -> None:
        """Enqueue one step and return at once; `uploaded` names the inputs that were written since the last launch."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


MakeLaunch: TypeAlias = Callable[[int, Mapping[str, tuple[int, ...]], Mapping[str, int]], Launch]
"""Makes a launch from the index of a profile, the shape of every input, and the address of every input and output."""


class DeviceStepState:
    """The step graph's state on a CUDA device; implements `alterbute.backends.step_state.StepState`. Any thread may call it.

    Inputs have one device buffer each for the largest shape: a smaller shape uses its beginning, so that addresses never
    change and captured graphs stay valid.

    Args:
        cuda: The device.
        inputs: The step graph's inputs as the manifest lists them.
        output: Name of its output, the next state.
        profiles: Shapes at which it can be launched.
        state: Shape of the state, [slots,K,C,h,w].
        make_launch: Makes a launch with the engine library.
        thread: The device's thread, which all calls to the device are made on.
        fix: What to do when no profile fits, for the error message.
    """

    def __init__(
        self,
        cuda: Cuda,
        inputs: tuple[TensorSpec, ...],
        output: str,
        *,
        profiles: Sequence[Mapping[str, ShapeRange]],
        state: tuple[int, ...],
        make_launch: MakeLaunch,
        thread: DeviceThread,
        fix: str,
    ) -> None:
        self._cuda, self._thread, self._output, self._make_launch, self._fix = cuda, thread, output, make_launch, fix
        self._specs = {edge.name: edge for edge in inputs}
        self._names = [name for name in self._specs if name != "state"]
        self._slot_shape = state[1:]
        self._all_profiles = profiles
        self._profiles = [(index, item) for index, item in enumerate(profiles) if item["state"].max[-2:] == state[-2:]]
        if not self._profiles:
            raise self._bucket_error(state[0], state[0])
        slots = max(state[0], *(profile["state"].max[0] for _, profile in self._profiles))
        state_bytes = math.prod(self._slot_shape) * 4
        self._num_slots, self._state_bytes = state[0], slots * state_bytes
        self._states = [cuda.allocate(self._state_bytes) for _ in range(2)]
        largest = {
            name: max(self._bytes(name, profile[name].max) for _, profile in self._profiles) for name in self._names
        }
        self._largest = largest
        self._buffers = {name: cuda.allocate(size) for name, size in largest.items()}
        small = sum(size for size in largest.values() if size <= _SMALL_BYTES)
        large = max(sum(largest.values()) - small, state_bytes)
        # Room for the alignment of every array, so that no block grows during an edit.
        self._small = UploadRing(cuda, size=small + 256 * len(largest), depth=_SMALL_DEPTH)
        self._large = UploadRing(cuda, size=large + 256 * len(largest), depth=_LARGE_DEPTH)
        self._pinned = cuda.allocate_pinned(state_bytes)
        self._launches: dict[tuple[int, int, int], Launch] = {}
        self._shape: tuple[int, int] | None = None
        self._turn = 0

    def write_slot(self, slot: int, state: Array) -> None:
        """Enqueue the upload of a state [K,C,h,w] f32 into a slot."""
        self._thread.call(lambda: self._write(self._turn, slot, state))

    def launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        """Enqueue the upload of changed inputs and one launch of the step graph; returns at once.

        Args:
            inputs: Every input but `state`, by name; their first axes give the slots and rows of the launch.
            changed: Names of the inputs that may differ from the last launch.

        Raises:
            EngineError: no profile holds this many slots and rows.
            DeviceError: the launch failed, or the device is lost.
        """
        self._thread.call(lambda: self._launch(inputs, changed))

    def warm_up(self) -> None:
        """Launch every shape in both directions, twice: the first run allocates, and the next is captured.

        Each shape is one call on the device's thread, between whose launches the states are kept on the host, so that images in the
        slots are not affected. The largest shape is first, so that memory grows once.
        """
        ends = ((index, end) for index, item in self._profiles for end in (item["guidance"].min, item["guidance"].max))
        for rows, slots, index in sorted({(end[1], end[0], index) for index, end in ends}, reverse=True):
            self._thread.call(lambda key=(index, slots, rows): self._warm_shape(*key))  # type: ignore[misc]

    def is_finite(self, slot: int) -> bool:
        """Always True: a check would have to wait for the device. Latents are checked when they are read."""
        return True

    def flip(self) -> None:
        """Swap the two state buffers."""
        self._turn ^= 1

    def latent(self, slot: int) -> Array:
        """Copy a slot's latent [C,h,w] f32 to the host; waits for the launches before."""
        return self._thread.call(lambda: self._read(self._turn, slot, self._slot_shape[1:]))

    def last_states(self, slot: int) -> tuple[Array, Array]:
        """Copy a slot's state [K,C,h,w] f32 before and after the last launch to the host; waits."""

        def read(turn: int) -> Array:
            return self._thread.call(lambda: self._read(turn, slot, self._slot_shape))

        return read(1 - self._turn), read(self._turn)

    def close(self) -> None:
        """Free launches, buffers and pinned memory; on the device's thread."""
        self._cuda.synchronize()
        for launch in self._launches.values():
            launch.close()
        self._small.close()
        self._large.close()
        self._cuda.free_pinned(self._pinned)
        for address in (*self._states, *self._buffers.values()):
            self._cuda.free(address)
        self._launches.clear()

    def _launch(self, inputs: Arrays, changed: Collection[str]) -> None:
        profile, slots, rows = self._choose_profile(*inputs["guidance"].shape)
        # Another launch shape has different padding and a different stride of guidance.
        stale = set(changed) if (slots, rows) == self._shape else set(inputs)
        # An upload or a launch that fails leaves buffers that match no launch: the next one sends everything.
        self._shape = None
        self._upload(inputs, stale, slots, rows)
        self._get_launch(profile, slots, rows).launch(stale)
        self._shape = (slots, rows)

    def _warm_shape(self, profile: int, slots: int, rows: int) -> None:
        turn = self._turn
        kept = [[self._read(side, slot, self._slot_shape) for slot in range(self._num_slots)] for side in range(2)]
        # What earlier launches left behind may hold indices beyond this shape.
        for name, address in self._buffers.items():
            self._cuda.call("cudaMemsetAsync", address, 0, max(self._largest[name], 1), self._cuda.stream)
        self._shape = None
        try:
            for _ in range(2):
                for self._turn in range(2):
                    self._get_launch(profile, slots, rows).launch(self._names)
        finally:
            self._turn = turn
        # A step from zeros may give NaN, which must not stay in any slot, padding included.
        for address in self._states:
            self._cuda.call("cudaMemsetAsync", address, 0, self._state_bytes, self._cuda.stream)
        for side, states in enumerate(kept):
            for slot, state in enumerate(states):
                self._write(side, slot, state)
        self._cuda.synchronize()

    def _write(self, turn: int, slot: int, state: Array) -> None:
        self._large.send([(self._states[turn] + slot * state.nbytes, state, state.nbytes)])

    def _read(self, turn: int, slot: int, shape: tuple[int, ...]) -> Array:
        pinned = self._pinned[: math.prod(shape) * 4]
        self._cuda.download(pinned, self._states[turn] + slot * math.prod(self._slot_shape) * 4)
        self._cuda.synchronize()
        value: Array = pinned.view(np.float32).reshape(shape).copy()
        return value

    def _choose_profile(self, slots: int, rows: int) -> tuple[int, int, int]:
        """The cheapest profile that holds these slots and rows, and the slots and rows to launch it at."""
        fitting = []
        for index, profile in self._profiles:
            low, high = profile["guidance"].min, profile["guidance"].max
            if slots <= high[0] and rows <= high[1]:
                shape = (max(slots, low[0]), max(rows, low[1]))
                fitting.append((shape[1], shape[0], index))
        if not fitting:
            raise self._bucket_error(slots, rows)
        best_rows, best_slots, index = min(fitting)
        return index, best_slots, best_rows

    def _get_launch(self, profile: int, slots: int, rows: int) -> Launch:
        key = (slots, rows, self._turn)
        if key not in self._launches:
            shapes = {name: self._shape_of(name, slots, rows) for name in self._specs}
            source, target = self._states[self._turn], self._states[1 - self._turn]
            addresses = {**self._buffers, "state": source, self._output: target}
            self._launches[key] = self._make_launch(profile, shapes, addresses)
        return self._launches[key]

    def _upload(self, inputs: Arrays, names: Collection[str], slots: int, rows: int) -> None:
        small: list[tuple[int, Array, int]] = []
        large: list[tuple[int, Array, int]] = []
        for name in self._names:
            if name in names:
                array, shape = inputs[name], self._shape_of(name, slots, rows)
                size = self._bytes(name, shape)
                if name == "guidance" and array.shape != shape:
                    padded = np.zeros(shape, np.float32)
                    padded[: array.shape[0], : array.shape[1]] = array
                    array = padded
                elif self._specs[name].shape[0] == "N":
                    # As on the host, padding rows repeat the first: with zeros they would read slot 0, which may be idle and hold NaN.
                    array = array[np.r_[: len(array), [0] * (rows - len(array))]] if len(array) < rows else array
                (small if size <= _SMALL_BYTES else large).append((self._buffers[name], array, size))
        for ring, items in ((self._small, small), (self._large, large)):
            if items:
                ring.send(items)

    def _shape_of(self, name: str, slots: int, rows: int) -> tuple[int, ...]:
        profile = self._profiles[0][1][name].max
        sizes = {"B": slots, "N": rows}
        axes = zip(self._specs[name].shape, profile, strict=True)
        return tuple(sizes.get(axis, size) if isinstance(axis, str) else axis for axis, size in axes)

    def _bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return math.prod(shape) * _ITEM_BYTES[self._specs[name].dtype]

    def _bucket_error(self, slots: int, rows: int) -> EngineError:
        shapes = (
            f"{list(profile['guidance'].max)} at {list(profile['state'].max[-2:])}" for profile in self._all_profiles
        )
        return EngineError(
            f"a launch has {slots} slots and {rows} rows at a latent of {list(self._slot_shape[-2:])}",
            f"one of the engine's buckets: {', '.join(shapes)}",
            f"open the editor with fewer slots, or {self._fix}",
        )
