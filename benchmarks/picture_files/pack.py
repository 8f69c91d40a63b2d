"""Files and expectations in one zip, which can be checked without any of the encoders."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.picture_files.check import largest_difference
from benchmarks.picture_files.expectations import Case, Expected, Levels

TELLING: Final = [
    "jpeg_orientation_6.jpg",
    "jpeg_cjpeg_440.jpg",
    "jpeg_adobe_rgb_exif.jpg",
    "jpeg_grey_icc_gray.jpg",
    "jpeg_cmyk_pillow.jpg",
    "jpeg_ycck.jpg",
    "jpeg_rgb.jpg",
    "jpeg_arithmetic.jpg",
    "jpeg_truncated.jpg",
    "jpeg_mpo.jpg",
    "png_grey_2_vips.png",
    "png_palette_2.png",
    "png_gamma_chroma_p3.png",
    "png_cicp_p3.png",
    "png_icc_grey.png",
    "png_trns_rgb.png",
    "webp_lossy_cwebp.webp",
    "webp_exact_alpha.webp",
    "webp_icc_cwebp.webp",
    "webp_animated_pillow.webp",
    "avif_444_avifenc.avif",
    "avif_10_bit_avifenc.avif",
    "avif_irot_1.avif",
    "avif_nclx_p3.avif",
    "avif_nclx_pq.avif",
    "avif_pillow_animated.avif",
    "heic_icc_heif_enc.heic",
    "heic_turned_6.heic",
    "heic_10_bit_heif_enc.heic",
    "tiff_rgb_16_deflate_vips.tif",
    "tiff_grey_16_big_endian.tif",
    "tiff_white_zero.tif",
    "raw_dng_like.dng",
    "bmp_32_v3_by_hand.bmp",
    "bmp_rle_8.bmp",
    "gif_transparent.gif",
    "mask_grey_16.png",
    "mask_grey_16_big_endian.tif",
    "other_photoshop.psd",
    "other_jpeg_xl.jxl",
    "other_jpeg_2000.jp2",
    "other_drawing.svg",
    "other_page.pdf",
    "other_film.mp4",
    "other_canon.cr3",
    "other_error.png",
    "other_empty.png",
]
"""Names of the most telling files, one of each kind, of the small pack that the tests read."""

_SETTINGS: Final = ("tolerance", "colour_tolerance", "word")
_PICTURES: Final = ("pixels", "alpha", "srgb", "mask")
# A fixed date, so that the same files give the same zip.
_DATE: Final = (2026, 1, 1, 0, 0, 0)


def pack(cases: Iterable[Case], path: Path, slack: float = 0) -> None:
    """Write files and expectations to a zip; equal pictures are stored once.

    Args:
        cases: The files.
        path: The zip.
        slack: Levels by which the picture of a lossy file may differ from one that is stored already, to be stored as that one, with
            a tolerance that is wider by as much. It makes the zip smaller.
    """
    pictures: dict[str, Levels] = {}
    entries: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    # Exact pictures first, so that lossy ones find them.
    for case in sorted(cases, key=lambda case: case.expected.tolerance > 0):
        entry: dict[str, Any] = {"name": case.name, "encoder": case.encoder, "kind": case.kind}
        entry |= {name: getattr(case.expected, name) for name in _SETTINGS}
        for field in _PICTURES:
            picture = getattr(case.expected, field)
            if picture is None:
                continue
            near, distance = _find_near(pictures, picture, slack if case.expected.tolerance else 0)
            entry["tolerance"] = max(entry["tolerance"], case.expected.tolerance + distance)
            entry[field] = near or _name(picture)
            pictures.setdefault(entry[field], np.ascontiguousarray(picture))
        entries.append(entry)
        files[f"files/{case.name}"] = case.data
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        parts = {"cases.json": json.dumps(entries, indent=0).encode(), **files}
        for digest, picture in pictures.items():
            parts[f"pictures/{digest}.npy"] = _to_npy(picture)
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_LZMA)


def unpack(path: Path) -> Iterator[Case]:
    """Read the cases of a zip that `pack` wrote."""
    with zipfile.ZipFile(path) as archive:
        pictures = {
            name[len("pictures/") : -len(".npy")]: _from_npy(archive.read(name))
            for name in archive.namelist()
            if name.startswith("pictures/")
        }
        for entry in json.loads(archive.read("cases.json")):
            fields: dict[str, Any] = {field: pictures[entry[field]] for field in _PICTURES if field in entry}
            fields |= {name: entry[name] for name in _SETTINGS}
            yield Case(
                name=entry["name"],
                encoder=entry["encoder"],
                kind=entry["kind"],
                data=archive.read(f"files/{entry['name']}"),
                expected=Expected(**fields),
            )


def _name(picture: Levels) -> str:
    """A name that only equal pictures share."""
    contiguous = np.ascontiguousarray(picture)
    return hashlib.sha256(repr((contiguous.dtype, contiguous.shape)).encode() + contiguous.tobytes()).hexdigest()[:12]


def _find_near(pictures: dict[str, Levels], picture: Levels, slack: float) -> tuple[str, float]:
    """Name of the nearest stored picture within some levels of 8 bits, and its distance; an empty name is none."""
    best = ("", slack)
    for name, other in pictures.items():
        if slack and (other.dtype, other.shape) == (picture.dtype, picture.shape) and other.dtype != bool:
            distance = largest_difference(other, picture)
            best = (name, distance) if distance <= best[1] else best
    return best if best[0] else ("", 0.0)


def _to_npy(picture: Levels) -> bytes:
    """Differences along the rows, which take half the bytes of the levels once they are compressed."""
    buffer = io.BytesIO()
    levels = picture.astype(np.uint8) if picture.dtype == bool else picture
    np.save(buffer, np.diff(levels, axis=1, prepend=levels.dtype.type(0)), allow_pickle=False)
    return buffer.getvalue()


def _from_npy(data: bytes) -> Levels:
    differences = np.load(io.BytesIO(data), allow_pickle=False)
    return np.cumsum(differences, axis=1, dtype=differences.dtype)
