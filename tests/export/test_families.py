"""Every family is exported, opened and edited on a CPU; the inputs of its UNet are those of its paper."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alterbute import Editor
from alterbute.bundle import read_manifest
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.checkpoint.settings import build_settings, read_overrides
from alterbute_export.checkpoint.tokenizer import read_tokenizer
from alterbute_export.export_bundle import export_bundle, load_prompt_spec
from alterbute_export.families.grid import GridRows
from alterbute_export.graphs.identity import LatentIdentityGraph
from alterbute_export.graphs.scene import SceneGraph
from alterbute_export.modules.autoencoder import Encode
from alterbute_export.modules.input_gain import NoGain
from alterbute_export.sample_checkpoints import KINDS, make_checkpoint

from tests.conftest import FamilyFolder

COMMON = ["state", "noise", "timestep", "solver", "reinject", "background", "background_noise", "keep"]
SDXL = ["pooled", "time_ids"]
INPUTS = {
    "sdxl-adapter-plus": [*COMMON, "scene", "owner", "guidance", "text", *SDXL, "identity", "identity_scale"],
    "sd15-grid": [*COMMON, "scene", "owner", "guidance", "text", "identity"],
    "sd15": [*COMMON, "owner", "guidance", "text"],
}
FAMILIES = {"sdxl-adapter-plus": "adapter", "sd15-grid": "grid", "sd15": "plain"}


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw_photo_and_mask() -> tuple[Any, Any]:
    """A photo of noise `[60,80,3]` and a mask `[60,80]` with one rectangle, uint8."""
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 30:55] = 255
    return photo, mask


def edit(bundle: Path, **options: Any) -> tuple[Any, Any]:
    """Pixels and result of an edit with a bundle, whose background is checked to be that of the photo."""
    photo, mask = draw_photo_and_mask()
    with Editor.open(bundle) as editor:
        result = editor.edit(photo, mask, "red", seed=1, steps=3, **options)
    pixels = np.asarray(result.image)
    assert np.array_equal(pixels[result.alpha == 0], photo[result.alpha == 0])
    assert not np.array_equal(pixels, photo)
    return pixels, result


@pytest.mark.parametrize("kind", INPUTS)
def test_a_family_is_edited_with_what_its_step_graph_has(family_bundle: FamilyFolder, kind: str) -> None:
    bundle = family_bundle(kind)
    manifest = read_manifest(bundle)
    assert manifest.family == FAMILIES[kind]
    assert (manifest.grid is not None) == (kind == "sd15-grid")
    names = [edge.name for edge in manifest.graphs["step"].inputs]
    assert names == [*INPUTS[kind], "guidance_rescale", "rescale_row"]
    pixels, _ = edit(bundle)
    again, _ = edit(bundle)
    assert np.array_equal(pixels, again)


@pytest.mark.parametrize("kind", ["sdxl-adapter-plus", "sd15-grid"])
def test_identity_guidance_changes_the_edit(family_bundle: FamilyFolder, kind: str) -> None:
    less, _ = edit(family_bundle(kind), identity_guidance=1.0)
    more, _ = edit(family_bundle(kind), identity_guidance=4.0)
    assert not np.array_equal(less, more)


def test_a_text_to_image_unet_starts_from_the_photo(family_bundle: FamilyFolder) -> None:
    manifest = read_manifest(family_bundle("sd15"))
    assert manifest.reinject and manifest.defaults.strength < 1 and manifest.scene == ()
    assert manifest.guidance.forms == ("none", "text")
    for kind in ("sd15-grid", "sdxl-adapter-plus"):
        assert not read_manifest(family_bundle(kind)).reinject


def test_guidance_scales_of_the_papers_are_the_defaults(family_checkpoint: FamilyFolder) -> None:
    for kind, scales in (("sd15-grid", (7.5, 2.0)), ("sd15-instruct", (7.5, 1.5)), ("sd15-adapter", (7.5, 7.5))):
        guidance = read_checkpoint(family_checkpoint(kind)).settings.guidance
        assert (guidance.scale, guidance.identity) == scales


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "demo"])
def test_a_tiny_checkpoint_is_exported_opened_and_edited(tmp_path: Path, kind: str) -> None:
    """Export, open and edit; the processor time of both parts is printed."""
    start = time.process_time()
    make_checkpoint(tmp_path / "checkpoint", kind)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    exported = time.process_time()
    edit(tmp_path / "bundle")
    edited = time.process_time()
    print(f"{kind}: export {exported - start:.1f} s, open and edit {edited - exported:.1f} s of processor time")


class RecordingUNet(torch.nn.Module):  # type: ignore[misc]
    """A UNet that records its input and returns twice its latent."""

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        self.sample = sample
        return (sample[:, :4] * 2,)


def test_grid_has_the_clean_reference_on_the_right_and_scene_on_the_left_alone() -> None:
    unet = RecordingUNet()
    latent, reference, scene = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5), torch.randn(2, 5, 3, 5)
    row = {"text": torch.zeros(2, 1, 1), "scene": scene, "identity": reference}
    output = GridRows(unet, NoGain())(latent, torch.zeros(2), row)
    left, right = unet.sample[..., :5], unet.sample[..., 5:]
    assert torch.equal(left, torch.cat([latent, scene], dim=1))
    assert torch.equal(right, torch.cat([reference, torch.zeros_like(scene)], dim=1))
    assert torch.equal(output, 2 * latent)


def test_grid_rules_choose_mask_canvas_and_null_identity(family_checkpoint: FamilyFolder) -> None:
    checkpoint = read_checkpoint(family_checkpoint("sd15-grid"))
    vae = checkpoint.load("vae")
    reference = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    empty_mask = torch.zeros(1, 32, 32, dtype=torch.uint8)
    canvas, null = LatentIdentityGraph(vae, 32, 0.5, "encoded")(reference, empty_mask)
    empty_canvas = Encode(vae)(torch.full((1, 3, 32, 32), 0.5))
    # Group norm of a flat picture divides by nearly 0, which amplifies the rounding of another memory layout.
    assert torch.allclose(canvas, empty_canvas, atol=1e-3) and torch.allclose(null, empty_canvas, atol=1e-3)
    _, zeros = LatentIdentityGraph(vae, 32, 0.5, "zeros")(reference, empty_mask)
    assert not zeros.any()
    mask = torch.zeros(1, 32, 32, dtype=torch.uint8)
    mask[:, :8] = 255
    document = {"grid": {"mask": "background"}, "family": "grid", "resolution": 32}
    inverted = build_settings(infer_from(checkpoint), document)
    plain_scene = SceneGraph(vae, checkpoint.settings, 2)(reference, mask)[0]
    inverted_scene = SceneGraph(vae, inverted, 2)(reference, mask)[0]
    assert torch.equal(plain_scene[:, 0], 1 - inverted_scene[:, 0])
    assert torch.equal(plain_scene[:, 1:], inverted_scene[:, 1:])


def infer_from(checkpoint: Any) -> dict[str, Any]:
    """The settings document inferred from a checkpoint's configs."""
    from alterbute_export.checkpoint.infer_settings import infer_settings

    configs = checkpoint.configs
    return infer_settings(
        checkpoint.path,
        index=checkpoint.index,
        unet=configs["unet"],
        vae=configs["vae"],
        image_encoder=None,
        scheduler=checkpoint.scheduler,
        adapter=None,
        overrides=read_overrides(checkpoint.path),
    )


def test_the_scene_of_instruct_is_the_unscaled_latent_of_the_photo(family_checkpoint: FamilyFolder) -> None:
    checkpoint = read_checkpoint(family_checkpoint("sd15-instruct"))
    vae = checkpoint.load("vae")
    photo = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    scene, background, _ = SceneGraph(vae, checkpoint.settings, 2)(
        photo, torch.full((1, 32, 32), 255, dtype=torch.uint8)
    )
    latent = vae.encode(photo.permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mode()
    assert torch.allclose(scene, latent, atol=1e-6)
    assert torch.allclose(background, latent * 0.18215, atol=1e-6)


@pytest.mark.parametrize("prompt", ["a red blue", ""])
def test_sdxl_prompts_are_encoded_as_in_diffusers(family_checkpoint: FamilyFolder, prompt: str) -> None:
    from diffusers import StableDiffusionXLInpaintPipeline

    folder = family_checkpoint("sdxl-adapter-plus")
    checkpoint, tokenizer = read_checkpoint(folder), read_tokenizer(folder)
    pipeline = StableDiffusionXLInpaintPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True
    )
    inner = tokenizer.backend.encode(prompt, add_special_tokens=False).ids
    ids = [tokenizer.start_id, *inner, tokenizer.end_id]
    ids += [tokenizer.pad_id] * (16 - len(ids))
    text, pooled = load_prompt_spec(checkpoint, tokenizer).reference(torch.tensor([ids]))
    if prompt:
        expected, _, expected_pooled, _ = pipeline.encode_prompt(
            prompt, device="cpu", do_classifier_free_guidance=False
        )
    else:
        # In diffusers, `force_zeros_for_empty_prompt` applies to a negative prompt that is not passed at all.
        _, expected, _, expected_pooled = pipeline.encode_prompt("red", device="cpu", do_classifier_free_guidance=True)
    assert torch.allclose(text, expected, atol=1e-6) and torch.allclose(pooled, expected_pooled, atol=1e-6)
