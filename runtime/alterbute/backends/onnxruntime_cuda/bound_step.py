"""Launches of the step graph over fixed device memory, after the prologue that computes what does not change between steps."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from alterbute.backends.cuda.capture_guard import CAPTURES
from alterbute.backends.cuda.runtime import Cuda
from alterbute.backends.onnxruntime_cuda.gpu_session import BoundTensor, GpuSession
from alterbute.errors import EngineError

_logger: Final = logging.getLogger(__name__)


class BoundStep:
    """The step graph and its prologue over the memory of one state, whose tensors between the two are allocated here.

    Args:
        step: The session of the step graph.
        prologue: The session whose outputs are inputs of the step graph, such as the keys and values of its cross-attentions; None
            for a step graph without.
        cuda: The device.
        rows: Most UNet rows of a launch.
        tokens: T, length of the text.
        annotations: Numbers of CUDA graphs, each used once in the session.

    Raises:
        EngineError: a dimension between prologue and step is not known.
        DeviceError: the GPU has no memory left, or is lost.
    """

    def __init__(
        self,
        step: GpuSession,
        prologue: GpuSession | None,
        *,
        cuda: Cuda,
        rows: int,
        tokens: int,
        annotations: Iterator[int],
    ) -> None:
        self._step, self._prologue, self._cuda = step, prologue, cuda
        self._tokens, self._annotations = tokens, annotations
        self._between: dict[str, int] = {}
        for name, (dtype, shape) in self._made(rows).items():
            self._between[name] = cuda.allocate(BoundTensor(address=0, shape=shape, dtype=dtype).size)

    def make_launch(
        self, profile: int, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]
    ) -> BoundLaunch:
        """Bind the step graph, and its prologue, at one shape.

        Args:
            profile: Not needed: sessions accept any shape.
            shapes: Shape of every input of the manifest's step graph.
            addresses: Device address of every such input and of the output.
        """
        made = self._made(shapes["guidance"][1])
        dtypes = {
            **{name: dtype for name, (dtype, _) in (self._prologue.inputs if self._prologue else {}).items()},
            **{name: dtype for name, (dtype, _) in (*self._step.inputs.items(), *self._step.outputs.items())},
        }
        known = {**shapes, **dict.fromkeys(self._step.outputs, shapes["state"])}
        tensors = {
            name: BoundTensor(address=addresses[name], shape=shape, dtype=dtypes[name])
            for name, shape in known.items()
            if name in dtypes
        }
        for name, (dtype, shape) in made.items():
            tensors[name] = BoundTensor(address=self._between[name], shape=shape, dtype=dtype)
        return BoundLaunch(
            self._step,
            self._step.bind(tensors),
            annotation=next(self._annotations),
            prologue=self._prologue,
            prologue_binding=None if self._prologue is None else self._prologue.bind(tensors),
            shape=shapes["guidance"],
        )

    def close(self) -> None:
        """Free the tensors between prologue and step; launches must be closed before."""
        for address in self._between.values():
            self._cuda.free(address)
        self._between.clear()

    def _made(self, rows: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """Numpy type and shape of every output of the prologue in a launch of so many rows."""
        sizes: dict[int | str, int] = {"N": rows, "T": self._tokens}
        made = {}
        for name, (dtype, axes) in (self._prologue.outputs if self._prologue else {}).items():
            shape = tuple(sizes.get(axis, axis) for axis in axes)
            if axes[:1] != ("N",) or any(isinstance(axis, str) for axis in shape):
                raise EngineError(
                    f"the step's prologue makes {name!r} of shape {list(axes)}",
                    "the rows N, then T or numbers",
                    "export the bundle again",
                )
            made[name] = (dtype, tuple(int(axis) for axis in shape))
        return made


class BoundLaunch:
    """A launch of the step graph over fixed addresses; implements `alterbute.backends.cuda.device_step_state.Launch`.

    Args:
        step: The session of the step graph.
        binding: Its tensors.
        annotation: Number of the CUDA graph.
        prologue: The prologue's session; None for a step graph without.
        prologue_binding: Its tensors.
        shape: Slots and rows, for the log.
    """

    def __init__(
        self,
        step: GpuSession,
        binding: Any,
        *,
        annotation: int,
        prologue: GpuSession | None,
        prologue_binding: Any,
        shape: tuple[int, ...],
    ) -> None:
        self._step, self._binding, self._annotation = step, binding, annotation
        self._prologue, self._prologue_binding, self._shape = prologue, prologue_binding, shape
        self._is_captured = False

    def launch(self, uploaded: Collection[str]) -> None:
        """Enqueue the prologue if one of its inputs was uploaded, and one step; the first one captures the step's CUDA graph.

        Raises:
            DeviceError: the run failed, or the device is lost.
        """
        if self._prologue is not None and not self._prologue.inputs.keys().isdisjoint(uploaded):
            self._prologue.run_bound(self._prologue_binding)
        if self._is_captured:
            self._step.run_bound(self._binding, self._annotation)
            return
        _logger.debug("a step of %d slots and %d rows is captured", *self._shape)
        with CAPTURES.exclusive():
            self._step.run_bound(self._binding, self._annotation)
        self._is_captured = True

    def close(self) -> None:
        """Release the bindings."""
        for binding in filter(None, (self._binding, self._prologue_binding)):
            binding.clear_binding_inputs()
            binding.clear_binding_outputs()
