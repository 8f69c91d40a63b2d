"""The options that say where the object is, shared by the verbs that take a photo."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alterbute.errors import InputError

if TYPE_CHECKING:
    from alterbute.images import MaskKind, Photo, PictureSource, Region
    from alterbute.images.masks.marking import Polarity

MaskOption = Annotated[
    str | None,
    typer.Option(
        "--mask",
        "-m",
        help="The object: a picture (white, painted on a transparent layer, erased, or a label), or FILE.json#ID of COCO or Labelme.",
    ),
]
PolarityOption = Annotated[
    Literal["auto", "alpha", "opaque", "white", "black"],
    typer.Option(help="What masks mark: transparent, opaque, white or black pixels; auto looks at the mask."),
]
KindOption = Annotated[
    Literal["precise", "box", "soft"] | None,
    typer.Option(
        help="precise, the default: the object; box: the box around it (edits of shape); soft: grey levels as weights."
    ),
]
ValueOption = Annotated[
    str | None, typer.Option(help="The object's label in a label image: a level, a palette index, or #rrggbb.")
]
BoxOption = Annotated[str | None, typer.Option(help="X0,Y0,X1,Y1 in place of a mask; implies --mask-kind box.")]
PolygonOption = Annotated[
    list[str] | None, typer.Option(help='"X,Y X,Y X,Y ..." in place of a mask; several are united.')
]
ProtectOption = Annotated[Path | None, typer.Option(help="Mask of what stands in front of the object: never painted.")]
DilateOption = Annotated[
    int | None,
    typer.Option(help="Grow the model's mask by a K x K square of window pixels, K odd; else the bundle's."),
]
RimOption = Annotated[int, typer.Option(help="Photo pixels around the mask that may change, too.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChoice:
    """The values of the options that say where the object is; see their help."""

    mask: str | bytes | None
    polarity: Polarity
    kind: MaskKind | None
    value: str | None
    box: str | None
    polygons: tuple[str, ...]
    protect: Path | None
    dilate: int | None
    rim: int

    @property
    def is_given(self) -> bool:
        """Whether there is a mask of any form."""
        return self.mask is not None or self.box is not None or bool(self.polygons)

    @property
    def files(self) -> tuple[str | Path, ...]:
        """The files that are read: the mask, without the key of an annotation, and what is protected."""
        mask = (self.mask.partition("#")[0],) if isinstance(self.mask, str) else ()
        return (*mask, *((self.protect,) if self.protect else ()))


def ignore_pillow_warnings() -> None:
    """Silence Pillow's warnings of unusual metadata, which it gives for pictures that it reads correctly."""
    warnings.filterwarnings("ignore", module="PIL")


def load_choice(choice: MaskChoice, photo: Photo) -> Region:
    """Load the region of a photo that the options describe.

    Args:
        choice: The options.
        photo: The photo.

    Raises:
        InputError: more than one form of mask is given, or the one that is given cannot be used.
    """
    from alterbute.images import load_region
    from alterbute.images.masks.shapes import box_mask, parse_box, parse_polygon, polygon_mask

    forms = [
        name
        for name, value in (("--mask", choice.mask), ("--box", choice.box), ("--polygon", choice.polygons))
        if value
    ]
    if len(forms) > 1:
        raise InputError(
            f"there are {' and '.join(forms)}",
            "one of them: each says where the object is",
            "leave the others out",
            "mask",
            "mask_twice",
        )
    size = (photo.width, photo.height)
    mask: PictureSource | None = choice.mask
    kind = choice.kind or "precise"
    if choice.box is not None:
        mask, kind = box_mask(size, parse_box(choice.box)), choice.kind or "box"
    elif choice.polygons:
        mask = polygon_mask(size, [parse_polygon(text) for text in choice.polygons])
    return load_region(
        mask,
        photo,
        polarity=choice.polarity,
        kind=kind,
        value=choice.value,
        protect=choice.protect,
        dilate=choice.dilate,
        rim=choice.rim,
    )
