"""Published layouts are read without `alterbute.json`; errors name the file or key that does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from alterbute_export.checkpoint.extra_files import ExtraFiles, read_extra_files
from alterbute_export.checkpoint.reader import hash_weights, read_checkpoint
from alterbute_export.errors import CheckpointError
from alterbute_export.export_bundle import load_models
from alterbute_export.families import build_family
from alterbute_export.sample_checkpoints import KINDS, SIZES, make_checkpoint, make_sample_spec
from safetensors.torch import load_file, save_file

from tests.conftest import FamilyFolder

EXPECTED = {
    "sd15": ("plain", ()),
    "sd15-inpaint": ("plain", ("mask", "masked_photo")),
    "sd15-adapter": ("adapter", ("mask", "masked_photo")),
    "sd15-adapter-plus": ("adapter", ("mask", "masked_photo")),
    "sd15-instruct": ("instruct", ("photo",)),
    "sd21-adapter": ("adapter", ("mask", "masked_photo")),
    "sdxl": ("plain", ()),
    "sdxl-inpaint": ("plain", ("mask", "masked_photo")),
    "sdxl-adapter": ("adapter", ("mask", "masked_photo")),
    "sdxl-adapter-vit-h": ("adapter", ("mask", "masked_photo")),
    "sdxl-adapter-plus": ("adapter", ("mask", "masked_photo")),
    "sdxl-instruct": ("instruct", ("photo",)),
    "sd15-grid": ("grid", ("mask", "masked_photo")),
    "sdxl-grid": ("grid", ("mask", "masked_photo")),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_family_and_scene_are_read_from_the_layout(family_checkpoint: FamilyFolder, kind: str) -> None:
    folder = family_checkpoint(kind)
    assert (folder / "alterbute.json").exists() == kind.endswith("grid")
    checkpoint = read_checkpoint(folder)
    settings = checkpoint.settings
    assert (settings.family, settings.scene) == EXPECTED[kind]
    assert settings.latent_mask == "nearest" and settings.resolution == 32
    assert settings.reinject == (not settings.scene) == (settings.defaults.strength < 1)
    width = 64.0 if kind == "sdxl-grid" else 32.0
    assert settings.time_ids == ((32.0, width, 0.0, 0.0, 32.0, width) if kind.startswith("sdxl") else None)
    models = load_models(checkpoint)
    step = build_family(checkpoint, models).step()
    names = {edge.name for edge in step.inputs}
    assert ("source_on" in names) == (settings.family == "instruct")
    assert ("pooled" in names) == kind.startswith("sdxl") == bool(models.text.pooled)


def test_every_kind_is_expected_here() -> None:
    assert {*EXPECTED, "demo"} == set(KINDS)


def test_published_sizes_are_those_of_the_published_models() -> None:
    from alterbute_export.checkpoint.model_classes import build_meta

    millions = {
        ("sd15-inpaint", "unet"): 859.5,
        ("sdxl", "unet"): 2567.5,
        ("sd15", "vae"): 83.7,
        ("sd15", "text_encoder"): 123.1,
        ("sdxl", "text_encoder_2"): 694.7,
        ("sd15-adapter", "image_encoder"): 632.1,
        ("sdxl-adapter", "image_encoder"): 1844.9,
    }
    for (kind, part), count in millions.items():
        config = dict(make_sample_spec(kind, "published").parts[part])
        model = build_meta(part, config | ({"vocab_size": 49408} if "vocab_size" in config else {}))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        assert round(parameters / 1e6, 1) == count, (kind, part)
    assert SIZES == ("tiny", "published")


@pytest.mark.parametrize(
    "options", [{"variant": "fp16"}, {"shard_bytes": 20_000}, {"variant": "fp16", "shard_bytes": 20_000}]
)
def test_variants_and_shards_hold_the_same_weights(
    family_checkpoint: FamilyFolder, tmp_path: Path, options: dict[str, Any]
) -> None:
    plain = read_checkpoint(family_checkpoint("sd15-adapter"))
    variant = read_checkpoint(make_checkpoint(tmp_path / "variant", "sd15-adapter", **options))
    assert (len(variant.parts["unet"].files) > 1) == ("shard_bytes" in options)
    for part in plain.parts:
        weights = variant.load(part).state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in plain.load(part).state_dict().items())


def test_keys_of_older_files_are_read(tmp_path: Path) -> None:
    spec = make_sample_spec("sd15")
    parts = {**spec.parts, "vae": {**spec.parts["vae"], "mid_block_add_attention": True}}
    folder = make_checkpoint(tmp_path / "checkpoint", replace(spec, parts=parts))
    weights = {part: read_checkpoint(folder).load(part).state_dict() for part in ("vae", "text_encoder")}
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for new, old in older.items():
        tensors = {name.replace(f".{new}.", f".{old}."): value for name, value in tensors.items()}
    assert "decoder.mid_block.attentions.0.query.weight" in tensors
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    assert all(name.startswith("text_model.") for name in tensors)
    save_file(tensors | {"text_model.embeddings.position_ids": torch.arange(16)[None]}, path, metadata={"format": "pt"})
    for part, expected in weights.items():
        loaded = read_checkpoint(folder).load(part).state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in expected.items())


def test_plain_files_go_before_the_fp16_variant(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family_checkpoint("sd15"), tmp_path / "both"))
    make_checkpoint(tmp_path / "half", "sd15", seed=1, variant="fp16")
    name = "diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(tmp_path / "half" / "unet" / name, folder / "unet" / name)
    assert [path.name for path in read_checkpoint(folder).parts["unet"].files] == [
        "diffusion_pytorch_model.safetensors"
    ]


def test_adapter_and_encoder_may_lie_outside_the_folder(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family_checkpoint("sd15-adapter"), tmp_path / "checkpoint"))
    for name in ("image_encoder", "ip-adapter_sd15.safetensors"):
        shutil.move(folder / name, tmp_path / name)
    assert read_checkpoint(folder).settings.family == "plain"
    extras = read_extra_files(
        adapter=tmp_path / "ip-adapter_sd15.safetensors", image_encoder=tmp_path / "image_encoder"
    )
    checkpoint = read_checkpoint(folder, extras=extras)
    assert checkpoint.settings.family == "adapter"
    build_family(checkpoint, load_models(checkpoint))
    assert all(not Path(name).is_absolute() for name in hash_weights(checkpoint))


def test_settings_overrule_the_layout_key_by_key(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family_checkpoint("sd15-adapter"), tmp_path / "checkpoint"))
    overrides = {"name": "mine", "mask": {"dilate": 7}, "guidance": {"scale": 3.0}, "attributes": {"color": ["red"]}}
    (folder / "alterbute.json").write_text(json.dumps(overrides))
    settings = read_checkpoint(folder).settings
    assert (settings.name, settings.mask.dilate, settings.mask.margin, settings.guidance.scale) == ("mine", 7, 2.0, 3.0)
    assert settings.guidance.identity == 1.0
    assert settings.attributes == {"color": ("red",)}


def test_a_missing_prediction_type_is_epsilon(family_checkpoint: FamilyFolder) -> None:
    checkpoint = read_checkpoint(family_checkpoint("sd15"))
    assert "prediction_type" not in checkpoint.scheduler


Damage = Callable[[Path], object]
"""Changes a checkpoint folder in place; the result is ignored."""


def edit(name: str, **values: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return damage


def swap_encoder(folder: Path) -> None:
    """Replace the bigG image encoder of an SDXL adapter by the one of the `vit-h` adapters."""
    shutil.rmtree(folder / "image_encoder")
    make_checkpoint(folder / "other", "sdxl-adapter-vit-h")
    shutil.move(folder / "other" / "image_encoder", folder / "image_encoder")
    shutil.rmtree(folder / "other")


def rename_to_pickle(part: str, name: str) -> Damage:
    return lambda folder: (folder / part / f"{name}.safetensors").rename(folder / part / "pytorch_model.bin")


def remove_shards(folder: Path) -> None:
    """Replace the UNet's weights by the index of a shard that is missing."""
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index.write_text(
        json.dumps({"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}})
    )


def write_full_adapter(folder: Path) -> None:
    """Give the adapter the projector keys of the unsupported kind `full`."""
    path = folder / "ip-adapter_sdxl.safetensors"
    tensors = {name: value for name, value in load_file(path).items() if not name.startswith("image_proj.")}
    save_file(tensors | {"image_proj.proj.0.weight": torch.ones(4, 4)}, path)


UNET, INDEX, SCHEDULER = "unet/config.json", "model_index.json", "scheduler/scheduler_config.json"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "pipeline": (edit(INDEX, _class_name="FluxPipeline"), "`_class_name` is 'FluxPipeline'"),
    "channels": (edit(UNET, in_channels=5), "`in_channels` is 5; expected 4 or 9"),
    "channels of another pipeline": (
        edit(INDEX, _class_name="StableDiffusionXLPipeline"),
        "`in_channels` is 9; expected 4",
    ),
    "sample size": (edit(UNET, sample_size=None), "`sample_size` is None"),
    "class embedding": (edit(UNET, class_embed_type="timestep"), "`class_embed_type` is 'timestep'"),
    "guidance embedding": (edit(UNET, time_cond_proj_dim=256), "`time_cond_proj_dim` is 256"),
    "refiner": (edit(UNET, projection_class_embeddings_input_dim=56), "is 56; expected 64"),
    "one text encoder": (edit(INDEX, text_encoder_2=[None, None]), "`addition_embed_type` is 'text_time'"),
    "scheduler option": (edit(SCHEDULER, thresholding=True), "thresholding = True"),
    "scheduler key": (edit(SCHEDULER, warp=3), "warp = 3"),
    "another image encoder": (swap_encoder, "does not fit the image encoder: it takes 40 numbers"),
    "no image encoder": (lambda folder: shutil.rmtree(folder / "image_encoder"), "no image_encoder/config.json"),
    "a full adapter": (write_full_adapter, "image_proj.proj.0.weight"),
    "two adapters": (
        lambda folder: shutil.copy(folder / "ip-adapter_sdxl.safetensors", folder / "ip-adapter.safetensors"),
        "several adapters",
    ),
    "pickled vae": (rename_to_pickle("vae", "diffusion_pytorch_model"), "from diffusers import AutoencoderKL as M"),
    "pickled text encoder": (rename_to_pickle("text_encoder_2", "model"), "import CLIPTextModelWithProjection as M"),
    "a lost shard": (remove_shards, "has no diffusion_pytorch_model-00001-of-00002.safetensors"),
    "latent statistics": (edit("vae/config.json", latents_mean=[0.0] * 4), "latents_mean"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_to_a_published_layout_is_named(family_checkpoint: FamilyFolder, tmp_path: Path, name: str) -> None:
    damage, message_part = DAMAGES[name]
    folder = Path(shutil.copytree(family_checkpoint("sdxl-adapter"), tmp_path / "checkpoint"))
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoint = read_checkpoint(folder)
        build_family(checkpoint, load_models(checkpoint))
    assert message_part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_vit_h_and_bigg_mix_up_is_named_at_published_widths(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from alterbute_export.checkpoint.ip_adapter_file import check_adapter, read_adapter

    save_file(
        {"image_proj.proj.weight": torch.zeros(4 * 8, 1024), "image_proj.norm.weight": torch.zeros(8)},
        tmp_path / "ip-adapter_sdxl_vit-h.safetensors",
    )
    encoder = SimpleNamespace(config=SimpleNamespace(projection_dim=1280, hidden_size=1664))
    with pytest.raises(CheckpointError, match=r"1024.*ViT-H/14.*1280.*ViT-bigG/14.*--image-encoder DIR"):
        check_adapter(read_adapter(tmp_path / "ip-adapter_sdxl_vit-h.safetensors"), None, encoder, 4)


def test_one_file_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is one file.*from_single_file"):
        read_checkpoint(tmp_path / "model.safetensors")


def test_an_adapter_for_a_family_without_one_is_refused(family_checkpoint: FamilyFolder) -> None:
    adapter = family_checkpoint("sd15-adapter") / "ip-adapter_sd15.safetensors"
    extras = ExtraFiles(adapter=adapter, image_encoder=family_checkpoint("sd15-adapter") / "image_encoder")
    with pytest.raises(CheckpointError, match="the checkpoint's family is instruct"):
        read_checkpoint(family_checkpoint("sd15-instruct"), extras=extras)


def test_two_tokenizers_of_different_vocabularies_are_refused(family_checkpoint: FamilyFolder, tmp_path: Path) -> None:
    from alterbute_export.checkpoint.tokenizer import read_tokenizer
    from alterbute_export.export_bundle import load_prompt_spec

    folder = Path(shutil.copytree(family_checkpoint("sdxl"), tmp_path / "checkpoint"))
    path = folder / "tokenizer_2" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(vocabulary))
    with pytest.raises(CheckpointError, match="different vocabularies"):
        load_prompt_spec(read_checkpoint(folder), read_tokenizer(folder))
