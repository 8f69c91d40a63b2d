"""The region between a graph's first and last convolution with channels last: `[N,h,w,C]`, and `[N,S,C]` for sequences of pixels.

Every value that becomes channels last gets a twin; nodes read the twins. A node that cannot be converted reads the value itself,
which is then transposed back from its twin, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from alterbute_export.cuda.concrete_shapes import Shapes, transposed
from alterbute_export.cuda.group_norm import ExportedGroupNorm
from alterbute_export.cuda.static_shapes import constant_shape, is_whole_shape, read_shape
from alterbute_export.onnx_io.ir import CONTRIB_DOMAIN, add_constant, find_producer, make_node, read_int, weight_source

TO_LAST: Final[dict[int, tuple[int, ...]]] = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""Order of the axes from channels first to channels last, by rank."""
TO_FIRST: Final[dict[int, tuple[int, ...]]] = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
"""Order of the axes from channels last to channels first, by rank."""
_POINTWISE: Final = frozenset(
    {"Add", "Cast", "Clip", "Div", "Gelu", "Max", "Min", "Mul", "Relu", "Round", "Sigmoid", "Sub", "Tanh"}
)
_CONVOLUTION: Final = ("dilations", "group", "kernel_shape", "pads", "strides")
_CHANNEL_AXIS: Final = 1


class ChannelsLastWriter:
    """Converts the nodes of one graph in its order; `finish` connects what was converted with the rest.

    Args:
        model: The graph, changed in place.
        shapes: Shapes of its values.
        norms: The group normalizations that the CUDA kernel takes.
    """

    def __init__(self, model: ir.Model, shapes: Shapes, norms: Sequence[ExportedGroupNorm]) -> None:
        self._model, self._graph, self._shapes = model, model.graph, shapes
        self._norms = {norm.nodes[-1]: norm for norm in norms}
        self._inner = {node for norm in norms for node in norm.nodes[:-1]}
        self._last: dict[ir.Value, ir.Value] = {}
        # Values whose twin is computed with channels last; other twins are transposes, made where a node needs them.
        self._region: set[ir.Value] = set()
        # Values that depend on the region: what is transposed to channels first from one belongs to it again.
        self._after: set[ir.Value] = set()
        self._converted: set[ir.Node] = set()
        self._handlers: dict[str, Callable[[ir.Node], ir.Value | None]] = {
            "Concat": self._concat,
            "Conv": self._convolve,
            "Pad": self._pad,
            "Reshape": self._reshape,
            "Resize": self._resize,
            "Slice": self._slice,
            **dict.fromkeys(_POINTWISE, self._pointwise),
        }

    def convert(self) -> None:
        """Convert what can be converted, and connect it with the rest."""
        for node in list(self._graph):
            if any(value in self._after for value in node.inputs):
                self._after.update(node.outputs)
            if node in self._inner or node.domain:
                continue
            if node.op_type == "Transpose":
                self._transpose(node)
                continue
            handler = self._handlers.get(node.op_type)
            twin = self._normalize(node) if node in self._norms else handler(node) if handler is not None else None
            if twin is not None:
                self._last[node.outputs[0]] = twin
                self._region.add(node.outputs[0])
                self._after.update((node.outputs[0], twin))
                self._converted.add(node)
        self._finish()

    def _finish(self) -> None:
        skipped = self._converted | self._inner
        for value in [value for value in self._last if value in self._region]:
            readers = [(reader, index) for reader, index in value.uses() if reader not in skipped]
            if readers or value.is_graph_output():
                self._transpose_back(value, readers)
        passes.RemoveUnusedNodesPass()(self._model)

    def _transpose_back(self, value: ir.Value, readers: Sequence[tuple[ir.Node, int]]) -> None:
        twin = self._last[value]
        name = f"{value.name}_first"
        node = make_node("Transpose", [twin], name=name, output=name)
        node.attributes["perm"] = ir.AttrInt64s("perm", TO_FIRST[self._rank(value)])
        producer = value.producer()
        assert producer is not None
        self._graph.insert_before(producer, node)
        for reader, index in readers:
            reader.replace_input_with(index, node.outputs[0])
        if value.is_graph_output():
            output = node.outputs[0]
            output.shape, output.type = value.shape, value.type
            output.name, value.name = value.name, name
            self._graph.outputs[self._graph.outputs.index(value)] = output

    def _insert(
        self, before: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any
    ) -> ir.Value:
        domain = CONTRIB_DOMAIN if op_type in ("GroupNorm", "NhwcConv") else ""
        node = ir.node(op_type, inputs, attributes=attributes, domain=domain, name=name)
        node.outputs[0].name = name
        self._graph.insert_before(before, node)
        return node.outputs[0]

    def _read(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """The twin of a value; transposed when it has none."""
        if value not in self._last:
            name = f"{value.name}_last"
            self._last[value] = self._insert(before, "Transpose", [value], name, perm=TO_LAST[self._rank(value)])
        return self._last[value]

    def _rank(self, value: ir.Value | None) -> int:
        """Number of axes; -1 when it is not known."""
        return len(self._shapes[value][0]) if value is not None and value in self._shapes else -1

    def _dims(self, value: ir.Value) -> list[tuple[int, ...]]:
        return transposed(self._shapes[value])

    def _is_in_region(self, node: ir.Node) -> bool:
        """Whether a node reads a value that is computed with channels last, and computes a value of that rank."""
        return any(
            value in self._region and self._rank(value) == self._rank(node.outputs[0])
            for value in node.inputs
            if value is not None
        )

    def _convolve(self, node: ir.Node) -> ir.Value | None:
        source, weight = node.inputs[0], node.inputs[1]
        stored = weight_source(weight) if weight is not None else None
        if source is None or weight is None or stored is None or stored.const_value is None or self._rank(source) != 4:
            return None
        if "auto_pad" in node.attributes and node.attributes["auto_pad"].as_string() != "NOTSET":
            return None
        name = f"{node.outputs[0].name}_nhwc"
        picture = self._read(source, node)
        shape = tuple(int(size) for size in stored.const_value.shape.numpy())
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if _is_product(node, shape):
            return self._multiply(node, picture, weight, shape, bias)
        turned = self._layout_weight(node, "Transpose", weight, perm=TO_LAST[4])
        attributes = {key: node.attributes[key] for key in _CONVOLUTION if key in node.attributes}
        value = self._insert(node, "NhwcConv", [picture, turned, *([bias] if bias is not None else [])], name)
        convolution = value.producer()
        assert convolution is not None
        convolution.attributes.update(attributes)
        return value

    def _multiply(
        self, node: ir.Node, picture: ir.Value, weight: ir.Value, shape: tuple[int, ...], bias: ir.Value | None
    ) -> ir.Value:
        """A 1x1 convolution as a matrix product over the last axis."""
        name = f"{node.outputs[0].name}_nhwc"
        matrix = self._layout_weight(node, "Reshape", weight, constant_shape(self._graph, shape[:2]))
        turned = self._layout_weight(node, "Transpose", matrix, perm=(1, 0))
        product = self._insert(node, "MatMul", [picture, turned], name if bias is None else f"{name}_product")
        return product if bias is None else self._insert(node, "Add", [product, bias], name)

    def _layout_weight(
        self, node: ir.Node, op_type: str, weight: ir.Value, *inputs: ir.Value, **attributes: Any
    ) -> ir.Value:
        """A stored weight in another layout, which ONNX Runtime computes when it loads the graph."""
        name = f"{weight.name}_{op_type.lower()}_{'_'.join(str(axis) for axis in attributes.get('perm', ()))}"
        for reader, _ in weight.uses():
            if reader.name == name:
                return reader.outputs[0]
        return self._insert(node, op_type, [weight, *inputs], name, **attributes)

    def _normalize(self, node: ir.Node) -> ir.Value | None:
        norm = self._norms[node]
        name = f"{node.outputs[0].name}_nhwc"
        source = self._read(norm.source, node)
        is_sequence = self._rank(norm.source) == 3
        if is_sequence:
            flat = constant_shape(self._graph, (0, 0, 1, norm.channels))
            source = self._insert(node, "Reshape", [source, flat], f"{name}_rows")
        flat = constant_shape(self._graph, (norm.channels,))
        gamma, beta = (self._layout_weight(node, "Reshape", value, flat) for value in (norm.gamma, norm.beta))
        value = self._insert(
            node,
            "GroupNorm",
            [source, gamma, beta],
            f"{name}_norm" if is_sequence else name,
            activation=int(norm.has_silu),
            channels_last=1,
            epsilon=norm.epsilon,
            groups=norm.groups,
        )
        if is_sequence:
            value = self._insert(node, "Reshape", [value, constant_shape(self._graph, (0, -1, norm.channels))], name)
        return value

    def _pointwise(self, node: ir.Node) -> ir.Value | None:
        rank = self._rank(node.outputs[0])
        if not self._is_in_region(node) or rank not in TO_LAST:
            return None
        inputs = [value if value is None else self._broadcast(node, value, rank) for value in node.inputs]
        if any(new is None and old is not None for new, old in zip(inputs, node.inputs, strict=True)):
            return None
        return self._copy(node, inputs)

    def _broadcast(self, node: ir.Node, value: ir.Value, rank: int) -> ir.Value | None:
        """What an operator reads instead of a value, with channels last; None when it cannot be said."""
        own = self._rank(value)
        if own < 0 or own > rank:
            return None
        dims = self._dims(value)
        if all(set(dim) == {1} for dim in dims):
            return value if own == 0 or own < rank or value.const_value is not None else self._read(value, node)
        if own == rank and value not in self._last and value.const_value is None:
            if all(set(dim) == {1} for dim in dims[2:]) and len(set(dims[1])) == 1:
                sizes = (0, *[1] * (rank - 2), dims[1][0])
                shape = constant_shape(self._graph, sizes)
                self._last[value] = self._insert(node, "Reshape", [value, shape], f"{value.name}_last")
            return self._read(value, node)
        if own == rank:
            return self._read(value, node)
        is_channels = own == rank - 1 and all(set(dim) == {1} for dim in dims[1:]) and weight_source(value) is not None
        return (
            self._layout_weight(node, "Reshape", value, constant_shape(self._graph, dims[0][:1]))
            if is_channels
            else None
        )

    def _copy(self, node: ir.Node, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        value = self._insert(node, node.op_type, inputs, f"{node.outputs[0].name}_nhwc")
        copy = value.producer()
        assert copy is not None
        copy.attributes.update({key: kept for key, kept in node.attributes.items() if key not in attributes})
        copy.attributes.update({key: ir.AttrInt64(key, number) for key, number in attributes.items()})
        return value

    def _concat(self, node: ir.Node) -> ir.Value | None:
        rank = self._rank(node.outputs[0])
        if not self._is_in_region(node) or rank not in TO_LAST or read_int(node, "axis", 0) % rank != _CHANNEL_AXIS:
            return None
        return self._copy(node, [self._read(value, node) for value in node.inputs if value is not None], axis=rank - 1)

    def _resize(self, node: ir.Node) -> ir.Value | None:
        scales = node.inputs[2] if len(node.inputs) == 3 else None
        if not self._is_in_region(node) or "axes" in node.attributes or scales is None or scales.const_value is None:
            return None
        if node.inputs[1] is not None and (node.inputs[1].const_value is None or node.inputs[1].const_value.size):
            return None
        numbers = scales.const_value.numpy()
        turned = add_constant(self._graph, f"{scales.name}_nhwc", numbers[list(TO_LAST[4])])
        assert node.inputs[0] is not None
        return self._copy(node, [self._read(node.inputs[0], node), None, turned])

    def _pad(self, node: ir.Node) -> ir.Value | None:
        pads = node.inputs[1].const_value if node.inputs[1] is not None else None
        has_axes = len(node.inputs) > 3 and node.inputs[3] is not None
        if not self._is_in_region(node) or pads is None or has_axes or self._rank(node.inputs[0]) != 4:
            return None
        assert node.inputs[0] is not None and node.inputs[1] is not None
        order = [*TO_LAST[4], *(4 + axis for axis in TO_LAST[4])]
        turned = add_constant(self._graph, f"{node.inputs[1].name}_nhwc", pads.numpy()[order])
        return self._copy(node, [self._read(node.inputs[0], node), turned, *node.inputs[2:3]])

    def _slice(self, node: ir.Node) -> ir.Value | None:
        axes = node.inputs[3] if len(node.inputs) > 3 else None
        tensor = axes.const_value if axes is not None else None
        rank = self._rank(node.outputs[0])
        if not self._is_in_region(node) or tensor is None or tensor.numpy().tolist() != [_CHANNEL_AXIS]:
            return None
        last = add_constant(self._graph, f"axis_{rank - 1}", np.array([rank - 1], np.int64))
        assert node.inputs[0] is not None
        return self._copy(node, [self._read(node.inputs[0], node), *node.inputs[1:3], last, *node.inputs[4:]])

    def _reshape(self, node: ir.Node) -> ir.Value | None:
        """Pixels to a sequence, `[N,C,h,w]` to `[N,C,hw]`, or back to the shape of another value of the region."""
        source, target = node.inputs[0], node.outputs[0]
        if source is None or source not in self._region or target not in self._shapes:
            return None
        before, after = self._dims(source), self._dims(target)
        if before[:2] != after[:2] or len(set(before[1])) != 1:
            return None
        name = f"{target.name}_nhwc"
        if (len(before), len(after)) == (4, 3):
            shape = constant_shape(self._graph, (0, -1, before[1][0]))
            return self._insert(node, "Reshape", [self._last[source], shape], name)
        shaper = find_producer(node, 1)
        model = shaper.inputs[0] if shaper is not None and is_whole_shape(shaper) else None
        if (len(before), len(after)) == (3, 4) and model in self._region:
            assert model is not None
            return self._insert(node, "Reshape", [self._last[source], read_shape(self._graph, self._last[model])], name)
        return None

    def _transpose(self, node: ir.Node) -> None:
        source, target = node.inputs[0], node.outputs[0]
        perm = tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else ()
        rank = len(perm)
        if source is None or rank not in TO_LAST:
            return
        if perm == TO_LAST[rank] and source in self._last and not target.is_graph_output():
            twin = self._last[source]
            target.replace_all_uses_with(twin)
            self._converted.add(node)
            # Later nodes ask for the shape of what they read.
            self._shapes[twin] = self._shapes[target]
        elif perm == TO_FIRST[rank]:
            self._last[target] = source
            if target in self._after:
                self._region.add(target)
                self._converted.add(node)


def _is_product(node: ir.Node, shape: tuple[int, ...]) -> bool:
    """Whether a convolution takes single pixels, in one group."""
    settings: Mapping[str, int] = {"pads": 0, "strides": 1, "dilations": 1}
    return (
        shape[2:] == (1, 1)
        and read_int(node, "group", 1) == 1
        and all(
            set(node.attributes[name].as_ints()) <= {number}
            for name, number in settings.items()
            if name in node.attributes
        )
    )
