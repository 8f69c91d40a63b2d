"""`alterbute edit`: one photo, one prompt, one or more results; with no photo, the bundle's own sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from alterbute.cli.echo import echo
from alterbute.cli.editing.mask_options import (
    BoxOption,
    DilateOption,
    KindOption,
    MaskChoice,
    MaskOption,
    PolarityOption,
    PolygonOption,
    ProtectOption,
    RimOption,
    ValueOption,
    ignore_pillow_warnings,
    load_choice,
)
from alterbute.cli.editing.output import check_outputs, free_path
from alterbute.cli.progress import progress_bar
from alterbute.cli.trust import TrustKeyOption, read_trust_option
from alterbute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alterbute import EditResult
    from alterbute.bundle import Bundle
    from alterbute.request import EditOptions

_SAMPLE_PHOTO: Final = "sample/photo.png"
_SAMPLE_MASK: Final = "sample/mask.png"
_SAMPLE_PROMPT: Final = "sample/prompt.txt"


def edit(
    photo: Annotated[
        Path | None,
        typer.Argument(help="PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP or GIF; the bundle's sample when left out."),
    ] = None,
    mask: MaskOption = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help='What to change: "color: red; material: metal".')
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="A picture whose object gives the identity; else the photo's own.")
    ] = None,
    reference_mask: Annotated[Path | None, typer.Option(help="The object in the reference.")] = None,
    box: BoxOption = None,
    polygon: PolygonOption = None,
    mask_polarity: PolarityOption = "auto",
    mask_kind: KindOption = None,
    mask_value: ValueOption = None,
    dilate: DilateOption = None,
    rim: RimOption = 0,
    resolution: Annotated[
        int | None,
        typer.Option(help="Side of the model's window, one of the bundle's; else chosen by the object's size."),
    ] = None,
    protect: ProtectOption = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Bundle folder; else the demo bundle.")] = None,
    backend: Annotated[
        str, typer.Option(help="auto, tensorrt, tensorrt_rtx, onnxruntime-cuda or onnxruntime; auto takes the fastest.")
    ] = "auto",
    trust_key: TrustKeyOption = None,
    allow_unsigned: Annotated[
        bool,
        typer.Option("--allow-unsigned", help="Load engines that no trusted key signed. They are executable code."),
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; else the bundle's default.")] = None,
    solver: Annotated[str | None, typer.Option(help="ddim, dpmpp_2m, ...; else the bundle's default.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="1 starts from noise, less keeps more of the photo; else the bundle's.")
    ] = None,
    eta: Annotated[float, typer.Option(help="Fresh noise per step, 0 to 1; with ddim only.")] = 0.0,
    sigmas: Annotated[
        str | None,
        typer.Option(help="Spread of the noise levels: normal, karras or exponential; else the checkpoint's."),
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What text guidance pushes away from.")] = "",
    guidance: Annotated[float | None, typer.Option(help="Scale of text guidance; 1 turns it off.")] = None,
    identity_guidance: Annotated[
        float | None, typer.Option(help="Scale of identity guidance, where the bundle has it; 1 turns it off.")
    ] = None,
    guidance_rescale: Annotated[
        float | None, typer.Option(help="0 to 1: pull guidance back to the prompt's own contrast.")
    ] = None,
    guidance_interval: Annotated[
        tuple[float, float] | None, typer.Option(help="Shares of the steps, START STOP, where guidance is on.")
    ] = None,
    identity_scale: Annotated[float, typer.Option(help="Weight of the reference's identity, 0 to 10.")] = 1.0,
    reinject: Annotated[
        bool | None, typer.Option(help="Put the photo's latent back outside the mask after every step.")
    ] = None,
    detail: Annotated[
        Literal["auto", "photo", "model"],
        typer.Option(
            help="Where the object's detail comes from: the photo, through the edit's local colours, or the model's pixels."
        ),
    ] = "auto",
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same bytes; else a new one.")] = None,
    count: Annotated[int, typer.Option(help="How many results, different in their noise.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="OUT.png, OUT.webp or OUT.tif; else a new PHOTO-edited.png here."),
    ] = None,
    metadata: Annotated[
        Literal["safe", "keep", "strip"],
        typer.Option(
            help="safe keeps resolution, captions and copyright of the photo, and drops position, dates and device; keep; strip."
        ),
    ] = "safe",
    provenance: Annotated[
        bool,
        typer.Option("--provenance/--no-provenance", help="Whether the file states bundle, prompt, seed and version."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let an output replace an input file.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also write a before/after picture here.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")] = False,
) -> None:
    """Change an object's colour, material or texture; the background stays bit for bit."""
    from alterbute import Editor, EditRequest
    from alterbute.bundle import default_bundle_path, open_bundle
    from alterbute.images import check_output_holds, load_optional_reference, load_photo, save
    from alterbute.request import check_resolution
    from alterbute.result import PartialEditError

    ignore_pillow_warnings()
    # Input is checked before an engine is opened: an error is reported at once, and no file is written.
    options: EditOptions = {
        "negative_prompt": negative_prompt,
        "seed": seed,
        "steps": steps,
        "solver": solver,
        "strength": strength,
        "eta": eta,
        "sigmas": sigmas,
        "guidance": guidance,
        "identity_guidance": identity_guidance,
        "guidance_rescale": guidance_rescale,
        "guidance_interval": guidance_interval,
        "identity_scale": identity_scale,
        "reinject": reinject,
        "detail": detail,
        "count": count,
    }
    EditRequest(prompt=prompt or "", **options)
    outputs, sheet = _name_outputs(photo, output, sheet, count)
    choice = MaskChoice(
        mask=mask,
        polarity=mask_polarity,
        kind=mask_kind,
        value=mask_value,
        box=box,
        polygons=tuple(polygon or ()),
        protect=protect,
        dilate=dilate,
        rim=rim,
    )
    inputs = (photo, reference, reference_mask, *choice.files)
    check_outputs([*outputs, *([sheet] if sheet else [])], inputs, overwrite=overwrite)
    opened = open_bundle(bundle or default_bundle_path(), trust_keys=read_trust_option("edit", trust_key))
    check_resolution(resolution, opened.manifest.window_sides)
    photo_source: Path | bytes
    if photo is None:
        photo_source, sample_mask = _read_sample(opened, choice)
        choice = replace(choice, mask=sample_mask)
        prompt = _read_sample_prompt(opened) if prompt is None else prompt
    else:
        photo_source = photo
    picture = load_photo(photo_source)
    for path in outputs:
        check_output_holds(picture, path)
    region = load_choice(choice, picture)
    if prompt is None:
        raise InputError(
            "there is no prompt", "what to change", 'give one, as --prompt "color: red"', "prompt", "prompt_missing"
        )
    identity = load_optional_reference(reference, reference_mask, mask_polarity) or (None, None)
    if region.report is not None and not quiet:
        echo(f"mask: {region.report.describe()}")
    editor = Editor.open(opened, backend=backend, allow_unsigned=allow_unsigned)
    subject = editor.prepare(picture, region, reference=identity[0], reference_mask=identity[1], resolution=resolution)
    images: Sequence[EditResult | None]
    fault: PartialEditError | None = None
    with progress_bar(is_enabled=not quiet) as progress:
        try:
            images = subject.edit_many([prompt], progress=progress, **options)
        except PartialEditError as error:
            images, fault = error.results, error

    lines = []
    results = [result for result in images if result is not None]
    warnings = [line for result in results for line in result.warnings]
    for result, path in zip(images, outputs, strict=True):
        if result is None:
            continue
        result.save(path, metadata=metadata, provenance=provenance)
        lines.append(_format_result(result, path, editor.choice.name if editor.choice else backend))
    if sheet:
        from alterbute.cli.editing.sheet import make_sheet

        captions = ["before", *(f"{prompt} (seed {result.seed}, image {result.index + 1})" for result in results)]
        drawn = make_sheet(picture, region.object, [result.photo for result in results], captions)
        save(drawn.image, sheet)
        warnings += drawn.warnings
        lines.append(f"{sheet}: before and after")
    for line in dict.fromkeys(warnings):
        echo(f"warning: {line}", is_error=True)
    for line in lines if not quiet else []:
        echo(line)
    if fault is not None:  # after the finished images were written
        raise fault


def _name_outputs(
    photo: Path | None, output: Path | None, sheet: Path | None, count: int
) -> tuple[list[Path], Path | None]:
    """One path per result, numbered when there are several, and the sheet's path; the sample always gets a sheet."""
    numbers = [f"-{number}" for number in range(1, count + 1)] if count > 1 else [""]
    own_sheet = ["-sheet"] if sheet is None and photo is None else []
    first = output or free_path(Path(f"{photo.stem[:200] if photo else 'sample'}-edited.png"), [*numbers, *own_sheet])
    if sheet is None and photo is None:
        sheet = first.with_name(f"{first.stem}-sheet.png")
    return [first.with_name(f"{first.stem}{number}{first.suffix}") for number in numbers], sheet


def _read_sample(bundle: Bundle, choice: MaskChoice) -> tuple[bytes, bytes]:
    if choice.is_given or not bundle.has(_SAMPLE_PHOTO):
        raise InputError(
            "there is no photo",
            "a PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP or GIF file",
            "give one: alterbute edit PHOTO --mask MASK",
            "photo",
            "photo_missing",
        )
    return bundle.read(_SAMPLE_PHOTO), bundle.read(_SAMPLE_MASK)


def _read_sample_prompt(bundle: Bundle) -> str | None:
    """The prompt that is stored beside the sample, or the first value of the bundle's vocabulary."""
    if bundle.has(_SAMPLE_PROMPT):
        return bundle.read(_SAMPLE_PROMPT).decode("utf-8", "replace").strip()
    from alterbute.encode.prompt import first_prompt

    return first_prompt(bundle.manifest.attributes)


def _format_result(result: EditResult, path: Path, backend: str) -> str:
    stages = ", ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in result.timings.items())
    source = "the photo's detail" if result.detail == "photo" else "the model's detail"
    total = f"{sum(result.timings.values()) * 1000:.0f} ms"
    return f"{path}: seed {result.seed}, {source}, {total} ({stages}) on {backend}"
