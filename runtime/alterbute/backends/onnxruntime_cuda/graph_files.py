"""The files of a bundle that ONNX Runtime's CUDA provider loads: which variants, and how much memory they take at least."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from alterbute.backends.base import HOST_GRAPHS
from alterbute.bundle import WEIGHTS_FILE, Bundle, Variant
from alterbute.bundle.engines import WEIGHTS_NAME
from alterbute.errors import BundleError

_BACKENDS: Final = ("onnxruntime-cuda", "onnxruntime")
_PREFERRED: Final = ("fp16", "bf16", "fp32", "int8")
# An external weight's size in a graph file: the entry "length" of ONNX's TensorProto.external_data.
_LENGTH: Final = re.compile(rb"\n\x06length\x12[\x01-\x14]([0-9]+)")


def choose_variants(bundle: Bundle, *, exact: bool = False) -> dict[str, Variant]:
    """The variant of every graph but the image graphs: made for this provider, with a prologue, in half precision, if it has such.

    Args:
        bundle: The bundle.
        exact: Leave out variants whose kernels are not deterministic.

    Raises:
        BundleError: a graph has no variant that this provider runs.
    """
    return {
        name: _choose_variant(name, [variant for variant in graph.variants if variant.is_deterministic or not exact])
        for name, graph in bundle.manifest.graphs.items()
        if name not in HOST_GRAPHS
    }


def read_weights(bundle: Bundle, models: Iterable[bytes]) -> dict[str, bytes]:
    """Verified bytes of the external data files that these graphs name, by file name."""
    models = list(models)
    names = [name for name in bundle.manifest.files if WEIGHTS_NAME.fullmatch(name)]
    needed = [name for name in names if any(name.encode() in model for model in models)]
    # A session with such a table reads nothing else from disk, so even graphs without weights get one.
    return {name: bundle.read(name) for name in needed} or {WEIGHTS_FILE: b""}


def least_memory(models: Mapping[str, bytes], variants: Mapping[str, Variant]) -> int:
    """Bytes of device memory that the weights of these graphs take at least; activations come on top.

    fp16 and bf16 variants may share fp32 weights, which ONNX Runtime converts as it loads them: those count half.

    Args:
        models: Graph files by name; a name that `variants` does not have counts as the step graph's.
        variants: The variant of every graph.
    """
    total = 0
    for name, model in models.items():
        weights = sum(int(found) for found in _LENGTH.findall(model))
        is_half = variants.get(name, variants["step"]).precision in ("fp16", "bf16")
        total += weights // 2 if is_half else weights
    return total


def _choose_variant(graph: str, variants: Sequence[Variant]) -> Variant:
    for backend in _BACKENDS:
        fitting = [variant for variant in variants if variant.backend == backend]
        if fitting:
            return min(fitting, key=lambda item: (item.prologue is None, _PREFERRED.index(item.precision)))
    raise BundleError(
        f"the bundle's graph {graph!r} is for {', '.join(variant.backend for variant in variants)}",
        f"a variant for {' or '.join(_BACKENDS)}",
        "export the bundle again",
    )
