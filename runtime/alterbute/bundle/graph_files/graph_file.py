"""Graph files (ONNX), read before an engine library gets a byte of them: where their weights lie, and what goes in and out.

An engine library follows the file names and offsets that a graph file holds. Here they may only name the manifest's weights,
within their size; and the inputs and outputs must be those of the manifest. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from alterbute.bundle.engines import WEIGHTS_NAME
from alterbute.bundle.files import Bundle
from alterbute.bundle.graph_files.protobuf import Document, Span
from alterbute.bundle.manifest import FileEntry, Graph, TensorSpec, Variant
from alterbute.errors import BundleError

_MAX_NESTING: Final = 32
_MAX_SIZE: Final = 2**31 - 1
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_EXTERNAL: Final = 1
_ELEMENT_TYPES: Final = {"float32": 1, "uint8": 2, "uint16": 4, "int64": 7}
_FLOATS: Final = frozenset({1, 10, 16})
"""float32, float16 and bfloat16: types between a prologue and its graph."""
_EXPORT_AGAIN: Final = "get the bundle from a source that you trust, or export it again"


@dataclass(frozen=True, slots=True)
class FileEdge:
    """An input or output in a graph file: ONNX's number of its type, and its sizes; None is a free dimension."""

    type: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class GraphFile:
    """Inputs and outputs of a graph file by name."""

    inputs: Mapping[str, FileEdge]
    outputs: Mapping[str, FileEdge]


def read_model(bundle: Bundle, graph: str, variant: Variant) -> bytes:
    """Verified bytes of a variant's file whose inputs and outputs are those of the manifest, and whose weights are the bundle's.

    Args:
        bundle: The bundle.
        graph: Name of the graph.
        variant: A variant of it; its prologue is left out of account.

    Raises:
        BundleError: the file is not what the manifest lists, or refers to anything outside the bundle's weights.
    """
    data = bundle.read(variant.file)
    check_model(read_graph_file(variant.file, data, bundle.manifest.files), variant.file, bundle.manifest.graphs[graph])
    return data


def read_model_and_prologue(bundle: Bundle, graph: str, variant: Variant) -> tuple[bytes, bytes]:
    """The same for a variant with a prologue: verified bytes of the file, and of the prologue.

    Args:
        bundle: The bundle.
        graph: Name of the graph.
        variant: A variant with a prologue.

    Raises:
        BundleError: one of the files is not what the manifest lists, or they do not fit together.
    """
    assert variant.prologue is not None
    data, prologue_data = bundle.read(variant.file), bundle.read(variant.prologue)
    files = bundle.manifest.files
    prologue = read_graph_file(variant.prologue, prologue_data, files)
    check_model(
        read_graph_file(variant.file, data, files),
        variant.file,
        bundle.manifest.graphs[graph],
        variant.prologue,
        prologue,
    )
    return data, prologue_data


def check_model(
    model: GraphFile, file: str, graph: Graph, prologue_file: str = "", prologue: GraphFile | None = None
) -> None:
    """Hold a graph file's inputs and outputs, and those of its prologue, against the manifest's.

    Args:
        model: The graph file.
        file: Its name, for messages.
        graph: The manifest's entry.
        prologue_file: Name of the prologue, for messages.
        prologue: The prologue that makes some of the file's inputs; None for none.

    Raises:
        BundleError: a name, type or shape differs.
    """
    inputs = {edge.name: edge for edge in graph.inputs}
    outputs = {edge.name: edge for edge in graph.outputs}
    made: Mapping[str, FileEdge] = {}
    read = set(model.inputs)
    if prologue is not None:
        _check_names(prologue_file, "inputs", set(prologue.inputs) - inputs.keys(), set())
        for name, edge in prologue.inputs.items():
            _check_edge(prologue_file, name, edge, inputs[name])
        for name, edge in prologue.outputs.items():
            if name in inputs or name in outputs or edge.type not in _FLOATS:
                raise _edge_error(prologue_file, f"makes {name!r}", "floats of names that the manifest does not use")
        made = prologue.outputs
        read |= set(prologue.inputs)
    _check_names(file, "inputs", set(model.inputs) - inputs.keys() - made.keys(), inputs.keys() - read)
    _check_names(file, "outputs", set(model.outputs) - outputs.keys(), outputs.keys() - set(model.outputs))
    for name, edge in model.inputs.items():
        if name in inputs:
            _check_edge(file, name, edge, inputs[name])
        elif (edge.type, len(edge.shape)) != (made[name].type, len(made[name].shape)):
            raise _edge_error(file, f"reads {name!r} of another type than the prologue makes", "the prologue's")
    for name, edge in model.outputs.items():
        _check_edge(file, name, edge, outputs[name])


def read_graph_file(name: str, data: bytes, files: Mapping[str, FileEntry]) -> GraphFile:
    """Read inputs and outputs of a graph file, and check where it keeps its weights.

    Args:
        name: The file's name, for messages.
        data: Its verified bytes.
        files: The manifest's files, among which the weights must be.

    Raises:
        BundleError: the bytes are no ONNX graph, or weights lie elsewhere.
    """
    document = Document(data)
    try:
        graphs = []
        for number, value in document.fields(document.span):
            if number == 7:
                graphs.append(_span(value))
            elif number in (20, 25):
                raise ValueError("it has functions or training graphs, which no exported graph has")
        if len(graphs) != 1:
            raise ValueError(f"it has {len(graphs)} graphs")
        return _read_main_graph(document, graphs[0], files)
    except ValueError as fault:
        message = "a name is not UTF-8" if isinstance(fault, UnicodeError) else str(fault)
        raise BundleError(
            f"the bundle's graph file {name!r} is not what an export writes ({message})",
            "an ONNX graph whose weights are in the files of the manifest",
            _EXPORT_AGAIN,
        ) from None


def _read_main_graph(document: Document, graph: Span, files: Mapping[str, FileEntry]) -> GraphFile:
    inputs: dict[str, FileEdge] = {}
    outputs: dict[str, FileEdge] = {}
    initializers: set[str] = set()
    for number, value in document.fields(graph):
        if number in (11, 12):
            _add_edge(document, _span(value), inputs if number == 11 else outputs)
        elif number == 5:
            initializers.add(_check_tensor(document, _span(value), files))
        else:
            _check_graph_field(document, number, value, files, depth=1)
    if both := initializers & inputs.keys():
        raise ValueError(f"{min(both)!r} is an input and a weight")
    return GraphFile(inputs, outputs)


def _check_graph_field(
    document: Document, number: int, value: Span | int, files: Mapping[str, FileEntry], depth: int
) -> None:
    """Check the tensors of one field of a graph, at any depth; a node without the bytes `location` has no external tensor."""
    if depth > _MAX_NESTING:
        raise ValueError("its graphs are nested too deeply")
    if number == 5:
        _check_tensor(document, _span(value), files)
    elif number == 15:
        raise ValueError("it has sparse weights, which no exported graph has")
    elif number == 1 and document.has(b"location", _span(value)):
        for node_field, attribute in document.fields(_span(value)):
            if node_field == 5:
                _check_attribute(document, _span(attribute), files, depth + 1)


def _check_attribute(document: Document, span: Span, files: Mapping[str, FileEntry], depth: int) -> None:
    for number, value in document.fields(span):
        if number in (5, 10):
            _check_tensor(document, _span(value), files)
        elif number in (22, 23):
            raise ValueError("it has sparse weights, which no exported graph has")
        elif number in (6, 11):
            for inner_number, inner in document.fields(_span(value)):
                _check_graph_field(document, inner_number, inner, files, depth + 1)


def _check_tensor(document: Document, span: Span, files: Mapping[str, FileEntry]) -> str:
    """Check where a tensor's numbers lie; returns its name."""
    entries: dict[str, str] = {}
    name, is_external = "", False
    for number, value in document.fields(span):
        if number == 13:
            entry = document.message(_span(value), {1: "key", 2: "value"})
            key = document.text(entry.get("key"))
            if key in entries:
                raise ValueError(f"a weight has {key!r} twice")
            entries[key] = document.text(entry.get("value"))
        elif number == 14:
            is_external = value == _EXTERNAL
        elif number == 8:
            name = document.text(_span(value))
    if entries or is_external:
        _check_place(entries, files)
    return name


def _check_place(entries: Mapping[str, str], files: Mapping[str, FileEntry]) -> None:
    if entries.keys() != {"location", "offset", "length"}:
        raise ValueError(
            f"a weight has the keys {', '.join(sorted(entries))[:80]!r}, and not location, offset and length"
        )
    location = entries["location"]
    if location not in files or not WEIGHTS_NAME.fullmatch(location):
        raise ValueError(f"a weight lies in {location[:80]!r}")
    if not _DIGITS.fullmatch(entries["offset"]) or not _DIGITS.fullmatch(entries["length"]):
        raise ValueError("a weight has an offset or length that is no number")
    end = int(entries["offset"]) + int(entries["length"])
    if end > files[location].size:
        raise ValueError(f"a weight ends at byte {end} of {location!r}, which has {files[location].size}")


def _add_edge(document: Document, span: Span, edges: dict[str, FileEdge]) -> None:
    value = document.message(span, {1: "name", 2: "type"})
    name = document.text(value.get("name"))
    if name in edges:
        raise ValueError(f"{name!r} is listed twice")
    tensor = document.message(_span(value.get("type")), {1: "tensor"}).get("tensor")
    fields = document.message(_span(tensor), {1: "ELEMENT", 2: "shape"})
    shape: list[int | None] = []
    for number, axis in document.fields(_span(fields.get("shape"))):
        if number == 1:
            dimension = document.message(_span(axis), {1: "SIZE", 2: "symbol"})
            size = dimension.get("SIZE")
            if len(dimension) > 1 or (isinstance(size, int) and size > _MAX_SIZE):
                raise ValueError(f"{name!r} has a size and a symbol at one axis, or a size that is too large")
            shape.append(size if isinstance(size, int) else None)
    element = fields.get("ELEMENT")
    edges[name] = FileEdge(element if isinstance(element, int) else 0, tuple(shape))


def _span(value: Span | int | None) -> Span:
    if isinstance(value, Span):
        return value
    raise ValueError("a message is missing, or a number in its place")


def _check_names(file: str, kind: str, unknown: set[str], missing: set[str]) -> None:
    if unknown or missing:
        seen = f"has {kind} that the manifest does not list: {', '.join(sorted(unknown))}"[:200]
        seen = seen if unknown else f"lacks the {kind} {', '.join(sorted(missing))}"[:200]
        raise _edge_error(file, seen, f"the {kind} of the manifest")


def _check_edge(file: str, name: str, edge: FileEdge, spec: TensorSpec) -> None:
    is_same = len(edge.shape) == len(spec.shape) and all(
        not isinstance(expected, int) or size is None or size == expected
        for size, expected in zip(edge.shape, spec.shape, strict=True)
    )
    if not is_same or edge.type != _ELEMENT_TYPES.get(spec.dtype):
        shape = ",".join("?" if size is None else str(size) for size in edge.shape)
        expected = ",".join(map(str, spec.shape))
        raise _edge_error(file, f"has {name!r} of ONNX type {edge.type} [{shape}]", f"{spec.dtype} [{expected}]")


def _edge_error(file: str, seen: str, expected: str) -> BundleError:
    return BundleError(f"the bundle's graph file {file!r} {seen}", expected, _EXPORT_AGAIN)
