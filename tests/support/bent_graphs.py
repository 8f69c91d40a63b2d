"""Graph files that are bent in one place each: an edge, or where the weights lie. They still are graphs that ONNX Runtime could load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import onnx
from onnx import TensorProto, helper

Bent: TypeAlias = tuple[str, bytes, dict[str, Any] | None]
"""What is bent, the file's bytes, and the manifest's `inputs` and `outputs` bent alike (None: as they were)."""
_NAMES = {
    TensorProto.FLOAT: "float32",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.INT64: "int64",
}
_OTHER = {TensorProto.FLOAT: TensorProto.INT64, TensorProto.INT64: TensorProto.FLOAT}


def bent_graph_files(graph: str, sound: bytes) -> Iterator[Bent]:
    """Every bent file of a graph.

    Args:
        graph: Its name.
        sound: Bytes of the sound file.
    """
    model = onnx.load_from_string(sound)
    for edge in model.graph.output:
        yield from _bent_output(sound, edge.name)
    for edge in model.graph.input:
        yield from _bent_input(sound, edge.name)
    yield from _extra_edges(sound)
    if graph in ("step", "decode", "prompt"):
        yield from _bent_places(sound)
    if graph in ("window", "decode"):
        yield from _bent_bytes(sound)


def _edges(model: Any) -> dict[str, Any]:
    """The manifest's lists for a model's edges."""

    def describe(edge: Any) -> dict[str, Any]:
        tensor = edge.type.tensor_type
        shape = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        return {"name": edge.name, "dtype": _NAMES.get(tensor.elem_type, "float16"), "shape": shape}

    return {
        "inputs": [describe(edge) for edge in model.graph.input],
        "outputs": [describe(e) for e in model.graph.output],
    }


def _bent_output(sound: bytes, name: str) -> Iterator[Bent]:
    for what in ("renamed", "flattened", "flattened in secret", "of another type", "of another size"):
        model = onnx.load_from_string(sound)
        edge = next(edge for edge in model.graph.output if edge.name == name)
        tensor = edge.type.tensor_type
        if what.startswith("flattened") and len(tensor.shape.dim) == 1:
            continue  # it is flat
        inner = f"{name}.inner"
        _rename_producer(model.graph, name, inner)
        if what == "renamed":
            edge.name = f"{name}2"
            model.graph.node.append(helper.make_node("Identity", [inner], [edge.name]))
        elif what.startswith("flattened"):
            model.graph.initializer.append(helper.make_tensor("bent.shape", TensorProto.INT64, [1], [-1]))
            model.graph.node.append(helper.make_node("Reshape", [inner, "bent.shape"], [name]))
            if what == "flattened":
                del tensor.shape.dim[:]
                tensor.shape.dim.add().dim_param = "bent"
            else:
                for axis in tensor.shape.dim:
                    axis.dim_param = "?"
        elif what == "of another type":
            tensor.elem_type = _OTHER.get(tensor.elem_type, TensorProto.FLOAT)
            model.graph.node.append(helper.make_node("Cast", [inner], [name], to=tensor.elem_type))
        else:
            axis = len(tensor.shape.dim) - 1
            model.graph.node.append(helper.make_node("Concat", [inner, inner], [name], axis=axis))
            last = tensor.shape.dim[axis]
            if last.dim_param:
                last.dim_param = "bent"
            else:
                last.dim_value = 2 * last.dim_value
        is_secret = what == "flattened in secret"
        yield f"output {name} {what}", model.SerializeToString(), None if is_secret else _edges(model)


def _bent_input(sound: bytes, name: str) -> Iterator[Bent]:
    for what in ("renamed", "of another type", "of another rank", "a weight, too"):
        model = onnx.load_from_string(sound)
        edge = next(edge for edge in model.graph.input if edge.name == name)
        tensor = edge.type.tensor_type
        kind, inner, node = tensor.elem_type, f"{name}.inner", None
        if what == "a weight, too":
            shape = [axis.dim_value or 1 for axis in tensor.shape.dim]
            size = 1
            for axis in shape:
                size *= axis
            model.graph.initializer.append(helper.make_tensor(name, kind, shape, [1] * size))
            if size < 10_000:
                yield f"input {name} {what}", model.SerializeToString(), None
            continue
        _rename_consumers(model.graph, name, inner)
        if what == "renamed":
            edge.name = f"{name}2"
            node = helper.make_node("Identity", [edge.name], [inner])
        elif what == "of another type":
            tensor.elem_type = _OTHER.get(kind, TensorProto.FLOAT)
            node = helper.make_node("Cast", [name], [inner], to=kind)
        else:
            model.graph.initializer.append(helper.make_tensor("bent.axes", TensorProto.INT64, [1], [0]))
            tensor.shape.dim.insert(0, onnx.TensorShapeProto.Dimension(dim_value=1))
            node = helper.make_node("Squeeze", [name, "bent.axes"], [inner])
        model.graph.node.insert(0, node)
        yield f"input {name} {what}", model.SerializeToString(), _edges(model)


def _extra_edges(sound: bytes) -> Iterator[Bent]:
    model = onnx.load_from_string(sound)
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    yield "input extra", model.SerializeToString(), _edges(model)
    model = onnx.load_from_string(sound)
    model.graph.node.append(helper.make_node("Identity", [model.graph.output[0].name], ["extra"]))
    extra = helper.make_tensor_value_info("extra", model.graph.output[0].type.tensor_type.elem_type, ["bent"])
    extra.type.CopyFrom(model.graph.output[0].type)
    model.graph.output.append(extra)
    yield "output extra", model.SerializeToString(), _edges(model)
    model = onnx.load_from_string(sound)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    yield "output without a shape", model.SerializeToString(), None
    if len(model.graph.output) > 1:
        model = onnx.load_from_string(sound)
        del model.graph.output[-1]
        yield "last output dropped", model.SerializeToString(), _edges(model)


def _bent_places(sound: bytes) -> Iterator[Bent]:
    """Weights that lie elsewhere, or nowhere."""
    changes: dict[str, list[tuple[str, str]]] = {
        "in memory": [("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "4096"), ("length", "512")],
        "behind the end": [("location", "weights.bin"), ("offset", "99999999"), ("length", "512")],
        "longer than the file": [("location", "weights.bin"), ("offset", "0"), ("length", "99999999999")],
        "at a negative offset": [("location", "weights.bin"), ("offset", "-8"), ("length", "512")],
        "at 10^18": [("location", "weights.bin"), ("offset", "1" + "0" * 18), ("length", "512")],
        "at 2^64": [("location", "weights.bin"), ("offset", str(2**64)), ("length", "512")],
        "at a hexadecimal offset": [("location", "weights.bin"), ("offset", "0x10"), ("length", "512")],
        "at Arabic digits": [("location", "weights.bin"), ("offset", "\u0660"), ("length", "512")],
        "without an offset": [("location", "weights.bin"), ("length", "512")],
        "without a length": [("location", "weights.bin"), ("offset", "0")],
        "without a location": [("offset", "0"), ("length", "512")],
        "with a checksum": [("location", "weights.bin"), ("offset", "0"), ("length", "512"), ("checksum", "0")],
        "twice": [("location", "weights.bin"), ("location", "/etc/passwd"), ("offset", "0"), ("length", "512")],
    }
    for place in (
        *(
            "../weights.bin",
            "/etc/passwd",
            "/dev/zero",
            "./weights.bin",
            "weights.bin\0",
            "WEIGHTS.BIN",
            "",
            "manifest.json",
        ),
        *(
            "decode.onnx",
            "tokenizer/tokenizer.json",
            "tokenizer/../weights.bin",
            "weights.bin/",
            "weights_other.bin",
            "\\weights.bin",
        ),
    ):
        changes[f"in {place!a}"] = [("location", place), ("offset", "0"), ("length", "16")]
    for name, entries in changes.items():
        model = onnx.load_from_string(sound)
        tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
        _place(tensor, entries)
        yield f"weight {name}", model.SerializeToString(), None
    memory = changes["in memory"]
    for name in ("constant", "subgraph", "sparse", "sparse attribute", "function", "training", "list of tensors"):
        model = onnx.load_from_string(sound)
        _hide(model, name, memory)
        yield f"weight in memory, in a {name}", model.SerializeToString(), None


def _hide(model: Any, where: str, entries: list[tuple[str, str]]) -> None:
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[4])
    _place(tensor, entries)
    constant = helper.make_node("Constant", [], ["hidden"])
    constant.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
    inner = helper.make_graph(
        [constant], "inner", [], [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [4])]
    )
    sparse = onnx.SparseTensorProto(
        values=tensor, indices=helper.make_tensor("i", TensorProto.INT64, [4], range(4)), dims=[4]
    )
    if where == "constant":
        model.graph.node.append(constant)
    elif where == "list of tensors":
        node = helper.make_node("Identity", [model.graph.output[0].name], ["listed"])
        node.attribute.append(onnx.AttributeProto(name="many", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
        model.graph.node.append(node)
    elif where == "subgraph":
        model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        model.graph.node.append(helper.make_node("If", ["yes"], ["chosen"], then_branch=inner, else_branch=inner))
    elif where == "sparse":
        model.graph.sparse_initializer.append(sparse)
    elif where == "sparse attribute":
        node = helper.make_node("Constant", [], ["dense"])
        attribute = onnx.AttributeProto(
            name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse
        )
        node.attribute.append(attribute)
        model.graph.node.append(node)
    elif where == "function":
        function = helper.make_function("bent", "F", [], ["hidden"], [constant], model.opset_import)
        model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("bent", 1))
        model.graph.node.append(helper.make_node("F", [], ["called"], domain="bent"))
    else:
        model.training_info.add().algorithm.CopyFrom(inner)


def _bent_bytes(sound: bytes) -> Iterator[Bent]:
    """Bytes that are no graph, or that parsers may read in two ways."""
    for share in (1, 2, 3, 5, 7, 11):
        yield f"cut at a {share + 1}th", sound[: len(sound) // (share + 1)], None
    yield "empty", b"", None
    yield "text", b"not a graph", None
    yield "zeros", bytes(1000), None
    yield "two graphs", sound + sound, None
    yield "field 0", b"\x02\x00" + sound, None
    yield "group", b"\x0b\x0c" + sound, None
    yield "endless number", b"\x08" + b"\xff" * 20 + sound, None
    yield "length behind the end", sound + b"\x3a\xff\xff\xff\xff\x0f", None
    yield "graph that is a number", re.sub(b"^", b"\x38\x01", sound, count=1), None


def _place(tensor: Any, entries: list[tuple[str, str]]) -> None:
    del tensor.external_data[:]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)


def _rename_producer(graph: Any, old: str, new: str) -> None:
    """Rename a value where it is made, and where it is read within the graph."""
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == old:
                node.output[index] = new
    _rename_consumers(graph, old, new)


def _rename_consumers(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename_consumers(inner, old, new)
