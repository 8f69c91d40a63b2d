"""Properties of the step graph: solver, re-injection, guidance rescale, independent slots, identity attention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alterbute.bundle import Manifest
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.graphs.spec import Array, draw_index, draw_uniform
from alterbute_export.modules.ip_adapter_attention import cross_attention_names, install_identity_attention
from alterbute_export.modules.ip_adapter_projectors import TokenProjector
from safetensors.torch import load_file

SIZES = {"B": 2, "N": 4, "T": 16, "h": 8, "w": 8}


@pytest.fixture
def inputs(manifest: Manifest) -> dict[str, Array]:
    """Random inputs of two slots with two rows each, by name; nothing is kept and guidance rescale is off."""
    generator = np.random.default_rng(3)
    draws: dict[str, Any] = {"timestep": draw_uniform(0, 999), "identity_scale": draw_uniform(0, 1)}
    values: dict[str, Array] = {}
    for edge in manifest.graphs["step"].inputs:
        shape = tuple(SIZES[size] if isinstance(size, str) else size for size in edge.shape)
        draw = draws.get(edge.name) or (draw_index("N") if edge.dtype == "int64" else None)
        values[edge.name] = (draw(generator, shape, SIZES) if draw else generator.standard_normal(shape)).astype(
            edge.dtype
        )
    values["owner"] = np.array([0, 0, 1, 1])
    values["rescale_row"] = np.array([1, 3])
    values["guidance"] = np.array([[-0.5, 1.5, 0, 0], [0, 0, -1, 2]], np.float32)
    values["keep"] = np.zeros_like(values["keep"])
    values["guidance_rescale"] = np.zeros(2, np.float32)
    values["source_on"] = np.ones(4, np.float32)
    return values


def run(session: Any, inputs: dict[str, Array]) -> Array:
    result: Array = session.run(None, inputs)[0]
    return result


def test_the_solver_matrix_is_applied(step: Any, inputs: dict[str, Array]) -> None:
    matrix = np.zeros_like(inputs["solver"])
    matrix[:, 0, 5] = 1  # the latent becomes the noise
    matrix[:, 1, 0] = 1  # the second state row becomes the old latent
    matrix[:, 3, 2] = -2
    after = run(step, inputs | {"solver": matrix})
    state = inputs["state"]
    assert np.array_equal(after[:, 0], inputs["noise"])
    assert np.array_equal(after[:, 1], state[:, 0])
    assert np.array_equal(after[:, 2], np.zeros_like(state[:, 0]))
    assert np.array_equal(after[:, 3], -2 * state[:, 2])


def test_kept_cells_hold_the_background_at_the_level_reached(step: Any, inputs: dict[str, Array]) -> None:
    keep = np.zeros_like(inputs["keep"])
    keep[:, :, :3] = 1
    plain, blended = run(step, inputs), run(step, inputs | {"keep": keep})
    signal, sigma = inputs["reinject"].T.reshape(2, 2, 1, 1, 1)
    noised_background = signal * inputs["background"] + sigma * inputs["background_noise"]
    assert np.allclose(blended[:, 0, :, :3], noised_background[:, :, :3], rtol=1e-6, atol=1e-6)
    assert np.array_equal(blended[:, 0, :, 3:], plain[:, 0, :, 3:])
    assert np.array_equal(blended[:, 1:], plain[:, 1:])


def test_zero_guidance_rescale_changes_no_bit(step: Any, inputs: dict[str, Array]) -> None:
    before = run(step, inputs)
    assert np.array_equal(before, run(step, inputs | {"rescale_row": np.array([0, 2])}))
    half = run(step, inputs | {"guidance_rescale": np.array([0.5, 0], np.float32)})
    assert not np.array_equal(before[0], half[0])
    assert np.array_equal(before[1], half[1])


def test_slots_do_not_depend_on_each_other(step: Any, inputs: dict[str, Array]) -> None:
    together = run(step, inputs)
    row_inputs = {"owner", "source_on", "text", "identity", "identity_scale"}
    for slot in range(2):
        rows = [2 * slot, 2 * slot + 1]
        alone = {name: value[rows] if name in row_inputs else value[[slot]] for name, value in inputs.items()}
        alone |= {"owner": np.zeros(2, np.int64), "rescale_row": np.array([1])}
        alone["guidance"] = inputs["guidance"][[slot]][:, rows]
        difference = np.abs(run(step, alone)[0] - together[slot]).max()
        assert difference <= 1e-6 * np.abs(together[slot]).max()


def test_source_switch_drops_the_reference_of_one_row_only(step: Any, inputs: dict[str, Array]) -> None:
    before = run(step, inputs)
    off = run(step, inputs | {"source_on": np.array([1, 1, 1, 0], np.float32)})
    assert np.array_equal(before[0], off[0])
    assert not np.array_equal(before[1], off[1])


def test_collage_is_added_once_whatever_the_guidance(step: Any, inputs: dict[str, Array], manifest: Manifest) -> None:
    matrix = np.zeros_like(inputs["solver"])
    matrix[:, 0, 4] = 1  # the latent becomes the guided model output
    no_guidance = np.zeros_like(inputs["guidance"])
    latent = run(step, inputs | {"solver": matrix, "guidance": no_guidance})[:, 0]
    mask, photo, reference = np.split(inputs["scene"], [1, 5], axis=1)
    assert np.allclose(latent, mask * reference + (1 - mask) * photo, rtol=1e-6, atol=1e-6)


def test_identity_attention_equals_diffusers_ip_adapter(checkpoint: Path) -> None:
    opened = read_checkpoint(checkpoint)
    weights = opened.load_adapter()
    unet, diffusers_unet = opened.load("unet"), opened.load("unet")
    pairs = {
        2 * index + 1: (
            weights[f"ip_adapter.{2 * index + 1}.to_k_ip.weight"],
            weights[f"ip_adapter.{2 * index + 1}.to_v_ip.weight"],
        )
        for index in range(len(cross_attention_names(unet)))
    }
    install_identity_attention(unet, pairs)
    published: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(checkpoint / "ip_adapter.safetensors").items():
        group, key = name.split(".", 1)
        published[group][key] = tensor.float()
    diffusers_unet._load_ip_adapter_weights([published])
    for processor in diffusers_unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.6]
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(2, 13, 8, 8, generator=generator)
    text, embedding = torch.randn(2, 7, 32, generator=generator), torch.randn(2, 32, generator=generator)
    with torch.no_grad():
        tokens = TokenProjector(weights, 32)(embedding)
        scale = torch.full((2,), 0.6)
        output = unet(latent, 500.0, text, added_cond_kwargs={"image_embeds": (tokens, scale)}).sample
        conditions = {"image_embeds": [embedding[:, None]]}
        expected = diffusers_unet(latent, 500.0, text, added_cond_kwargs=conditions).sample
    assert torch.allclose(output, expected, rtol=1e-6, atol=1e-6)


def test_the_measured_demo_step_spends_at_most_3_percent_outside_the_unet() -> None:
    results = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "step_share.json").read_text())
    assert max(launch["share_outside"] for launch in results["launches"]) <= 0.03
