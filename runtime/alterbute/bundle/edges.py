"""Inputs and outputs that every graph of a bundle has, as its numbers determine them.

The runtimes feed and read arrays of these names, types and shapes, so a manifest that lists others is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from alterbute.bundle.bounds import STATE_ROWS, TIME_IDS
from alterbute.bundle.manifest import Manifest, TensorSpec
from alterbute.bundle.typed_json import KeyFault

OPTIONAL: Final = frozenset({"source_on", "identity_scale"})
"""Inputs of the step graph that a model may lack."""
_MASK: Final = ("SH", "SW")
_PICTURE: Final = ("SH", "SW", 3)


def make_edges(manifest: Manifest) -> dict[str, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]:
    """Inputs and outputs by graph, those in OPTIONAL among them; a symbol such as "B" is a free dimension."""
    channels, dim, pooled = manifest.latent_channels, manifest.text.dim, manifest.text.pooled
    latent: tuple[int | str, ...] = ("B", channels, "h", "w")
    scene = [_float("scene", "B", manifest.scene_channels, "h", "w")] if manifest.scene_channels else []
    text = [_float("text", "N", "T", dim), *([_float("pooled", "N", pooled)] if pooled else [])]
    reference = [_bytes("reference", "B", "S", "S", 3), _bytes("reference_mask", "B", "S", "S")]
    edges: dict[str, tuple[Sequence[TensorSpec], Sequence[TensorSpec]]] = {
        "prompt": ([_edge("ids", "int64", "N", "T")], text),
        "scene": (
            [
                *(_bytes("photo", "B", "S", "S", 3), _bytes("mask", "B", "S", "S")),
                *(reference if "reference" in manifest.scene else []),
            ],
            [*scene, _float("background", *latent), _float("keep", "B", 1, "h", "w")],
        ),
        "step": (_step_inputs(manifest, scene, text), [_float("next_state", "B", STATE_ROWS, *latent[1:])]),
        "decode": ([_float("latent", *latent)], [_bytes("image", "B", "S", "S", 3), _float("mean", "B")]),
        "window": (
            [
                *(_bytes("image", "H", "W", 3), _bytes("opacity", "OH", "OW")),
                *(_bytes(name, "H", "W") for name in ("mask", "region", "protect")),
                *(_edge(name, "int64", size) for name, size in (("box", 4), ("size", 2), ("rules", 4))),
            ],
            [
                *(_bytes("window", *_PICTURE), _bytes("object_mask", *_MASK), _bytes("window_mask", *_MASK)),
                _bytes("alpha", "BH", "BW"),
            ],
        ),
        "paste": _paste("uint8"),
        "paste16": _paste("uint16"),
    }
    if identity := manifest.identity:
        size = identity.size
        edges["identity"] = (
            [_bytes("reference", "M", size, size, 3), _bytes("reference_mask", "M", size, size)],
            [_float("identity", "M", *identity.shape), _float("null_identity", 1, *identity.shape)],
        )
    return {name: (tuple(inputs), tuple(outputs)) for name, (inputs, outputs) in edges.items()}


def check_edges(manifest: Manifest) -> None:
    """Check the graphs of a manifest, and their inputs and outputs.

    Raises:
        KeyFault: a graph is missing or unknown, or one of its edges is missing, unknown, listed twice, or of another type or shape.
    """
    expected = make_edges(manifest)
    for name in manifest.graphs:
        if name not in expected:
            raise KeyFault(f"graphs.{name}", "an unknown graph", f"only {', '.join(expected)}")
    for name, (inputs, outputs) in expected.items():
        if name not in manifest.graphs:
            raise KeyFault(f"graphs.{name}", "missing", f"the graphs {', '.join(expected)}")
        graph = manifest.graphs[name]
        _compare(f"graphs.{name}.inputs", graph.inputs, inputs)
        _compare(f"graphs.{name}.outputs", graph.outputs, outputs)


def _step_inputs(manifest: Manifest, scene: list[TensorSpec], text: list[TensorSpec]) -> list[TensorSpec]:
    """Inputs of the step graph; docs/step_graph.md describes them."""
    latent: tuple[int | str, ...] = ("B", manifest.latent_channels, "h", "w")
    identity = manifest.identity
    given = [] if identity is None else [_float("identity", "N", *identity.shape), _float("identity_scale", "N")]
    if identity is not None and identity.kind == "latent":
        given[0] = _float("identity", "N", *latent[1:])
    return [
        _float("state", "B", STATE_ROWS, *latent[1:]),
        _float("noise", *latent),
        _float("timestep", "B"),
        _float("solver", "B", STATE_ROWS, STATE_ROWS + 2),
        _float("reinject", "B", 2),
        _float("background", *latent),
        _float("background_noise", *latent),
        _float("keep", "B", 1, "h", "w"),
        *scene,
        _edge("owner", "int64", "N"),
        _float("guidance", "B", "N"),
        _float("source_on", "N"),
        *text,
        *([_float("time_ids", "N", TIME_IDS)] if manifest.text.pooled else []),
        *given,
        _float("guidance_rescale", "B"),
        _edge("rescale_row", "int64", "B"),
    ]


def _paste(dtype: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
    photo: tuple[int | str, ...] = ("BH", "BW", 3)
    return (
        [
            *(_bytes("edited", *_PICTURE), _bytes("roundtrip", *_PICTURE), _bytes("object_mask", *_MASK)),
            *(_float("threshold", 1), _edge("photo", dtype, *photo), _bytes("alpha", "BH", "BW")),
        ],
        [_edge("image", dtype, *photo)],
    )


def _compare(key: str, edges: Sequence[TensorSpec], expected: Sequence[TensorSpec]) -> None:
    known: Mapping[str, TensorSpec] = {edge.name: edge for edge in expected}
    seen: set[str] = set()
    for edge in edges:
        if edge.name in seen or edge.name not in known:
            seen_text = f"{edge.name!r} twice" if edge.name in seen else f"a list with {edge.name!r}"
            raise KeyFault(key, seen_text, f"{', '.join(known)}, each once")
        seen.add(edge.name)
        if edge != known[edge.name]:
            raise KeyFault(f"{key}.{edge.name}", describe(edge), describe(known[edge.name]))
    for name in known.keys() - seen - OPTIONAL:
        raise KeyFault(f"{key}.{name}", "missing", describe(known[name]))


def describe(edge: TensorSpec) -> str:
    """Type and shape of an edge, such as `float32 [B,4,h,w]`."""
    return f"{edge.dtype[:16]} [{','.join(map(str, edge.shape))}]"


def _edge(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def _float(name: str, *shape: int | str) -> TensorSpec:
    return _edge(name, "float32", *shape)


def _bytes(name: str, *shape: int | str) -> TensorSpec:
    return _edge(name, "uint8", *shape)
