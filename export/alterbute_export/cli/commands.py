"""The commands `bundle`, `quantize` and `sample-checkpoint` of `alterbute-export`, and the application with all commands."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from alterbute.bundle import Manifest

from alterbute_export.cli.engine_commands import engine, publish, sign
from alterbute_export.cli.progress import progress_bar
from alterbute_export.errors import CalibrationError, CheckpointError, OutputError

if TYPE_CHECKING:
    from alterbute_export.int8 import CalibrationEdit


class StorageChoice(StrEnum):
    """Types of the weights in the bundle."""

    auto = "auto"
    fp16 = "fp16"
    fp32 = "fp32"


class PrecisionChoice(StrEnum):
    """Types of the graphs' heavy part."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


class SizeChoice(StrEnum):
    """Sizes of a sample checkpoint."""

    tiny = "tiny"
    published = "published"


def bundle(
    checkpoint: Annotated[Path, typer.Argument(help="Folder in diffusers' layout; alterbute.json in it is optional.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder; an earlier bundle is replaced.")],
    storage: Annotated[
        StorageChoice, typer.Option(help="Weights on disk; auto is fp16 for checkpoints that are fp16 on disk.")
    ] = StorageChoice.auto,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            help="Type of the graphs' heavy part, whose weights are stored in that type alone; int8 is for the CPU."
        ),
    ] = PrecisionChoice.fp32,
    measure: Annotated[
        bool, typer.Option(help="For fp16 and bf16: edit a photo first, and keep operators that overflow in fp32.")
    ] = True,
    edits: Annotated[
        Path | None, typer.Option(help="For int8: TOML file of edits to calibrate with; without it the sample photo.")
    ] = None,
    allow_shortage: Annotated[
        bool, typer.Option("--allow-shortage", help="Export even if memory or disk seem too small.")
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(help="IP-Adapter file; without it the one at the checkpoint's top is taken.")
    ] = None,
    image_encoder: Annotated[
        Path | None, typer.Option(help="Folder of the adapter's image encoder; without it image_encoder/ is taken.")
    ] = None,
    embedding: Annotated[
        list[str] | None,
        typer.Option(help="Textual Inversion file, FILE or FILE:TOKEN, added to the vocabulary; may be repeated."),
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="LoRA file, FILE or FILE:WEIGHT, merged into the weights; may be repeated.")
    ] = None,
) -> None:
    """Export a checkpoint to a bundle, checking every graph against torch."""
    # Imported here, so that `--help` does not wait for torch.
    from alterbute_export.checkpoint.extra_files import read_extra_files
    from alterbute_export.export_bundle import export_bundle

    start = time.monotonic()
    extras = read_extra_files(
        adapter=adapter, image_encoder=image_encoder, embeddings=embedding or (), loras=lora or ()
    )
    calibration = _read_calibration(edits, precision)
    with progress_bar(width=16) as report:
        manifest = export_bundle(
            checkpoint,
            output,
            storage=storage.value,
            precision=precision.value,
            measure=measure,
            edits=calibration,
            allow_shortage=allow_shortage,
            extras=extras,
            report=report,
        )
    for name, graph in manifest.graphs.items():
        if graph.parity is not None:
            typer.echo(
                f"{name:<9} relative error {graph.parity.relative_error:.1e} against {graph.parity.against}", err=True
            )
    _print_written(output, manifest, start)


def quantize(
    bundle: Annotated[Path, typer.Argument(help="An fp32 bundle; it is not changed.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The int8 bundle's folder; an earlier bundle is replaced.")
    ],
    edits: Annotated[
        Path | None, typer.Option(help="TOML file of edits to calibrate with; without it the bundle's sample photo.")
    ] = None,
    step_snr: Annotated[
        float | None,
        typer.Option(
            help="Operators of the step graph with a lower signal-to-noise ratio in dB stay fp32; without it 28.",
            min=0,
            max=100,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each calibration edit; without it the bundle's default.", min=1)
    ] = None,
) -> None:
    """Quantize an fp32 bundle to an int8 bundle for the CPU."""
    from alterbute_export.int8 import quantize_bundle

    start = time.monotonic()
    calibration = _read_calibration(edits, PrecisionChoice.int8)
    with progress_bar(width=16) as report:
        manifest = quantize_bundle(bundle, output, calibration, report, steps=steps, step_snr=step_snr)
    for name, graph in manifest.graphs.items():
        audit = graph.variants[0].audit
        if audit is not None:
            shares = ", ".join(f"{share:.0%} {kind}" for kind, share in audit.shares.items())
            typer.echo(f"{name:<9} {shares}", err=True)
    _print_written(output, manifest, start)


def sample_checkpoint(
    kind: Annotated[str, typer.Argument(help="Kind of checkpoint; `list` prints all kinds.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The checkpoint's folder, a new one.")] = None,
    size: Annotated[SizeChoice, typer.Option(help="tiny for tests, published for sizes and times.")] = SizeChoice.tiny,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.", min=0)] = 0,
) -> None:
    """Make a checkpoint with random weights, in the published layout, for tests and benchmarks."""
    from alterbute_export.sample_checkpoints import KINDS, make_checkpoint, make_sample_spec

    if kind not in KINDS:
        listing = ", ".join(KINDS)
        if kind == "list":
            typer.echo(listing)
            return
        raise CheckpointError(f"the kind is {kind!r}", listing, "choose one of them")
    target = output or Path(f"{kind}-{size.value}")
    if target.exists():
        raise OutputError(f"the output {target} exists", "a new folder", "choose another -o")
    make_checkpoint(target, make_sample_spec(kind, size.value), seed=seed)
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    typer.echo(f"wrote {target}, {total / 1e6:.1f} MB", err=True)


def build_app() -> typer.Typer:
    """The application with all commands."""
    app = typer.Typer(
        help="Turn trained checkpoints into bundles that the alterbute runtime serves.",
        context_settings={"help_option_names": ["-h", "--help"]},
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_options)
    for verb in (bundle, quantize, engine, publish, sign):
        app.command(context_settings={"auto_envvar_prefix": f"ALTERBUTE_EXPORT_{verb.__name__.upper()}"})(verb)
    app.command("sample-checkpoint")(sample_checkpoint)
    return app


def _options(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _print_written(output: Path, manifest: Manifest, start: float) -> None:
    size = sum(entry.size for entry in manifest.files.values())
    typer.echo(f"wrote {output}, {size / 1e6:.1f} MB, in {time.monotonic() - start:.0f} s", err=True)


def _read_calibration(edits: Path | None, precision: PrecisionChoice) -> list[CalibrationEdit] | None:
    from alterbute_export.int8 import read_edits

    if precision is not PrecisionChoice.int8:
        if edits is not None:
            raise CalibrationError(
                f"--edits was given with --precision {precision.value}", "--precision int8", "leave --edits out"
            )
        return None
    if edits is None:
        typer.echo(
            "note: calibrated on the sample photo alone; give --edits with a few photos of the kind that will be edited",
            err=True,
        )
        return None
    return read_edits(edits)
