"""From a checkpoint folder to a bundle folder, all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from alterbute.bundle import Graph, Manifest

from alterbute_export.atomic_folder import atomic_folder, check_target
from alterbute_export.autoencoder import latent_factor
from alterbute_export.checkpoint import Checkpoint, Storage, read_checkpoint
from alterbute_export.errors import CheckpointError
from alterbute_export.families import FamilyGraphs, Models, build_family
from alterbute_export.graphs.decode import decode_spec
from alterbute_export.graphs.paste import paste_spec
from alterbute_export.graphs.prompt import prompt_spec
from alterbute_export.graphs.scene import scene_spec
from alterbute_export.graphs.spec import GraphSpec
from alterbute_export.graphs.window import window_spec
from alterbute_export.manifest import describe_graph, finish_bundle
from alterbute_export.onnx_file import write_graph
from alterbute_export.parity import check_parity
from alterbute_export.settings import scene_channels
from alterbute_export.tokens import write_tokenizer
from alterbute_export.weights import WeightStore

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, and how many of how many graphs are finished."""

_SAMPLES: Final = ("sample/photo.png", "sample/mask.png")


def export_bundle(
    checkpoint_path: str | Path, bundle_path: str | Path, *, storage: Storage = "auto", report: Report | None = None
) -> Manifest:
    """Export a checkpoint, checking every graph against torch as it is written.

    The bundle appears at `bundle_path` when it is complete; an earlier bundle there is replaced then.

    Args:
        checkpoint_path: A folder in diffusers' layout with `alterbute.json`.
        bundle_path: Where the bundle shall be.
        storage: "fp16" rounds weights to fp16 first, "fp32" keeps them as they are, "auto" is "fp16" for checkpoints
            that are fp16 on disk. Graphs compute in fp32 either way.
        report: Told about progress.

    Raises:
        CheckpointError: the checkpoint lacks something or does not fit together.
        ParityError: an exported graph differs from torch.
        OutputError: `bundle_path` holds something else than a bundle, or cannot be written.
    """
    target = Path(bundle_path)
    check_target(target)
    checkpoint = read_checkpoint(checkpoint_path, storage)
    tell = report or (lambda task, done, total: None)
    tell("load", 0, 1)
    models = load_models(checkpoint)
    prompt = prompt_spec(checkpoint)
    family = build_family(checkpoint, models)
    specs = _collect_specs(checkpoint, models, prompt, family)
    with atomic_folder(target) as folder:
        text = write_tokenizer(checkpoint, folder, tokens=models.text_tokens, **_text_sizes(prompt))
        _copy_samples(checkpoint, folder)
        store = WeightStore(folder, half=checkpoint.half_storage)
        graphs: dict[str, Graph] = {}
        for index, spec in enumerate(specs):
            tell(f"export {spec.name}", index, len(specs))
            path = write_graph(spec, store)
            tell(f"check {spec.name}", index, len(specs))
            graphs[spec.name] = describe_graph(spec, check_parity(spec, path))
        entry = family.identity_entry
        manifest = finish_bundle(folder, checkpoint, models, text=text, identity=entry, graphs=graphs)
        tell("write", len(specs), len(specs))
    return manifest


def load_models(checkpoint: Checkpoint) -> Models:
    """UNet and VAE of a checkpoint, checked against each other and the settings.

    Raises:
        CheckpointError: channel counts or sizes do not fit; both sides are named.
    """
    unet, vae = checkpoint.load("unet"), checkpoint.load("vae")
    settings = checkpoint.settings
    channels, outputs = int(vae.config.latent_channels), int(unet.config.out_channels)
    factor = latent_factor(vae)
    stride = 2 ** (len(unet.config.block_out_channels) - 1)
    wanted = channels + scene_channels(settings, channels)
    parts = " + ".join(["latent", *settings.scene])
    if outputs != channels:
        raise _misfit("unet/config.json key `out_channels`", outputs, f"{channels}, the VAE's latent channels")
    if int(unet.config.in_channels) != wanted:
        raise _misfit("unet/config.json key `in_channels`", unet.config.in_channels, f"{wanted} for {parts}")
    if settings.resolution % (factor * stride):
        raise _misfit("alterbute.json key `resolution`", settings.resolution, f"a multiple of {factor * stride}")
    tokens = _text_tokens(checkpoint, int(unet.config.cross_attention_dim))
    return Models(unet=unet, vae=vae, factor=factor, stride=stride, text_tokens=tokens)


def _text_tokens(checkpoint: Checkpoint, width: int) -> int:
    from alterbute_export.checkpoint import read_json

    config = read_json(checkpoint.path, "text_encoder/config.json")
    if config.get("hidden_size") != width:
        expected = f"{width}, the cross_attention_dim of unet/config.json"
        raise _misfit("text_encoder/config.json key `hidden_size`", config.get("hidden_size"), expected)
    return int(config.get("max_position_embeddings", 77))


def _text_sizes(prompt: GraphSpec) -> dict[str, int]:
    graph: Any = prompt.graph
    config = graph.encoder.config
    return {"dim": int(config.hidden_size), "vocabulary": int(config.vocab_size)}


def _collect_specs(
    checkpoint: Checkpoint, models: Models, prompt: GraphSpec, family: FamilyGraphs
) -> tuple[GraphSpec, ...]:
    settings = checkpoint.settings
    return (
        prompt,
        *([family.identity] if family.identity else []),
        scene_spec(models.vae, settings, models.factor),
        family.step,
        decode_spec(models.vae, settings.resolution // models.factor),
        window_spec(settings.mask),
        paste_spec(),
    )


def _copy_samples(checkpoint: Checkpoint, folder: Path) -> None:
    """The sample photo and mask, when the checkpoint brings both."""
    sources = [checkpoint.path / name for name in _SAMPLES]
    if all(source.is_file() for source in sources):
        (folder / "sample").mkdir()
        for source, name in zip(sources, _SAMPLES, strict=True):
            shutil.copyfile(source, folder / name)


def _misfit(key: str, seen: object, expected: str) -> CheckpointError:
    return CheckpointError(f"{key} is {seen}", expected, "use parts that were trained together")
