"""Whether the scans of a JPEG hold all coefficients of all components (ITU-T T.81, annex G.1.1)."""

from __future__ import annotations

import numpy as np

from alterbute.images.files.jpeg.jpeg_markers import PROGRESSIVE, JpegFile

_UNSEEN = -1


def check_scans(file: JpegFile) -> None:
    """Check that every coefficient is there to its last bit, and that none comes twice.

    Raises:
        OSError: scans are missing or out of order.
    """
    if file.frame_marker not in PROGRESSIVE:
        listed = [place for scan in file.scans for place in scan.components]
        if len(set(listed)) < len(listed):
            raise OSError("a component comes twice")
        _refuse_missing(len(file.components) - len(listed))
        return
    # The bits of each coefficient that are still left out; T.81 calls them Al.
    left = np.full((len(file.components), 64), _UNSEEN)
    for scan in file.scans:
        band = left[list(scan.components), scan.first : scan.last + 1]
        is_band = (
            scan.last == 0 if scan.first == 0 else scan.first <= scan.last <= 63 and len(scan.components) == 1
        ) and scan.low <= 13
        is_next = scan.low == scan.high - 1 if scan.high else True
        if not is_band or not is_next or (band != (scan.high or _UNSEEN)).any():
            raise OSError("its scans are out of order, or one is missing")
        if scan.first and left[scan.components[0], 0] == _UNSEEN:
            raise OSError("its scans are out of order, or one is missing")
        left[list(scan.components), scan.first : scan.last + 1] = scan.low
    _refuse_missing(int((left != 0).any(axis=1).sum()))


def _refuse_missing(count: int) -> None:
    if count:
        raise OSError(f"its last scans are missing: {count} of its components are not complete")
