"""Contenders of a denoising step; all take the same inputs and return the guided UNet output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from alterbute.bundle import open_bundle, read_manifest
from alterbute.solver import OUTPUT

from benchmarks.step_share import draw_inputs

GUIDANCE: Final = 7.5
_IDENTITY_SCALE: Final = 0.6

Arrays = dict[str, Any]
Step = Callable[[], Any]
"""Runs a step; returns the guided output [1,C,h,w]."""


def draw_step_inputs(bundle: Path, side: int) -> Arrays:
    """Random inputs of the step graph for one image with guidance; the next latent is the guided output itself."""
    inputs = draw_inputs(read_manifest(bundle), 1, side)
    inputs["guidance"][:] = [[1 - GUIDANCE, GUIDANCE]]
    inputs["solver"][:] = 0
    inputs["solver"][:, 0, OUTPUT] = 1
    for name in ("keep", "guidance_rescale"):
        inputs[name][:] = 0
    if "identity_scale" in inputs:
        inputs["identity_scale"][:] = _IDENTITY_SCALE
    return inputs


def make_step(kind: str, bundle: Path, checkpoint: Path, side: int, threads: int) -> Step:
    """Load a contender; returns a function that runs the step once.

    Args:
        kind: Name of the contender.
        bundle: The bundle's folder.
        checkpoint: The checkpoint that the bundle was exported from; for `optimum`, the folder that optimum-cli wrote.
        side: Height and width of the latents in cells.
        threads: CPU threads.
    """
    inputs = draw_step_inputs(bundle, side)
    if kind == "optimum":
        return _optimum(checkpoint, inputs, threads)
    if kind.startswith("diffusers"):
        return _diffusers(checkpoint, inputs, kind, threads)
    loaders = {
        "alterbute": _alterbute,
        "alterbute-int8": _alterbute,
        "decomposed": _decomposed,
        "openvino": _openvino,
        "openvino-fixed": _openvino_fixed,
    }
    return loaders[kind](bundle, inputs, threads)


def _diffusers(checkpoint: Path, inputs: Arrays, kind: str, threads: int) -> Step:
    """diffusers' UNet, with its IP-Adapter processors if the bundle has an adapter, called as in its inpainting pipeline."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if kind == "diffusers-bf16" else torch.float32
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=dtype).eval()
    added: Arrays = {}
    if "identity" in inputs:
        _load_adapter(unet, checkpoint, dtype)
        added["image_embeds"] = [torch.from_numpy(inputs["identity"]).to(dtype).unsqueeze(1)]
    call = torch.compile(unet) if kind == "diffusers-compile" else unet

    def run(rows: Any, timestep: Any, text: Any) -> Any:
        return call(
            rows.to(dtype),
            timestep,
            encoder_hidden_states=text.to(dtype),
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0]

    return _guided(run, inputs)


def _load_adapter(unet: Any, checkpoint: Path, dtype: Any) -> None:
    """Load the adapter's attention weights. The projection is replaced by an identity, since the step graph takes tokens."""
    import torch
    from safetensors.torch import load_file

    state: dict[str, Arrays] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in load_file(next(checkpoint.glob("ip-adapter*.safetensors"))).items():
        part, name = key.split(".", 1)
        state[part][name] = value.to(dtype)
    unet._load_ip_adapter_weights([state])
    unet.to(dtype)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [_IDENTITY_SCALE]
    unet.encoder_hid_proj.image_projection_layers[0] = torch.nn.Identity()


def _optimum(exported: Path, inputs: Arrays, threads: int) -> Step:
    """The UNet that optimum-onnx exported, in its pipeline class for ONNX Runtime, which does not support IP-Adapter."""
    import onnxruntime
    from diffusers import DDIMScheduler
    from optimum.onnxruntime import ORTStableDiffusionInpaintPipeline

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(exported / "unet" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    scheduler = DDIMScheduler.from_pretrained(exported, subfolder="scheduler")
    unet = ORTStableDiffusionInpaintPipeline(unet_session=session, scheduler=scheduler).unet

    def run(rows: Any, timestep: Any, text: Any) -> Any:
        return unet(rows, timestep, encoder_hidden_states=text, return_dict=False)[0]

    return _guided(run, inputs)


def _guided(run: Callable[[Any, Any, Any], Any], inputs: Arrays) -> Step:
    """A step that concatenates rows and applies guidance on the host, as diffusers' pipelines do."""
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    scene, latent = tensors["scene"], tensors["state"][:, 0]

    def step() -> Any:
        with torch.inference_mode():
            rows = torch.cat([torch.cat([latent] * 2), torch.cat([scene] * 2)], dim=1)
            unconditional, conditional = run(rows, tensors["timestep"][0], tensors["text"]).float().chunk(2)
            return (unconditional + GUIDANCE * (conditional - unconditional)).numpy()

    return step


def _alterbute(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The step graph in the runtime's ONNX Runtime backend: the variant with fused attention, or int8."""
    from alterbute.backends.onnxruntime import OnnxRuntimeBackend

    backend = OnnxRuntimeBackend(open_bundle(bundle), threads=threads, graphs=["step"])
    return lambda: backend.run("step", inputs)["next_state"][:, 0]


def _decomposed(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The decomposed graph in ONNX Runtime, to measure the gain of fused attention."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(bundle / "step.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["next_state"], inputs)[0][:, 0]


def _openvino(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The decomposed graph in OpenVINO in fp32, compiled with free dimensions."""
    from benchmarks.peers.openvino_backend import compile_graph

    run = compile_graph(bundle / "step.onnx", threads)
    return lambda: run(inputs)["next_state"][:, 0]


def _openvino_fixed(bundle: Path, inputs: Arrays, threads: int) -> Step:
    """The decomposed graph in OpenVINO in fp32, compiled for the shapes of these inputs."""
    from benchmarks.peers.openvino_backend import compile_graph

    run = compile_graph(bundle / "step.onnx", threads, {name: np.shape(value) for name, value in inputs.items()})
    return lambda: run(inputs)["next_state"][:, 0]
