"""`alterbute mask`: what an edit would take as the object, as a mask picture and a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def mask(
    photo: Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP or GIF.")],
    mask: MaskOption = None,
    box: BoxOption = None,
    polygon: PolygonOption = None,
    mask_polarity: PolarityOption = "auto",
    mask_kind: KindOption = None,
    mask_value: ValueOption = None,
    protect: ProtectOption = None,
    dilate: DilateOption = None,
    rim: RimOption = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the mask here: white = the pixels that may change.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the photo with the mask's outline here.")] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Bundle folder; else the demo bundle.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an input file.")] = False,
) -> None:
    """Show what an edit would take as the object, and which pixels it may change; runs no model."""
    import numpy as np
    from PIL import Image

    from alterbute.bundle import default_bundle_path, open_bundle
    from alterbute.cli.editing.output import check_outputs
    from alterbute.cli.editing.sheet import make_sheet
    from alterbute.images import Photo, load_photo, photo_box, save, split_region

    ignore_pillow_warnings()
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
    check_outputs([path for path in (output, sheet) if path], [photo, *choice.files], overwrite=overwrite)
    picture = load_photo(photo)
    region = load_choice(choice, picture)
    manifest = open_bundle(bundle or default_bundle_path()).manifest
    assert region.report is not None
    echo(f"mask: {region.report.describe()}")
    for part in split_region(region, manifest.mask.margin, manifest.window_sides):
        window = photo_box(part.edit, manifest.mask.margin, rim)
        echo(
            f"window: {window.width}x{window.height} pixels of the photo at ({window.left}, {window.top}), resized to the model's"
        )
    for line in region.report.warnings:
        echo(f"warning: {line}", is_error=True)
    if output:
        save(Image.fromarray(region.edit), output)
        echo(f"{output}: the mask")
    if sheet:
        shown = picture.to_8_bits()
        opacity = region.edit if shown.alpha is None else np.minimum(region.edit, shown.alpha)
        cut_out = Photo(pixels=shown.pixels, alpha=opacity, icc=shown.icc)
        drawn = make_sheet(shown, region.edit, [cut_out], [region.report.describe(), "what may change"])
        save(drawn.image, sheet)
        echo(f"{sheet}: the photo with the mask's outline, and what may change")
