"""`alterbute compare`: whether an editor, this one or any other, has kept what is outside the mask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alterbute.cli.echo import echo
from alterbute.cli.editing.mask_options import MaskOption, PolarityOption, ignore_pillow_warnings

if TYPE_CHECKING:
    from alterbute.images import Cause, Comparison

_MEANINGS: Final[Mapping[Cause, str]] = {
    "none": "nothing outside the mask changed",
    "local": "all changes lie within 16 pixels of the mask",
    "elsewhere": "there are changes away from the mask",
    "shifted": "the picture was moved",
    "scaled": "the picture was resized and resampled",
    "colour": "the colours of the whole picture changed",
    "recompressed": "small differences nearly everywhere, as from JPEG or noise",
}


def compare(
    before: Annotated[Path, typer.Argument(help="The photo: PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP or GIF.")],
    after: Annotated[Path, typer.Argument(help="The editor's result.")],
    mask: MaskOption = None,
    mask_polarity: PolarityOption = "auto",
    tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Largest difference of a channel outside the mask that is accepted.")
    ] = 0,
    is_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all figures.")] = False,
) -> None:
    """Check that an editor kept what is outside the mask; exit code 1 if it did not, 2 for an unusable input."""
    from alterbute.images import compare_photos, load_photo
    from alterbute.images.masks.read_mask import read_mask

    ignore_pillow_warnings()
    photo = load_photo(before)
    comparison = compare_photos(photo, load_photo(after), read_mask(mask, photo, polarity=mask_polarity).levels)
    is_kept = (
        comparison.largest_outside is not None
        and comparison.largest_outside <= tolerance
        and comparison.is_same_profile
    )
    if is_json:
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(comparison), "tolerance": tolerance, "is_kept": is_kept}))
    else:
        for line in describe_comparison(comparison, tolerance):
            echo(line)
    if not is_kept:
        raise typer.Exit(1)


def describe_comparison(comparison: Comparison, tolerance: int) -> Iterator[str]:
    """Yield the lines of the report."""
    width, height = comparison.size
    if not comparison.is_same_size:
        after_width, after_height = comparison.after_size
        yield f"size       differs: {width}x{height} before, {after_width}x{after_height} after"
        yield "result     not kept: pictures of two sizes have no common pixels to compare"
        return
    yield f"size       {width}x{height} pixels, {comparison.mask_share:.2%} in the mask"
    yield (
        f"outside    {comparison.changed_outside} of {comparison.outside_pixels} pixels changed, "
        f"at most {comparison.largest_outside} levels, {comparison.mean_outside:.3g} on average"
    )
    if comparison.changed_alpha_outside:
        yield f"           alpha changed in {comparison.changed_alpha_outside} of them"
    if box := comparison.bounds_outside:
        yield f"           from x {box.left}, y {box.top} to x {box.right - 1}, y {box.bottom - 1}"
    yield f"inside     {comparison.changed_inside} pixels changed, {comparison.mean_inside:.3g} levels on average"
    if comparison.shift is not None:
        right, down = comparison.shift
        yield f"motion     {right:+g} pixels to the right, {down:+g} down; scale {comparison.scale:.4f}"
    if drift := comparison.colour_drift:
        red, green, blue = (
            f"{mean:+.2f} (x{gain:.3f} {offset:+.2f})"
            for mean, gain, offset in zip(drift.mean, drift.gain, drift.offset, strict=True)
        )
        yield f"colour     red {red}, green {green}, blue {blue}; explains {drift.explained:.0%} of the differences"
    if comparison.cause is not None:
        yield f"cause      {comparison.cause}: {_MEANINGS[comparison.cause]}"
    if not comparison.is_same_profile:
        yield "profile    differs: viewers show the same levels in other colours"
    if (comparison.largest_outside or 0) > tolerance:
        yield f"result     not kept: a pixel outside the mask changed by more than {tolerance} levels"
    elif not comparison.is_same_profile:
        yield "result     not kept: the picture after has another colour profile"
    else:
        yield f"result     kept: no pixel outside the mask changed by more than {tolerance} levels"
