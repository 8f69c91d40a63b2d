"""The step graph as a torch module: the exporter's own modules, with the bundle's weights where they can be found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from alterbute.backends import Array
from alterbute.bundle import Manifest
from alterbute_export.checkpoint.model_classes import build_meta
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.export_bundle import load_models
from alterbute_export.families import build_family
from alterbute_export.families.adapter import AdapterRows
from alterbute_export.graphs.step import StepGraph
from alterbute_export.modules.input_gain import NoGain
from alterbute_export.modules.ip_adapter_attention import cross_attention_names, install_identity_attention
from alterbute_export.sample_checkpoints import SIZES, make_sample_spec
from torch import nn

from benchmarks.gpu.cases import open_measured

_KINDS: Final = ("sd15-adapter", "sdxl-adapter")
_PLAIN_FILE: Final = "step.onnx"
# Operator, layer and parameter of weights that have no name in the graph.
_UNNAMED: Final = (("MatMul", nn.Linear, "weight"), ("Mul", nn.GroupNorm, "weight"), ("Add", nn.GroupNorm, "bias"))


class HalfDenoiser(nn.Module):  # type: ignore[misc]  # mypy skips torch: nn.Module is Any
    """The family's UNet call in half precision; latent, timestep and output stay fp32, as in exported graphs."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner.to(dtype), dtype

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, row: dict[str, torch.Tensor]) -> torch.Tensor:
        """Predict noise [N,C,h,w] f32 in half precision.

        Args:
            latent: [N,C,h,w] f32.
            timestep: [N] f32.
            row: The UNet's other inputs by name, each with N rows.
        """
        half = {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in row.items()}
        output: torch.Tensor = self.inner(latent.to(self.dtype), timestep, half)
        return output.float()


def make_step(
    folder: Path, checkpoint: Path | None, feed: Mapping[str, Array], device: str, *, is_half: bool
) -> tuple[Any, str]:
    """The step module on a device, channels last, and in words where its weights are from.

    Args:
        folder: The bundle's folder.
        checkpoint: The checkpoint that it was exported from; None builds the same structure and reads the bundle's weights.
        feed: Inputs of the manifest's step graph by name, for one call that shows the order of the layers.
        device: Name of a torch device.
        is_half: Whether the UNet computes in fp16.

    Raises:
        ValueError: without a checkpoint, the bundle is of no kind whose structure is known.
    """
    if checkpoint is not None:
        opened = read_checkpoint(checkpoint, "auto")
        step: Any = build_family(opened, load_models(opened)).step().graph
        step, weights = step.to(device), "the checkpoint's"
    else:
        step = _build_structure(open_measured(folder).manifest, device)
        weights = load_weights(step, folder, step_arguments(step, feed, device))
    step.requires_grad_(False).eval()
    if is_half:
        step.denoiser = HalfDenoiser(step.denoiser, torch.float16)
    return step.to(memory_format=torch.channels_last), weights


def step_arguments(step: Any, feed: Mapping[str, Array], device: str) -> list[torch.Tensor]:
    """The module's arguments on a device, in its order.

    Args:
        step: The module that `make_step` made.
        feed: Inputs of the manifest's step graph by name.
        device: Name of a torch device.
    """
    return [torch.from_numpy(np.ascontiguousarray(feed[name])).to(device) for name in step.inputs]


def load_weights(step: Any, folder: Path, arguments: list[torch.Tensor]) -> str:
    """Copy the weights of a bundle's plain step graph into a module; returns in words whether that was possible.

    Convolutions and most biases keep their names in the graph. Weights of linear layers are transposed there, and those of group
    normalization are [C,1,1]; both have lost their names. The n-th of a kind in the graph's order belongs to the n-th such layer
    in the order in which the module runs them.

    Args:
        step: A module of the graph's structure.
        folder: The bundle's folder.
        arguments: Arguments of one call, which shows the order of the layers.
    """
    try:
        import onnx
    except ImportError:
        return "random, not the bundle's: onnx is not installed"
    graph = onnx.load(str(folder / _PLAIN_FILE), load_external_data=False).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    # Weights that are stored in fp16 are cast before their operator.
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    parameters = dict(step.named_parameters())
    layers = _layer_order(step, arguments)
    pairs = [(name, name) for name in parameters if name in tensors]
    for operator, kind, part in _UNNAMED:
        wanted = [f"{name}.{part}" for name, layer in layers if isinstance(layer, kind)]
        wanted = [name for name in wanted if name not in tensors]
        rank = 2 if operator == "MatMul" else 3
        found = [
            name
            for node in graph.node
            if node.op_type == operator
            for name in (casts.get(value, value) for value in node.input)
            if name in tensors and name not in parameters and len(tensors[name].dims) == rank
        ]
        if len(wanted) != len(found):
            return f"random, not the bundle's: {len(found)} weights of {operator} for {len(wanted)} of {kind.__name__}"
        pairs += zip(wanted, found, strict=True)
    for parameter, name in pairs:
        target, values = parameters[parameter].data, torch.from_numpy(_read_tensor(tensors[name], folder))
        values = values.T if name != parameter and values.dim() == 2 else values
        if target.shape != values.shape[: target.dim()]:
            return f"partly random: {parameter} has another shape in the bundle"
        target.copy_(values.reshape(target.shape))
    absent = sorted(parameters.keys() - {parameter for parameter, _ in pairs})
    return "the bundle's" if not absent else f"the bundle's, but for {len(absent)} such as {absent[0]}"


def _read_tensor(tensor: Any, folder: Path) -> Array:
    """An initializer as f32; weights outside the graph are read here, since onnx refuses files with several hard links."""
    import onnx

    where = {entry.key: entry.value for entry in tensor.external_data}
    if "location" not in where:
        return np.array(onnx.numpy_helper.to_array(tensor), np.float32)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count, offset = int(np.prod(tensor.dims)), int(where.get("offset", 0))
    values = np.fromfile(folder / where["location"], dtype, count, offset=offset).reshape(tuple(tensor.dims))
    return values.astype(np.float32)


def _layer_order(step: Any, arguments: list[torch.Tensor]) -> list[tuple[str, nn.Module]]:
    """The linear and group normalization layers with their names, in the order in which one call of the module runs them."""
    order: list[tuple[str, nn.Module]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _, name=name: order.append((name, layer)))
        for name, layer in step.named_modules()
        if isinstance(layer, nn.Linear | nn.GroupNorm)
    ]
    with torch.inference_mode():
        step(*arguments)
    for hook in hooks:
        hook.remove()
    return order


def _find_unet(manifest: Manifest) -> Mapping[str, Any]:
    """Config of the UNet of the sample checkpoint that has the bundle's text width and channels; the published size first."""
    channels = manifest.latent_channels + manifest.scene_channels
    for size in reversed(SIZES):
        for kind in _KINDS:
            config = make_sample_spec(kind, size).parts["unet"]
            if (config["cross_attention_dim"], config["in_channels"]) == (manifest.text.dim, channels):
                return config
    raise ValueError(f"no checkpoint was given, and {manifest.name} has the sizes of no sample checkpoint")


def _build_structure(manifest: Manifest, device: str) -> Any:
    """The step module of a sample checkpoint with random weights, made on the device."""
    if manifest.family != "adapter" or manifest.residual is not None:
        raise ValueError(f"no checkpoint was given, and {manifest.name} is of family {manifest.family}, not adapter")
    unet = build_meta("unet", _find_unet(manifest)).to_empty(device=device)
    dim, pairs = manifest.text.dim, {}
    for index, name in enumerate(cross_attention_names(unet)):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        pairs[2 * index + 1] = tuple(torch.empty(width, dim, device=device) for _ in "kv")
    install_identity_attention(unet, pairs)
    names = tuple(edge.name for edge in manifest.graphs["step"].inputs)
    step = StepGraph(AdapterRows(unet, NoGain()), names, torch.zeros(manifest.scene_channels), None).to(device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in step.named_parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, (3 * parameter[0].numel()) ** -0.5, generator=generator)
        else:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
    return step
