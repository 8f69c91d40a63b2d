"""The result of an edit, and the error of a call of which only some images were finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alterbute.errors import EngineError
from alterbute.images import Photo, save_photo
from alterbute.images.metadata import Metadata, MetadataRule, Provenance, add_provenance, select_metadata
from alterbute.images.photo import Bytes, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditResult:
    """One edited photo.

    Args:
        photo: The edited photo at its own size, with the transparency, colour tags and metadata of the photo; every pixel where
            `alpha` is 0 is the photo's, bit for bit.
        alpha: [H,W] uint8, read-only: blend weight of the edit at each pixel; 0 = the photo's pixel.
        seed: The seed that was used; the same seed and `index` give the same bytes again.
        index: Index of the image within its request, 0-based.
        detail: Where the object's detail comes from: `photo` or `model`; see `alterbute.detail`.
        detail_threshold: T in [0,1] with which the model's pixels were added to the photo's; -1 for `model`.
        provenance: Bundle, prompt and settings that made it.
        timings: Seconds by stage: `window`, `encode`, `steps`, `decode`, `paste`. `steps` is the whole time in the lane, with
            launches shared with other images; a stage whose outputs were cached takes almost no time.
        warnings: Messages for the user, such as words outside the bundle's vocabulary.
    """

    photo: Photo
    alpha: Bytes
    seed: int
    index: int
    detail: str
    detail_threshold: float
    provenance: Provenance
    timings: Mapping[str, float]
    warnings: tuple[str, ...]

    @property
    def image(self) -> Image:
        """A Pillow copy, RGB or RGBA, with the colour profile attached.

        Raises:
            InputError: the photo has 16 bits, which Pillow's RGB pictures cannot hold; use `pixels` or `save`.
        """
        return self.photo.to_pil()

    @property
    def pixels(self) -> Pixels:
        """[H,W,3] RGB, or [H,W,4] with transparency; uint8 in [0,255], or uint16 in [0,65535] for a photo of 16 bits."""
        return self.photo.to_array()

    def make_metadata(self, rule: MetadataRule = "safe", *, provenance: bool = True) -> Metadata:
        """What a file of the photo is to hold besides pixels and colour.

        Args:
            rule: What stays of the photo's metadata: `safe` keeps resolution, captions, authors and copyright, and drops position,
                dates and device; `keep` keeps all that is still true; `strip` keeps nothing.
            provenance: Whether the file states bundle, prompt, seed and version.
        """
        selected = select_metadata(self.photo.metadata, rule)
        return add_provenance(selected, self.provenance) if provenance else selected

    def save(self, path: str | Path, *, metadata: MetadataRule = "safe", provenance: bool = True) -> Path:
        """Write the photo to a lossless file: .png, .tif, or .webp for 8 bits. It holds the whole picture, or is not written.

        Args:
            path: The file.
            metadata: What stays of the photo's metadata; see `make_metadata`.
            provenance: Whether the file states bundle, prompt, seed and version.

        Raises:
            InputError: another format, a photo of 16 bits as WebP, or a path that cannot be written.
        """
        return save_photo(self.photo, path, self.make_metadata(metadata, provenance=provenance))


class PartialEditError(EngineError):
    """Some images of a call failed while others were finished; the error holds the finished ones.

    Args:
        results: One entry per image, in the order of the call; None for an image that failed.
        faults: One entry per image; None for an image that was finished.
    """

    def __init__(self, results: Sequence[EditResult | None], faults: Sequence[EngineError | None]) -> None:
        failed = [fault for fault in faults if fault is not None]
        super().__init__(
            f"{len(failed)} of {len(faults)} images failed, the first one because {failed[0].seen}",
            failed[0].expected,
            f"keep the finished images; for the others, {failed[0].fix}",
        )
        self.results, self.faults = tuple(results), tuple(faults)
