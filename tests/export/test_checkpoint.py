"""Every kind of damage to a checkpoint folder raises an error of one line that names the file or key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from alterbute_export.checkpoint.reader import read_checkpoint
from alterbute_export.errors import CheckpointError, OutputError
from alterbute_export.export_bundle import export_bundle, load_models
from alterbute_export.families import build_family
from safetensors.torch import load_file, save_file

Damage = Callable[[Path], object]
"""Changes a checkpoint folder in place; the result is ignored."""


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


def edit_json(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


def edit_weights(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        value = load_file(folder / name)
        change(value)
        save_file(value, folder / name)

    return damage


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


UNET = "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"

DAMAGES: dict[str, tuple[Damage, str]] = {
    "no settings": (remove("alterbute.json"), "`_class_name` is 'AlterbutePipeline'"),
    "no index": (remove("model_index.json"), "no model_index.json"),
    "no config": (remove("vae/config.json"), "no vae/config.json"),
    "no adapter": (remove("ip_adapter.safetensors"), "no ip_adapter.safetensors"),
    "no weights": (remove(UNET), "unet/ holds no weights"),
    "pickle": (lambda folder: (folder / UNET).rename(folder / "unet" / "model.bin"), "model.bin, a pickle"),
    "cut weights": (lambda folder: (folder / UNET).write_bytes((folder / UNET).read_bytes()[:5000]), UNET),
    "not json": (lambda folder: (folder / "alterbute.json").write_text("{"), "alterbute.json is not JSON"),
    "unknown key": (edit_json("alterbute.json", lambda value: value.update(extra=1)), "`extra`"),
    "no scene": (edit_json("alterbute.json", lambda value: value.pop("scene")), "`_class_name` is 'AlterbutePipeline'"),
    "family": (edit_json("alterbute.json", lambda value: value.update(family="mesh")), "`family` is"),
    "family of another": (edit_json("alterbute.json", lambda value: value.update(family="grid")), "for family grid"),
    "even kernel": (edit_json("alterbute.json", lambda value: value["mask"].update(dilate=4)), "`mask.dilate` is 4"),
    "scene": (
        edit_json("alterbute.json", lambda value: value.update(scene=["mask"], residual=None)),
        "`in_channels` is 13",
    ),
    "residual": (edit_json("alterbute.json", lambda value: value.update(scene=["mask"])), "`residual`"),
    "resolution": (edit_json("alterbute.json", lambda value: value.update(resolution=36)), "`resolution` is 36"),
    "resolutions": (
        edit_json("alterbute.json", lambda value: value.update(resolutions=[32, 36])),
        "`resolutions` is 36",
    ),
    "other resolutions": (
        edit_json("alterbute.json", lambda value: value.update(resolutions=[64])),
        "`resolutions` is [64]",
    ),
    "size": (edit_json("alterbute.json", lambda value: value.update(identity={"size": 24})), "`identity.size` is 24"),
    "tokens": (
        edit_json("alterbute.json", lambda value: value.update(identity={"tokens": 16})),
        "image_proj.proj.weight",
    ),
    "prediction": (edit_json(SCHEDULER, lambda value: value.update(prediction_type="flow")), "'flow'"),
    "lost key": (edit_weights(UNET, lambda value: value.pop("conv_in.bias")), "lacks key conv_in.bias"),
    "odd key": (edit_weights(UNET, lambda value: value.update(odd=torch.ones(1))), "unknown key odd"),
    "bad shape": (edit_weights(UNET, lambda value: value.update({"conv_in.bias": torch.ones(3)})), "conv_in.bias"),
    "adapter key": (
        edit_weights("ip_adapter.safetensors", lambda value: value.pop("ip_adapter.1.to_k_ip.weight")),
        "lacks key ip_adapter.1.to_k_ip.weight",
    ),
    "adapter shape": (
        edit_weights(
            "ip_adapter.safetensors", lambda value: value.update({"ip_adapter.1.to_k_ip.weight": torch.ones(3, 3)})
        ),
        "ip_adapter.1.to_k_ip.weight is [3, 3]",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(folder: Path, name: str) -> None:
    damage, message_part = DAMAGES[name]
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        checkpoint = read_checkpoint(folder)
        build_family(checkpoint, load_models(checkpoint))
    assert message_part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        read_checkpoint(tmp_path / "nowhere")


def test_tokenizer_must_be_there(folder: Path) -> None:
    from alterbute_export.checkpoint.tokenizer import read_tokenizer

    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer/tokenizer\.json"):
        read_tokenizer(folder)


def test_a_folder_that_is_no_bundle_is_never_replaced(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="is no bundle"):
        export_bundle(checkpoint, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_failed_export_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    output = tmp_path / "out" / "bundle"
    with pytest.raises(CheckpointError):
        export_bundle(folder, output)
    assert not output.exists()
    assert not output.parent.exists() or not any(output.parent.iterdir())
