"""The bundle's manifest, filled from a checkpoint and the written graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from alterbute.bundle import (
    SCHEMA_VERSION,
    Graph,
    Identity,
    Manifest,
    Merged,
    Parity,
    Text,
    TypeAudit,
    Variant,
    describe_files,
    write_manifest,
)

from alterbute_export.checkpoint.merge import LoraFile, TokenEmbedding
from alterbute_export.checkpoint.reader import Checkpoint, hash_file, hash_weights
from alterbute_export.checkpoint.settings import scene_channels
from alterbute_export.families.base import Models
from alterbute_export.graphs.spec import GraphSpec
from alterbute_export.graphs.step import STATE_ROWS
from alterbute_export.packaging.solver_table import write_solver_table

_PRODUCERS: Final = ("alterbute", "torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def describe_graph(spec: GraphSpec, parity: Parity, audit: TypeAudit | None) -> Graph:
    """The manifest's entry of one written graph.

    Args:
        spec: The graph's name, inputs and outputs.
        parity: Its error against torch.
        audit: Its arithmetic by type; None for graphs without model weights.
    """
    variant = Variant(backend="onnxruntime", file=f"{spec.name}.onnx", audit=audit)
    return Graph(variants=(variant,), inputs=spec.inputs, outputs=spec.outputs, parity=parity)


def describe_merged(loras: Sequence[LoraFile], embeddings: Sequence[TokenEmbedding]) -> tuple[Merged, ...]:
    """The merged LoRA and embedding files, in the order of the command line, by name without a folder."""
    files = [
        Merged(kind="lora", file=lora.path.name, sha256=hash_file(lora.path), weight=lora.weight, token=None)
        for lora in loras
    ]
    for embedding in embeddings:
        files += [
            Merged(kind="embedding", file=path.name, sha256=hash_file(path), weight=1.0, token=embedding.token)
            for path in embedding.files
        ]
    return tuple(files)


def finish_bundle(
    folder: Path,
    checkpoint: Checkpoint,
    models: Models,
    *,
    text: Text,
    identity: Identity | None,
    graphs: Mapping[str, Graph],
    merged: tuple[Merged, ...],
) -> Manifest:
    """Write the solver table and `manifest.json`, which lists every file in the folder.

    Args:
        folder: The bundle's folder, with all its graphs, weights and tokenizer.
        checkpoint: The checkpoint that was exported.
        models: Its UNet and VAE, for latent channels and factor.
        text: The manifest's entry of the tokenizer.
        identity: The manifest's entry of the identity graph; None for families without one.
        graphs: The manifest's entries of the graphs, by name.
        merged: The manifest's entries of merged files.

    Returns:
        The manifest.
    """
    settings = checkpoint.settings
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=settings.name,
        family=settings.family,
        resolution=settings.resolution,
        resolutions=settings.resolutions,
        latent_channels=models.latent_channels,
        latent_factor=models.factor,
        scene_channels=scene_channels(settings, models.latent_channels),
        state_rows=STATE_ROWS,
        latent_mask=settings.latent_mask,
        residual=settings.residual,
        scene=settings.scene,
        reinject=settings.reinject,
        mask=settings.mask,
        detail=settings.detail,
        scheduler=checkpoint.scheduler,
        guidance=settings.guidance,
        defaults=settings.defaults,
        text=text,
        time_ids=settings.time_ids,
        identity=identity,
        grid=settings.grid,
        attributes=settings.attributes,
        merged=merged,
        graphs=graphs,
        # Written before the files are listed, because it is one of them.
        solver_table=write_solver_table(folder, checkpoint.scheduler, settings.defaults.spacing),
        files=describe_files(folder),
        producer=name_producers(),
        checkpoint=hash_weights(checkpoint),
    )
    write_manifest(folder, manifest)
    return manifest


def name_producers() -> dict[str, str]:
    """Versions of the packages that take part in an export, by name, without build tags such as `+cpu`."""
    versions = {}
    for name in _PRODUCERS:
        try:
            versions[name] = version(name).split("+", maxsplit=1)[0]
        except PackageNotFoundError:
            continue
    return versions
