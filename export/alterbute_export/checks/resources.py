"""Memory and disk that an export needs, estimated before it starts, and its refusal when the machine does not have them."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alterbute.bundle import VariantPrecision

from alterbute_export.checkpoint.layout import open_weights
from alterbute_export.checkpoint.reader import Checkpoint
from alterbute_export.errors import ResourceError

_LIBRARIES_BYTES: Final = 700_000_000
"""Memory of torch, ONNX and ONNX Runtime with nothing loaded, and of the activations of the parity check's small pictures."""
_EDIT_BYTES_PER_PIXEL: Final = 12_000
"""Memory of attention and autoencoder in the edit that precision is measured with, per pixel of the bundle's resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEstimate:
    """Peaks of an export, in bytes."""

    memory: int
    disk: int
    graph: str
    """The graph whose export takes most memory."""
    fp32: int
    """Size of all weights in fp32."""

    def __str__(self) -> str:
        return f"{self.memory / 1e9:.1f} GB of memory (graph {self.graph}) and {self.disk / 1e9:.1f} GB of disk"


def estimate_resources(
    checkpoint: Checkpoint, precision: VariantPrecision, *, measure: bool = True
) -> ResourceEstimate:
    """Memory and disk that an export needs, computed from the headers of the weights files alone.

    Args:
        checkpoint: The checkpoint to export.
        precision: Type of the graphs' heavy part.
        measure: Whether an fp16 or bf16 export edits a photo to find overflow, which takes memory of its own.
    """
    counts = {name: sum(map(_count_weights, part.files)) for name, part in checkpoint.parts.items()}
    mapped = {name: max(path.stat().st_size for path in part.files) for name, part in checkpoint.parts.items()}
    adapter = _count_weights(checkpoint.adapter.path) if checkpoint.adapter else 0
    parts = {
        "prompt": [name for name in counts if name.startswith("text_encoder")],
        "identity": ["image_encoder" if "image_encoder" in counts else "vae"],
        "scene": ["vae"],
        "step": ["unet"],
    }
    weights = {graph: sum(counts[name] for name in names) for graph, names in parts.items()}
    weights["step"] += adapter
    # While a file is read, it is mapped in memory beside the fp32 model; so is a graph's weights file when it is checked.
    peaks = {graph: 4 * weights[graph] + max(mapped[name] for name in names) for graph, names in parts.items()}
    largest = max(peaks, key=lambda name: peaks[name])
    total = sum(counts.values()) + adapter
    edit = 2 * weights["step"] + checkpoint.settings.resolution**2 * _EDIT_BYTES_PER_PIXEL
    is_edited = precision == "int8" or (measure and precision != "fp32")
    return ResourceEstimate(
        memory=_LIBRARIES_BYTES + max(peaks[largest], edit if is_edited else 0),
        disk=total * _bytes_per_weight(precision, checkpoint.half_storage),
        graph=largest,
        fp32=4 * total,
    )


def check_room(needs: ResourceEstimate, target: Path) -> None:
    """Refuse an export that needs more memory or disk than this machine has available.

    Raises:
        ResourceError: memory or disk do not suffice; the message has both numbers.
    """
    memory, disk = available_memory(), _free_disk(target)
    anyway = "or give --allow-shortage to try it anyway"
    if memory is not None and needs.memory > memory:
        raise ResourceError(
            f"{memory / 1e9:.1f} GB of memory are available",
            f"about {needs.memory / 1e9:.1f} GB, for graph {needs.graph}",
            f"free some, use a larger machine, {anyway}",
        )
    if needs.disk > disk:
        raise ResourceError(
            f"{disk / 1e9:.1f} GB of disk are free at {target}",
            f"about {needs.disk / 1e9:.1f} GB",
            f"free some, choose another -o, {anyway}",
        )


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, within this container's limit; None if the system reports neither."""
    sizes = [size for size in (_system_memory(), _container_memory()) if size is not None]
    return min(sizes) if sizes else None


def free_memory() -> None:
    """Return freed memory to the system: collect reference cycles that hold models, and trim the allocator's heap."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            # Another C library, without this function.
            return


def _bytes_per_weight(precision: VariantPrecision, is_half: bool) -> int:
    """Bytes on disk per weight, at the peak: other precisions write their weights beside those of the fp32 bundle."""
    stored = 2 if is_half else 4
    if precision == "fp32":
        return stored
    # An int8 bundle may keep any graph as it is stored in the fp32 bundle.
    return stored + {"fp16": 2, "bf16": 4, "int8": stored}[precision]


def _count_weights(path: Path) -> int:
    with open_weights(path) as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def _free_disk(target: Path) -> int:
    place = target.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _system_memory() -> int | None:
    try:
        lines: Mapping[str, str] = dict(
            line.split(":", maxsplit=1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        )
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
            return None
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_memory() -> int | None:
    """Bytes left in the control group. Its page cache counts as used, though it could be dropped: an estimate on the safe side."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return None
    return max(limit - used, 0)
