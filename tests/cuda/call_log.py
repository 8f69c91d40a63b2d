"""The log of the stand-in of CUDA as typed records, and what tests ask of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LAUNCHES: Final = re.compile(
    r"cudaLaunch(Kernel|CooperativeKernel|KernelExC)"
    r"|cublas\w*(Gemm|gemm|geam|Matmul|Transform|copy|scal|getr)\w*|cudnn\w*(Forward\w*|AddTensor|ReduceTensor|Execute)"
)
_PRODUCT: Final = re.compile(r"cublas")
_ATTENTION_KERNEL: Final = re.compile(r"flash|fmha|attention_kernel", re.IGNORECASE)
_ILLEGAL: Final = frozenset(range(900, 909))
# Calls after which the host has waited for the device. Freeing memory waits too.
_WAITS: Final = frozenset(
    {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cudaFree", "cudaFreeHost"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaCall:
    """One call: thread from 1, its device, stream, capture that the stream is in (0: none), error code, function, arguments."""

    thread: int
    device: int
    stream: int
    capture: int
    error: int
    name: str
    arguments: str

    @property
    def is_launch(self) -> bool:
        """Whether the call puts a kernel on the device, itself or through cuBLAS or cuDNN."""
        return _LAUNCHES.fullmatch(self.name) is not None

    @property
    def is_wait(self) -> bool:
        """Whether the host waits for the device; copies to and from pageable memory are staged, and wait."""
        return self.name in _WAITS or (self.name.startswith("cudaMemcpy") and "pageable" in self.arguments)

    @property
    def is_upload(self) -> bool:
        """Whether the call copies from the host to the device."""
        return self.name.startswith("cudaMemcpy") and "kind=1" in self.arguments

    @property
    def value(self) -> dict[str, str]:
        """Arguments of the form `name=value`."""
        return dict(part.split("=", 1) for part in self.arguments.split() if "=" in part)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLaunches:
    """What one captured step puts on the device, by kind; `names` counts each kernel and function."""

    kernels: int
    memsets: int
    copies: int
    convolutions: int
    products: int
    attention: int
    other: int
    names: Counter[str]

    @property
    def total(self) -> int:
        """Nodes of the captured graph."""
        return (
            self.kernels + self.memsets + self.copies + self.convolutions + self.products + self.attention + self.other
        )


@dataclass(frozen=True, slots=True)
class CallLog:
    """Every call of a program, in order."""

    calls: Sequence[CudaCall]

    def count(self, name: str) -> int:
        """How often a function was called."""
        return sum(call.name == name for call in self.calls)

    def named(self, *names: str) -> list[CudaCall]:
        """Calls of these functions."""
        return [call for call in self.calls if call.name in names]

    def between(self, start: str, end: str | None = None) -> CallLog:
        """Calls after the mark `start`, up to the mark `end` or the log's end."""
        marks = {call.arguments: index for index, call in enumerate(self.calls) if call.name == "MARK"}
        return CallLog(self.calls[marks[start] + 1 : marks[end] if end else None])

    def illegal(self) -> list[CudaCall]:
        """Calls that were refused because of a capture, and captures that such a call has made invalid."""
        return [call for call in self.calls if call.error in _ILLEGAL]

    def failed(self) -> list[CudaCall]:
        """Calls that returned an error."""
        return [call for call in self.calls if call.error]

    def waits(self) -> list[CudaCall]:
        """Calls after which the host has waited for the device."""
        return [call for call in self.calls if call.is_wait]

    def captures(self) -> list[CudaCall]:
        """Captures that were begun."""
        return self.named("cudaStreamBeginCapture")

    def captures_by_thread(self) -> Counter[int]:
        """Number of captures that each thread has begun."""
        return Counter(call.thread for call in self.captures())

    def launches_of(self, capture: int) -> StepLaunches:
        """What a capture holds."""
        return group_launches(call for call in self.calls if call.capture == capture and not call.error)

    def left(self) -> dict[str, int]:
        """What was alive when the program ended: allocations, bytes, pinned, streams, events, graphs, executables."""
        ends = self.named("END")
        return {name: int(number) for name, number in ends[-1].value.items()} if ends else {}


def read_log(path: Path) -> CallLog:
    """The log of a program; empty where it has not called CUDA."""
    if not path.is_file():
        return CallLog([])
    calls = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        thread, device, stream, capture, error, name, arguments = line.split("\t", 6)
        calls.append(
            CudaCall(
                thread=int(thread),
                device=int(device),
                stream=int(stream),
                capture=int(capture),
                error=int(error),
                name=name,
                arguments=arguments,
            )
        )
    return CallLog(calls)


def group_launches(calls: Iterable[CudaCall]) -> StepLaunches:
    """Count calls that put work on the device, by kind."""
    groups: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for call in calls:
        group = _group(call)
        if group:
            groups[group] += 1
            kernel = call.name.startswith("cudaLaunch")
            # The name without its arguments: templates tell kernels apart, sizes do not.
            names[
                call.arguments.split(" <")[0] if kernel else f"{call.name} {call.arguments}".split(" m=")[0].strip()
            ] += 1
    return StepLaunches(
        kernels=groups["kernels"],
        memsets=groups["memsets"],
        copies=groups["copies"],
        convolutions=groups["convolutions"],
        products=groups["products"],
        attention=groups["attention"],
        other=groups["other"],
        names=names,
    )


def _group(call: CudaCall) -> str | None:
    if call.name.startswith("cudaMemset"):
        return "memsets"
    if call.name.startswith("cudaMemcpy"):
        return "copies"
    if not call.is_launch:
        return None
    if call.name.startswith("cudaLaunch"):
        return "attention" if _ATTENTION_KERNEL.search(call.arguments) else "kernels"
    if _PRODUCT.match(call.name):
        return "products"
    if call.name.startswith("cudnnConvolution") or call.arguments == "convolution":
        return "convolutions"
    return "attention" if call.arguments == "attention" else "other"
