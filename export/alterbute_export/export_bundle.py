"""From a checkpoint folder to a bundle folder, all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from alterbute.bundle import Graph, Manifest, Precision, VariantPrecision, open_bundle

from alterbute_export.checkpoint.extra_files import ExtraFiles
from alterbute_export.checkpoint.merge import TokenEmbedding, add_embeddings, add_tokens, read_token_embeddings
from alterbute_export.checkpoint.reader import Checkpoint, Storage, read_checkpoint
from alterbute_export.checkpoint.settings import TIME_IDS, scene_channels
from alterbute_export.checkpoint.text_sizes import text_sizes
from alterbute_export.checkpoint.tokenizer import Tokenizer, check_tokenizer, read_tokenizer, write_tokenizer
from alterbute_export.checks.parity import Reference, compare_graph, run_reference
from alterbute_export.checks.resources import check_room, estimate_resources, free_memory
from alterbute_export.checks.type_audit import audit_graph, edit_sizes
from alterbute_export.errors import CheckpointError
from alterbute_export.families import FamilyGraphs, Models, build_family
from alterbute_export.graphs.paste import paste_spec
from alterbute_export.graphs.prompt import pair_prompt_spec, prompt_spec
from alterbute_export.graphs.scene import scene_spec
from alterbute_export.graphs.spec import GraphSpec, SpecMaker, without_models
from alterbute_export.graphs.vae_decode import decode_spec
from alterbute_export.graphs.window import window_spec
from alterbute_export.half.convert_bundle import convert_bundle
from alterbute_export.half.variants import TYPED_GRAPHS
from alterbute_export.int8 import CalibrationEdit, write_int8
from alterbute_export.modules.autoencoder import latent_factor
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.onnx_io.write_onnx import write_graph
from alterbute_export.packaging.atomic_folder import atomic_folder, check_target, replaced_content
from alterbute_export.packaging.manifest import describe_graph, describe_merged, finish_bundle
from alterbute_export.rewrites.fused_attention import add_fused

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, and how many of how many graphs are finished."""

_SAMPLES: Final = ("sample/photo.png", "sample/mask.png")


def export_bundle(
    checkpoint_path: str | Path,
    bundle_path: str | Path,
    *,
    storage: Storage = "auto",
    precision: VariantPrecision = "fp32",
    measure: bool = True,
    edits: Sequence[CalibrationEdit] | None = None,
    allow_shortage: bool = False,
    extras: ExtraFiles | None = None,
    report: Report | None = None,
) -> Manifest:
    """Export a checkpoint, checking every graph against torch as it is written, one graph in memory at a time.

    The bundle appears at `bundle_path` when it is complete; an earlier bundle there is replaced then.

    Args:
        checkpoint_path: A folder in diffusers' layout.
        bundle_path: Where the bundle shall be.
        storage: Of an fp32 bundle: "fp16" rounds weights to fp16 first, "fp32" keeps them as they are, "auto" is "fp16" for
            checkpoints that are fp16 on disk. Graphs compute in fp32 either way.
        precision: Of the graphs' heavy part, whose weights are stored in that type alone. "int8" is for ONNX Runtime's CPU.
        measure: Of a typed bundle: edit a photo first, keep fp32 what overflows there, and check the error.
        edits: Of an int8 bundle: what its scales are taken from; None is the sample photo alone.
        allow_shortage: Go on where memory or disk seem not to suffice.
        extras: Adapter, embeddings and LoRA files from outside the folder.
        report: Told about progress.

    Raises:
        CheckpointError: the checkpoint lacks something or does not fit together.
        ResourceError: memory or disk do not suffice.
        ParityError: an exported graph differs from torch.
        PrecisionError: a typed graph loses too much, or is mostly fp32.
        CalibrationError: an edit of `edits` cannot be run.
        OutputError: `bundle_path` holds something else than a bundle, or cannot be written.
    """
    target = Path(bundle_path)
    check_target(target)
    checkpoint = read_checkpoint(checkpoint_path, _choose_storage(storage, precision), extras)
    tell = report or (lambda task, done, total: None)
    half: Precision | None = precision if precision in ("fp16", "bf16") else None
    tell("check", 0, 1)
    tokenizer = read_tokenizer(checkpoint.path)
    models = load_models(checkpoint)
    embeddings = add_token_embeddings(checkpoint, tokenizer)
    family = build_family(checkpoint, models)
    needs = estimate_resources(checkpoint, precision, measure=measure)
    if not allow_shortage:
        check_room(needs, target)
    makers = _collect_makers(checkpoint, models, family, lambda: load_prompt(checkpoint, tokenizer, embeddings))
    tell(f"needs about {needs}", 0, len(makers))
    with atomic_folder(target) as folder:
        text = write_tokenizer(tokenizer, folder, models.text)
        _copy_samples(checkpoint, folder)
        store = WeightStore(folder, half=checkpoint.half_storage)
        graphs: dict[str, Graph] = {}
        sizes = edit_sizes(resolution=checkpoint.settings.resolution, factor=models.factor, tokens=models.text.tokens)
        for index, (name, make) in enumerate(makers.items()):
            tell(f"export {name}", index, len(makers))
            spec, reference = _write_one(make, store)
            tell(f"check {name}", index, len(makers))
            path = folder / f"{name}.onnx"
            check = partial(compare_graph, spec, reference=reference)
            graph = describe_graph(spec, check(path), audit_graph(path, sizes) if name in TYPED_GRAPHS else None)
            # A half bundle is made from the decomposed graphs alone.
            graphs[name] = graph if half else add_fused(name, graph, path, check)
        merged = describe_merged(checkpoint.loras, embeddings)
        entry = family.identity_entry
        manifest = finish_bundle(folder, checkpoint, models, text=text, identity=entry, graphs=graphs, merged=merged)
        if half:
            tell(f"type as {half}", len(makers), len(makers))
            manifest = convert_bundle(folder, half, measure=measure)
        elif precision == "int8":
            with replaced_content(folder) as written:
                manifest = write_int8(open_bundle(folder), written, edits, tell)
        tell("write", len(makers), len(makers))
    return manifest


def _write_one(make: SpecMaker, store: WeightStore) -> tuple[GraphSpec, Reference]:
    """Export one graph and run its torch side. When this returns, the models it was made from are gone."""
    spec = make()
    reference = run_reference(spec)
    write_graph(spec, store)
    bare = without_models(spec)
    del spec
    free_memory()
    return bare, reference


def _choose_storage(storage: Storage, precision: VariantPrecision) -> Storage:
    if precision in ("fp32", "int8"):
        return storage
    if storage != "auto":
        raise CheckpointError(
            f"--storage {storage} was given with --precision {precision}",
            "one of them: a typed bundle stores its weights in its own type",
            "leave --storage out",
        )
    # The rounding that fp16 weights get anyway is done before torch is asked, so that parity is that of what is shipped.
    return "fp16" if precision == "fp16" else "auto"


def read_specs(checkpoint_path: str | Path) -> tuple[GraphSpec, ...]:
    """The torch side of every graph of a checkpoint, with the weights that a bundle of it has: what benchmarks run beside it."""
    checkpoint = read_checkpoint(checkpoint_path, "auto")
    models = load_models(checkpoint)
    family = build_family(checkpoint, models)
    makers = _collect_makers(
        checkpoint, models, family, lambda: load_prompt(checkpoint, read_tokenizer(checkpoint.path))
    )
    return tuple(make() for make in makers.values())


def load_models(checkpoint: Checkpoint) -> Models:
    """UNet and VAE of a checkpoint without their weights, checked against their files, each other and the settings.

    Raises:
        CheckpointError: channel counts or sizes do not fit; both sides are named.
    """
    text = text_sizes(checkpoint.configs)
    unet, vae = checkpoint.load_meta("unet"), checkpoint.load_meta("vae")
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
    for key, sides in (("resolution", (settings.resolution,)), ("resolutions", settings.resolutions)):
        for side in sides:
            if side % (factor * stride):
                raise _misfit(f"alterbute.json key `{key}`", side, f"a multiple of {factor * stride}")
    if bool(text.pooled) != (settings.time_ids is not None) or len(settings.time_ids or [0] * TIME_IDS) != TIME_IDS:
        expected = f"{TIME_IDS} numbers for a UNet of SDXL's kind, null for others"
        raise _misfit("alterbute.json key `time_ids`", list(settings.time_ids or ()) or "null", expected)
    return Models(unet=unet, vae=vae, factor=factor, stride=stride, text=text)


def load_prompt(checkpoint: Checkpoint, tokenizer: Tokenizer, embeddings: Sequence[TokenEmbedding] = ()) -> GraphSpec:
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
    add_embeddings(first, "text_encoder", embeddings, tokenizer.end_id)
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
    add_embeddings(second, "text_encoder_2", embeddings, tokenizer.end_id)
    return pair_prompt_spec(
        first,
        second,
        end_id=tokenizer.end_id,
        second_pad_id=other.pad_id,
        has_zeros_for_empty=bool(checkpoint.index.get("force_zeros_for_empty_prompt", True)),
    )


def add_token_embeddings(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[TokenEmbedding, ...]:
    """Words of the embedding files, added to the tokenizer."""
    widths = {
        part: int(config.get("hidden_size", 512))
        for part, config in checkpoint.configs.items()
        if part.startswith("text_encoder")
    }
    return add_tokens(tokenizer, read_token_embeddings(checkpoint.extras.embeddings, widths))


def _collect_makers(
    checkpoint: Checkpoint, models: Models, family: FamilyGraphs, make_prompt: SpecMaker
) -> dict[str, SpecMaker]:
    settings = checkpoint.settings
    cells = settings.resolution // models.factor
    return {
        "prompt": make_prompt,
        **({"identity": family.identity} if family.identity else {}),
        "scene": lambda: scene_spec(checkpoint.load("vae"), settings, models.factor),
        "step": family.step,
        "decode": lambda: decode_spec(checkpoint.load("vae"), cells, models.factor),
        "window": lambda: window_spec(settings.mask),
        "paste": paste_spec,
    }


def _copy_samples(checkpoint: Checkpoint, folder: Path) -> None:
    """The sample photo and mask, when the checkpoint brings both."""
    sources = [checkpoint.path / name for name in _SAMPLES]
    if all(source.is_file() for source in sources):
        (folder / "sample").mkdir()
        for source, name in zip(sources, _SAMPLES, strict=True):
            shutil.copyfile(source, folder / name)


def _misfit(key: str, seen: object, expected: str) -> CheckpointError:
    return CheckpointError(f"{key} is {seen}", expected, "use parts that were trained together")
