"""Export of a checkpoint folder to a bundle folder, all or nothing."""

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
from alterbute_export.checkpoint.text_sizes import read_text_sizes
from alterbute_export.checkpoint.tokenizer import Tokenizer, check_tokenizer, read_tokenizer, write_tokenizer
from alterbute_export.checks.parity import Reference, compare_graph, run_reference
from alterbute_export.checks.resources import check_room, estimate_resources, free_memory
from alterbute_export.checks.type_audit import audit_graph, edit_sizes
from alterbute_export.errors import CheckpointError
from alterbute_export.families import FamilyGraphs, Models, build_family
from alterbute_export.graphs.paste import paste_spec
from alterbute_export.graphs.prompt import pair_prompt_spec, prompt_spec
from alterbute_export.graphs.scene import scene_spec
from alterbute_export.graphs.spec import GraphSpec, SpecMaker, drop_models
from alterbute_export.graphs.vae_decode import decode_spec
from alterbute_export.graphs.window import window_spec
from alterbute_export.half.convert_bundle import convert_bundle
from alterbute_export.half.variants import MODEL_GRAPHS
from alterbute_export.int8 import CalibrationEdit, write_int8
from alterbute_export.modules.autoencoder import latent_factor
from alterbute_export.onnx_io.weights import WeightStore
from alterbute_export.onnx_io.write_onnx import write_graph
from alterbute_export.packaging.atomic_folder import atomic_folder, check_target, replaced_content
from alterbute_export.packaging.manifest import describe_graph, describe_merged, finish_bundle
from alterbute_export.rewrites.fused_attention import add_fused

Report: TypeAlias = Callable[[str, int, int], None]
"""Progress callback: `(task, finished graphs, all graphs)`."""

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
    """Export a checkpoint as a bundle and compare every graph with torch; return the bundle's manifest.

    Graphs are exported one after another, so that the models of only one are in memory. The bundle is written to a
    temporary folder and moved to `bundle_path` when it is complete; an earlier bundle there is then replaced.

    Args:
        checkpoint_path: A folder in diffusers' layout.
        bundle_path: The bundle folder to write.
        storage: Storage type of the weights of an fp32 or int8 bundle: "fp16" rounds them to fp16, "fp32" keeps fp32, "auto"
            is "fp16" for checkpoints that are fp16 on disk. Graphs compute in fp32 either way.
        precision: Type in which the large graphs (see `MODEL_GRAPHS`) compute and in which their weights are stored;
            "int8" is for ONNX Runtime's CPU provider.
        measure: For fp16 and bf16: run an edit before the conversion, keep operators that overflow in it fp32, and check
            the error of the converted graphs.
        edits: For int8: the edits from whose activations the scales are calibrated; None for the sample photo alone.
        allow_shortage: Whether to continue where the estimate exceeds the free memory or disk.
        extras: Adapter, embedding and LoRA files from outside the folder.
        report: Progress callback, or None.

    Raises:
        CheckpointError: a part of the checkpoint is missing, or its parts do not fit each other.
        ResourceError: the estimate exceeds the free memory or disk.
        ParityError: an exported graph differs from torch by more than the limit.
        PrecisionError: the error of a half-precision graph is above the limit, or most of the graph stayed fp32.
        CalibrationError: an edit of `edits` cannot be run.
        OutputError: `bundle_path` is not a bundle and would be overwritten, or cannot be written.
    """
    target = Path(bundle_path)
    check_target(target)
    checkpoint = read_checkpoint(checkpoint_path, _choose_storage(storage, precision), extras)
    report_progress = report or (lambda task, done, total: None)
    half: Precision | None = precision if precision in ("fp16", "bf16") else None
    report_progress("check", 0, 1)
    tokenizer = read_tokenizer(checkpoint.path)
    models = load_models(checkpoint)
    embeddings = add_token_embeddings(checkpoint, tokenizer)
    family = build_family(checkpoint, models)
    estimate = estimate_resources(checkpoint, precision, measure=measure)
    if not allow_shortage:
        check_room(estimate, target)
    makers = _collect_makers(checkpoint, models, family, lambda: load_prompt_spec(checkpoint, tokenizer, embeddings))
    report_progress(f"needs about {estimate}", 0, len(makers))
    with atomic_folder(target) as folder:
        text = write_tokenizer(tokenizer, folder, models.text)
        _copy_samples(checkpoint, folder)
        store = WeightStore(folder, half=checkpoint.half_storage)
        graphs: dict[str, Graph] = {}
        sizes = edit_sizes(resolution=checkpoint.settings.resolution, factor=models.factor, tokens=models.text.tokens)
        for index, (name, make) in enumerate(makers.items()):
            report_progress(f"export {name}", index, len(makers))
            spec, reference = _write_one(make, store)
            report_progress(f"check {name}", index, len(makers))
            path = folder / f"{name}.onnx"
            check = partial(compare_graph, spec, reference=reference)
            graph = describe_graph(spec, check(path), audit_graph(path, sizes) if name in MODEL_GRAPHS else None)
            # A half-precision bundle is converted from the graphs without fused attention; fused ones are not written.
            graphs[name] = graph if half else add_fused(name, graph, path, check)
        merged = describe_merged(checkpoint.loras, embeddings)
        identity = family.identity_entry
        manifest = finish_bundle(folder, checkpoint, models, text=text, identity=identity, graphs=graphs, merged=merged)
        if half:
            report_progress(f"convert to {half}", len(makers), len(makers))
            manifest = convert_bundle(folder, half, measure=measure)
        elif precision == "int8":
            with replaced_content(folder) as written:
                manifest = write_int8(open_bundle(folder), written, edits, report_progress)
        report_progress("write", len(makers), len(makers))
    return manifest


def _write_one(make: SpecMaker, store: WeightStore) -> tuple[GraphSpec, Reference]:
    """Write one graph and run its torch module; return its spec without models, and the torch outputs.

    The models that the graph was traced from are freed on return.
    """
    spec = make()
    reference = run_reference(spec)
    write_graph(spec, store)
    spec_without_models = drop_models(spec)
    del spec
    free_memory()
    return spec_without_models, reference


def _choose_storage(storage: Storage, precision: VariantPrecision) -> Storage:
    if precision in ("fp32", "int8"):
        return storage
    if storage != "auto":
        raise CheckpointError(
            f"--storage {storage} was given with --precision {precision}",
            "one of them: a bundle in half precision stores its weights in that precision",
            "leave --storage out",
        )
    # Weights are rounded to fp16 before torch runs, so that parity is measured on the weights that the bundle ships.
    return "fp16" if precision == "fp16" else "auto"


def read_specs(checkpoint_path: str | Path) -> tuple[GraphSpec, ...]:
    """Specs of every graph of a checkpoint, their torch modules loaded with the weights that its bundle stores.

    All models are in memory at once; benchmarks compare torch with the bundle through them.
    """
    checkpoint = read_checkpoint(checkpoint_path, "auto")
    models = load_models(checkpoint)
    family = build_family(checkpoint, models)
    makers = _collect_makers(
        checkpoint, models, family, lambda: load_prompt_spec(checkpoint, read_tokenizer(checkpoint.path))
    )
    return tuple(make() for make in makers.values())


def load_models(checkpoint: Checkpoint) -> Models:
    """UNet and VAE of a checkpoint as meta models, checked against their files, each other and the settings.

    Raises:
        CheckpointError: channel counts or sizes do not fit; the key and the expected value are named.
    """
    text = read_text_sizes(checkpoint.configs)
    unet, vae = checkpoint.load_meta("unet"), checkpoint.load_meta("vae")
    settings = checkpoint.settings
    channels, outputs = int(vae.config.latent_channels), int(unet.config.out_channels)
    factor = latent_factor(vae)
    stride = 2 ** (len(unet.config.block_out_channels) - 1)
    expected_inputs = channels + scene_channels(settings, channels)
    parts = " + ".join(["latent", *settings.scene])
    if outputs != channels:
        raise _mismatch_error("unet/config.json key `out_channels`", outputs, f"{channels}, the VAE's latent channels")
    if int(unet.config.in_channels) != expected_inputs:
        raise _mismatch_error(
            "unet/config.json key `in_channels`", unet.config.in_channels, f"{expected_inputs} for {parts}"
        )
    for key, sides in (("resolution", (settings.resolution,)), ("resolutions", settings.resolutions)):
        for side in sides:
            if side % (factor * stride):
                raise _mismatch_error(f"alterbute.json key `{key}`", side, f"a multiple of {factor * stride}")
    if bool(text.pooled) != (settings.time_ids is not None) or len(settings.time_ids or [0] * TIME_IDS) != TIME_IDS:
        expected = f"{TIME_IDS} numbers for a UNet of SDXL's kind, null for others"
        raise _mismatch_error("alterbute.json key `time_ids`", list(settings.time_ids or ()) or "null", expected)
    return Models(unet=unet, vae=vae, factor=factor, stride=stride, text=text)


def load_prompt_spec(
    checkpoint: Checkpoint, tokenizer: Tokenizer, embeddings: Sequence[TokenEmbedding] = ()
) -> GraphSpec:
    """The prompt graph of a checkpoint, its one or two text encoders loaded and checked against their tokenizers.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its first tokenizer, to which the tokens of `embeddings` have been added.
        embeddings: Textual Inversion embeddings with their ids, which are added to the text encoders.

    Raises:
        CheckpointError: a tokenizer does not fit its encoder, or the two tokenizers differ by more than their padding.
    """
    first = checkpoint.load("text_encoder")
    check_tokenizer(tokenizer, int(first.config.vocab_size), "text_encoder")
    add_embeddings(first, "text_encoder", embeddings, tokenizer.end_id)
    if "text_encoder_2" not in checkpoint.parts:
        return prompt_spec(first)
    second = checkpoint.load("text_encoder_2")
    second_tokenizer = read_tokenizer(checkpoint.path, "tokenizer_2")
    check_tokenizer(second_tokenizer, int(second.config.vocab_size), "text_encoder_2")
    special_ids = (tokenizer.start_id, tokenizer.end_id)
    if second_tokenizer.vocabulary != tokenizer.vocabulary or special_ids != (
        second_tokenizer.start_id,
        second_tokenizer.end_id,
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
        second_pad_id=second_tokenizer.pad_id,
        has_zeros_for_empty=bool(checkpoint.index.get("force_zeros_for_empty_prompt", True)),
    )


def add_token_embeddings(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[TokenEmbedding, ...]:
    """Read the checkpoint's Textual Inversion files and add their tokens to the tokenizer, in place."""
    widths = {
        part: int(config.get("hidden_size", 512))
        for part, config in checkpoint.configs.items()
        if part.startswith("text_encoder")
    }
    return add_tokens(tokenizer, read_token_embeddings(checkpoint.extras.embeddings, widths))


def _collect_makers(
    checkpoint: Checkpoint, models: Models, family: FamilyGraphs, make_prompt: SpecMaker
) -> dict[str, SpecMaker]:
    """A maker for every graph of the bundle, by graph name, in the order in which they are written."""
    settings = checkpoint.settings
    cells = settings.resolution // models.factor
    return {
        "prompt": make_prompt,
        **({"identity": family.identity} if family.identity else {}),
        "scene": lambda: scene_spec(checkpoint.load("vae"), settings, models.factor),
        "step": family.step,
        "decode": lambda: decode_spec(checkpoint.load("vae"), cells, models.factor),
        "window": window_spec,
        "paste": lambda: paste_spec(settings.detail, settings.resolution),
        "paste16": lambda: paste_spec(settings.detail, settings.resolution, bits=16),
    }


def _copy_samples(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the sample photo and mask into the bundle, if the checkpoint has both."""
    sources = [checkpoint.path / name for name in _SAMPLES]
    if all(source.is_file() for source in sources):
        (folder / "sample").mkdir()
        for source, name in zip(sources, _SAMPLES, strict=True):
            shutil.copyfile(source, folder / name)


def _mismatch_error(key: str, value: object, expected: str) -> CheckpointError:
    return CheckpointError(f"{key} is {value}", expected, "use parts that were trained together")
