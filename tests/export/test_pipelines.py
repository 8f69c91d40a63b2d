"""The step loop in ONNX Runtime against diffusers' pipelines: same weights, noise and embeddings, 20 steps, within 1e-5.

The pipelines are opened from the folders that the exporter reads, IP-Adapter files included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from alterbute.denoise.guidance import Row, make_guidance_rows
from alterbute.solver import Trajectory, compile_trajectory
from alterbute_export.checkpoint.ip_adapter_file import read_adapter
from alterbute_export.checkpoint.layout import find_adapter
from alterbute_export.checkpoint.reader import Checkpoint, read_checkpoint
from alterbute_export.graphs.spec import Array
from alterbute_export.modules.ip_adapter_projectors import Resampler, TokenProjector

from tests.conftest import FamilyFolder
from tests.export.conftest import open_graph

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
]
LIMIT = 1e-5
STEPS = 20
SIDE = 16
FORMS = ("none", "text", "identity")
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
}

Conditioning = dict[str, dict[str, torch.Tensor]]


def open_pipeline(folder: Path, solver: str, kind: str | None = None) -> Any:
    """diffusers' pipeline of a checkpoint, of class `kind` or that of model_index.json, with the solver's scheduler."""
    pipeline_class = getattr(diffusers, kind) if kind else diffusers.DiffusionPipeline
    pipeline = pipeline_class.from_pretrained(
        folder, safety_checker=None, local_files_only=True, torch_dtype=torch.float32
    )
    pipeline.scheduler = getattr(diffusers, SCHEDULERS[solver]).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    adapter = find_adapter(folder)
    if adapter is not None:
        pipeline.load_ip_adapter(str(folder), subfolder="", weight_name=adapter.name, local_files_only=True)
        pipeline.set_ip_adapter_scale(0.6)
    return pipeline


def compile_solver(checkpoint: Checkpoint, solver: str, strength: float = 1.0) -> Trajectory:
    return compile_trajectory(checkpoint.scheduler, solver, STEPS, strength=strength)


def denoise(
    folder: Path,
    trajectory: Trajectory,
    rows: tuple[Row, ...],
    conditioning: Conditioning,
    *,
    noises: list[torch.Tensor],
    source: torch.Tensor | None = None,
    **slot: torch.Tensor,
) -> Array:
    """Run the step graph in the loop that a lane runs for one image; return the final latent `[4,SIDE,SIDE]`, f32.

    Args:
        folder: Folder with the step graph and its weights.
        trajectory: Timesteps, solver matrices and re-injection levels.
        rows: Rows of guidance.
        conditioning: Values of a graph input by the row's choice: `prompt` and `negative`, or `given` and `null`.
        noises: Noise `[1,4,SIDE,SIDE]` of the first latent, then of each step for a stochastic solver.
        source: Clean latent `[1,4,SIDE,SIDE]` of the photo, for an edit by strength; None starts from noise.
        slot: Inputs per slot that are the same in every step.
    """
    session = open_graph(folder, "step")
    names = [edge.name for edge in session.get_inputs()]
    state = np.zeros((1, 4, 4, SIDE, SIDE), np.float32)
    state[0, 0] = trajectory.start[1] * noises[0][0].numpy()
    if source is not None:
        state[0, 0] += trajectory.start[0] * source[0].numpy()
    fixed: dict[str, Array] = {
        "noise": np.zeros((1, 4, SIDE, SIDE)),
        "background": np.zeros((1, 4, SIDE, SIDE)),
        "background_noise": noises[0].numpy(),
        "keep": np.zeros((1, 1, SIDE, SIDE)),
        "guidance": np.array([[row.weight for row in rows]]),
        "source_on": np.array([row.source_on for row in rows]),
        "identity_scale": np.full(len(rows), 0.6),
        "guidance_rescale": np.zeros(1),
        **{name: value.numpy() for name, value in slot.items()},
    }
    for name, choices in conditioning.items():
        row_values = [choices[getattr(row, "identity" if "given" in choices else "text")] for row in rows]
        fixed[name] = np.stack([value.numpy() for value in row_values])
    inputs = {name: value.astype(np.float32) for name, value in fixed.items() if name in names}
    inputs |= {"owner": np.zeros(len(rows), np.int64), "rescale_row": np.array([len(rows) - 1])}
    for step in range(len(trajectory.timestep)):
        inputs["state"] = state
        inputs["timestep"] = trajectory.timestep[step : step + 1]
        inputs["solver"] = trajectory.matrix[step : step + 1].astype(np.float32)
        inputs["reinject"] = trajectory.level[step : step + 1].astype(np.float32)
        if len(noises) > 1:
            inputs["noise"] = noises[step + 1].numpy()
        (state,) = session.run(None, inputs)
    latent: Array = state[0, 0]
    return latent


def relative_error(latent: Array, expected: torch.Tensor) -> float:
    """Largest difference between a latent and that of diffusers, divided by the largest value of the latter."""
    reference = expected[0].double().numpy()
    return float(np.abs(latent - reference).max() / np.abs(reference).max())


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@contextmanager
def _identity(folder: Path, checkpoint: Checkpoint) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Image embeddings for diffusers' pipeline, null first, and the tokens that our projectors make of them."""
    path = find_adapter(folder)
    assert path is not None
    weights, adapter = checkpoint.load_adapter(), read_adapter(path)
    projector: torch.nn.Module
    if adapter.kind == "base":
        embeds = torch.stack([torch.zeros(1, adapter.encoder_width), noise(5, 1, adapter.encoder_width)])
        projector = TokenProjector(weights, adapter.dim)
    else:
        encoder = checkpoint.load("image_encoder")
        pixels = torch.cat([torch.zeros(1, 3, 16, 16), noise(5, 1, 3, 16, 16)])
        embeds = encoder(pixels, output_hidden_states=True).hidden_states[-2][:, None]
        projector = Resampler(weights)
    null, given = projector(embeds[:, 0])
    yield embeds, {"given": given, "null": null}


def _inpainting(
    start: torch.Tensor, masked: torch.Tensor, mask: torch.Tensor, text: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """Arguments of both inpainting pipelines, with latents instead of pictures and text states instead of prompts."""
    return {
        "image": torch.zeros(1, 3, 2 * SIDE, 2 * SIDE),
        "mask_image": mask,
        "masked_image_latents": masked,
        "latents": start,
        "prompt_embeds": text["prompt"][None],
        "negative_prompt_embeds": text["negative"][None],
        "strength": 1.0,
        "guidance_scale": 7.5,
        "num_inference_steps": STEPS,
        "height": 2 * SIDE,
        "width": 2 * SIDE,
        "output_type": "latent",
    }


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_inpainting_with_ip_adapter(family_checkpoint: FamilyFolder, family_step: FamilyFolder, solver: str) -> None:
    folder = family_checkpoint("sd15-adapter")
    checkpoint = read_checkpoint(folder)
    start, masked = noise(0, 1, 4, SIDE, SIDE), noise(1, 1, 4, SIDE, SIDE)
    mask = (noise(2, 1, 1, 2 * SIDE, 2 * SIDE) > 0).float()
    text = {"prompt": noise(3, 16, 24), "negative": noise(4, 16, 24)}
    with _identity(folder, checkpoint) as (embeds, tokens):
        expected = open_pipeline(folder, solver)(
            **_inpainting(start, masked, mask, text), ip_adapter_image_embeds=[embeds]
        ).images
    scene = torch.cat([mask[:, :, ::2, ::2], masked], dim=1)
    rows = make_guidance_rows(7.5, 7.5, FORMS)
    assert len(rows) == 2
    latent = denoise(
        family_step("sd15-adapter"),
        compile_solver(checkpoint, solver),
        rows,
        {"text": text, "identity": tokens},
        noises=[start],
        scene=scene,
    )
    assert relative_error(latent, expected) <= LIMIT


def test_sdxl_inpainting_with_ip_adapter_plus(family_checkpoint: FamilyFolder, family_step: FamilyFolder) -> None:
    folder = family_checkpoint("sdxl-adapter-plus")
    checkpoint = read_checkpoint(folder)
    start, masked = noise(0, 1, 4, SIDE, SIDE), noise(1, 1, 4, SIDE, SIDE)
    mask = (noise(2, 1, 1, 2 * SIDE, 2 * SIDE) > 0).float()
    text = {"prompt": noise(3, 16, 40), "negative": noise(4, 16, 40)}
    pooled = {"prompt": noise(6, 16), "negative": noise(7, 16)}
    with _identity(folder, checkpoint) as (embeds, tokens):
        expected = open_pipeline(folder, "euler")(
            **_inpainting(start, masked, mask, text),
            pooled_prompt_embeds=pooled["prompt"][None],
            negative_pooled_prompt_embeds=pooled["negative"][None],
            ip_adapter_image_embeds=[embeds],
        ).images
    rows = make_guidance_rows(7.5, 7.5, FORMS)
    latent = denoise(
        family_step("sdxl-adapter-plus"),
        compile_solver(checkpoint, "euler"),
        rows,
        {"text": text, "pooled": pooled, "identity": tokens},
        noises=[start],
        scene=torch.cat([mask[:, :, ::2, ::2], masked], dim=1),
        time_ids=torch.tensor([checkpoint.settings.time_ids] * len(rows)),
    )
    assert relative_error(latent, expected) <= LIMIT


@pytest.mark.parametrize("solver", ["euler_a", "ddim"])
def test_instruct_pix2pix_with_two_scales(
    family_checkpoint: FamilyFolder, family_step: FamilyFolder, solver: str
) -> None:
    folder = family_checkpoint("sd15-instruct")
    checkpoint = read_checkpoint(folder)
    start, photo = noise(0, 1, 4, SIDE, SIDE), noise(1, 1, 4, SIDE, SIDE)
    text = {"prompt": noise(3, 16, 24), "negative": noise(4, 16, 24)}
    expected = open_pipeline(folder, solver)(
        image=photo,
        latents=start,
        prompt_embeds=text["prompt"][None],
        negative_prompt_embeds=text["negative"][None],
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).images
    rows = make_guidance_rows(7.5, 1.5, FORMS)
    assert len(rows) == 3
    generator = torch.Generator().manual_seed(9)
    fresh = [torch.randn(start.shape, generator=generator) for _ in range(STEPS)] if solver == "euler_a" else []
    latent = denoise(
        family_step("sd15-instruct"),
        compile_solver(checkpoint, solver),
        rows,
        {"text": text},
        noises=[start, *fresh],
        scene=photo,
    )
    assert relative_error(latent, expected) <= LIMIT


@pytest.mark.parametrize("solver", ["ddim", "euler"])
def test_a_text_to_image_unet_edits_a_photo_by_strength(
    family_checkpoint: FamilyFolder, family_step: FamilyFolder, solver: str
) -> None:
    folder = family_checkpoint("sd15")
    checkpoint = read_checkpoint(folder)
    photo = noise(1, 1, 4, SIDE, SIDE)
    text = {"prompt": noise(3, 16, 24), "negative": noise(4, 16, 24)}
    expected = open_pipeline(folder, solver, "StableDiffusionImg2ImgPipeline")(
        image=photo,
        strength=0.6,
        prompt_embeds=text["prompt"][None],
        negative_prompt_embeds=text["negative"][None],
        guidance_scale=7.5,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).images
    start = torch.randn(photo.shape, generator=torch.Generator().manual_seed(9))
    latent = denoise(
        family_step("sd15"),
        compile_solver(checkpoint, solver, strength=0.6),
        make_guidance_rows(7.5, 1.0, ("none", "text")),
        {"text": text},
        noises=[start],
        source=photo,
    )
    assert relative_error(latent, expected) <= LIMIT


def test_a_text_to_image_unet_reinjects_the_background_as_in_diffusers(
    family_checkpoint: FamilyFolder, family_step: FamilyFolder
) -> None:
    folder = family_checkpoint("sd15")
    checkpoint = read_checkpoint(folder)
    start, photo = noise(0, 1, 4, SIDE, SIDE), noise(1, 1, 4, SIDE, SIDE)
    mask = (noise(2, 1, 1, 2 * SIDE, 2 * SIDE) > 0).float()
    text = {"prompt": noise(3, 16, 24), "negative": noise(4, 16, 24)}
    expected = open_pipeline(folder, "ddim", "StableDiffusionInpaintPipeline")(
        image=photo,
        mask_image=mask,
        masked_image_latents=photo,
        latents=start,
        prompt_embeds=text["prompt"][None],
        negative_prompt_embeds=text["negative"][None],
        strength=1.0,
        guidance_scale=7.5,
        num_inference_steps=STEPS,
        height=2 * SIDE,
        width=2 * SIDE,
        output_type="latent",
    ).images
    latent = denoise(
        family_step("sd15"),
        compile_solver(checkpoint, "ddim"),
        make_guidance_rows(7.5, 1.0, ("none", "text")),
        {"text": text},
        noises=[start],
        background=photo,
        keep=1 - mask[:, :, ::2, ::2],
    )
    assert relative_error(latent, expected) <= LIMIT
