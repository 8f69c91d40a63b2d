"""From a checkpoint folder to a bundle folder, all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from alterbute.bundle import Graph, Manifest

from alterbute_export.atomic_folder import atomic_folder, check_target
from alterbute_export.autoencoder import latent_factor
from alterbute_export.checkpoint import Checkpoint, Storage, read_checkpoint
from alterbute_export.errors import CheckpointError
from alterbute_export.extras import Extras
from alterbute_export.families import FamilyGraphs, Models, build_family
from alterbute_export.fused_attention import add_fused
from alterbute_export.graphs.decode import decode_spec
from alterbute_export.graphs.paste import paste_spec
from alterbute_export.graphs.prompt import pair_prompt_spec, prompt_spec
from alterbute_export.graphs.scene import scene_spec
from alterbute_export.graphs.spec import GraphSpec
from alterbute_export.graphs.step import TIME_IDS
from alterbute_export.graphs.window import window_spec
from alterbute_export.manifest import describe_graph, describe_merged, finish_bundle
from alterbute_export.merge import Lesson, read_lessons, teach_encoder, teach_tokenizer
from alterbute_export.onnx_file import write_graph
from alterbute_export.parity import check_parity
from alterbute_export.settings import scene_channels
from alterbute_export.text import text_sizes
from alterbute_export.tokens import Tokenizer, check_tokenizer, read_tokenizer, write_tokenizer
from alterbute_export.weights import WeightStore

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, and how many of how many graphs are finished."""

_SAMPLES: Final = ("sample/photo.png", "sample/mask.png")


def export_bundle(
    checkpoint_path: str | Path,
    bundle_path: str | Path,
    *,
    storage: Storage = "auto",
    extras: Extras | None = None,
    report: Report | None = None,
) -> Manifest:
    """Export a checkpoint, checking every graph against torch as it is written.

    The bundle appears at `bundle_path` when it is complete; an earlier bundle there is replaced then.

    Args:
        checkpoint_path: A folder in diffusers' layout.
        bundle_path: Where the bundle shall be.
        storage: "fp16" rounds weights to fp16 first, "fp32" keeps them as they are, "auto" is "fp16" for checkpoints
            that are fp16 on disk. Graphs compute in fp32 either way.
        extras: Adapter, embeddings and LoRA files from outside the folder.
        report: Told about progress.

    Raises:
        CheckpointError: the checkpoint lacks something or does not fit together.
        ParityError: an exported graph differs from torch.
        OutputError: `bundle_path` holds something else than a bundle, or cannot be written.
    """
    target = Path(bundle_path)
    check_target(target)
    checkpoint = read_checkpoint(checkpoint_path, storage, extras)
    tell = report or (lambda task, done, total: None)
    tell("load", 0, 1)
    tokenizer = read_tokenizer(checkpoint.path)
    models = load_models(checkpoint)
    lessons = learn_words(checkpoint, tokenizer)
    prompt = load_prompt(checkpoint, tokenizer, lessons)
    family = build_family(checkpoint, models)
    specs = _collect_specs(checkpoint, models, prompt, family)
    with atomic_folder(target) as folder:
        text = write_tokenizer(tokenizer, folder, models.text)
        _copy_samples(checkpoint, folder)
        store = WeightStore(folder, half=checkpoint.half_storage)
        graphs: dict[str, Graph] = {}
        for index, spec in enumerate(specs):
            tell(f"export {spec.name}", index, len(specs))
            path = write_graph(spec, store)
            tell(f"check {spec.name}", index, len(specs))
            graph = describe_graph(spec, check_parity(spec, path))
            graphs[spec.name] = add_fused(spec.name, graph, path, partial(check_parity, spec))
        entry = family.identity_entry
        merged = describe_merged(checkpoint.loras, lessons)
        manifest = finish_bundle(folder, checkpoint, models, text=text, identity=entry, graphs=graphs, merged=merged)
        tell("write", len(specs), len(specs))
    return manifest


def read_specs(checkpoint_path: str | Path) -> tuple[GraphSpec, ...]:
    """The torch side of every graph of a checkpoint, with the weights that a bundle of it has: what benchmarks run beside it."""
    checkpoint = read_checkpoint(checkpoint_path, "auto")
    models = load_models(checkpoint)
    prompt = load_prompt(checkpoint, read_tokenizer(checkpoint.path))
    return _collect_specs(checkpoint, models, prompt, build_family(checkpoint, models))


def load_models(checkpoint: Checkpoint) -> Models:
    """UNet and VAE of a checkpoint, checked against each other and the settings.

    Raises:
        CheckpointError: channel counts or sizes do not fit; both sides are named.
    """
    text = text_sizes(checkpoint.configs)
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
    if bool(text.pooled) != (settings.time_ids is not None) or len(settings.time_ids or [0] * TIME_IDS) != TIME_IDS:
        expected = f"{TIME_IDS} numbers for a UNet of SDXL's kind, null for others"
        raise _misfit("alterbute.json key `time_ids`", list(settings.time_ids or ()) or "null", expected)
    return Models(unet=unet, vae=vae, factor=factor, stride=stride, text=text)


def load_prompt(checkpoint: Checkpoint, tokenizer: Tokenizer, lessons: Sequence[Lesson] = ()) -> GraphSpec:
    """The prompt graph of a checkpoint, its one or two text encoders held against their tokenizers.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer, which knows the lessons' words already.
        lessons: Words that the encoders learn.

    Raises:
        CheckpointError: a tokenizer does not fit its encoder, or the two tokenizers differ by more than their filling.
    """
    first = checkpoint.load("text_encoder")
    check_tokenizer(tokenizer, int(first.config.vocab_size), "text_encoder")
    teach_encoder(first, "text_encoder", lessons, tokenizer.end_id)
    if "text_encoder_2" not in checkpoint.parts:
        return prompt_spec(first)
    second = checkpoint.load("text_encoder_2")
    other = read_tokenizer(checkpoint.path, "tokenizer_2")
    check_tokenizer(other, int(second.config.vocab_size), "text_encoder_2")
    if other.vocabulary != tokenizer.vocabulary or (other.start_id, other.end_id) != (
        tokenizer.start_id,
        tokenizer.end_id,
    ):
        raise CheckpointError(
            "tokenizer/ and tokenizer_2/ have different vocabularies",
            "one vocabulary, as in every SDXL checkpoint: the bundle has one tokenizer",
            "use a checkpoint with SDXL's own tokenizers",
        )
    teach_encoder(second, "text_encoder_2", lessons, tokenizer.end_id)
    return pair_prompt_spec(
        first,
        second,
        end_id=tokenizer.end_id,
        second_pad_id=other.pad_id,
        has_zeros_for_empty=bool(checkpoint.index.get("force_zeros_for_empty_prompt", True)),
    )


def learn_words(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[Lesson, ...]:
    """Words of the embedding files, added to the tokenizer."""
    widths = {
        part: int(config.get("hidden_size", 512))
        for part, config in checkpoint.configs.items()
        if part.startswith("text_encoder")
    }
    return teach_tokenizer(tokenizer, read_lessons(checkpoint.extras.embeddings, widths))


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
