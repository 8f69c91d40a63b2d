"""Loading with Pillow's own loop, whatever the host program set `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` to: a cut file is an error."""

from __future__ import annotations

import io
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


class WholeFile(io.BytesIO):
    """A file in memory whose end is an error while `is_loading`: decoders that ask for more than there is read a file that is cut."""

    is_loading = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            OSError: there are none left, and pixels are loaded.
        """
        piece = super().read(size)
        if self.is_loading and not piece and size != 0:
            raise OSError("image file is truncated")
        return piece


def load_strictly(image: ImageFile) -> None:
    """Load the pixels of a picture, which is opened and not yet loaded.

    Raises:
        Exception: of any type: pixels are missing or damaged.
    """
    from PIL import ImageFile as module

    file = getattr(image, "fp", None)
    if isinstance(file, WholeFile):
        file.is_loading = True
    try:
        # libtiff, libwebp and libavif have loops of their own, which do not read the setting.
        has_own_loop = image.format in ("WEBP", "AVIF") or getattr(image, "use_load_libtiff", False)
        if not module.LOAD_TRUNCATED_IMAGES or has_own_loop:
            image.load()
            return
        # Another thread of the host may rely on its setting, so that it is not changed: the loop is run with its own copy of it.
        names: dict[str, Any] = {**vars(module), "LOAD_TRUNCATED_IMAGES": False}
        load: Any = FunctionType(module.ImageFile.load.__code__, names)
        load(image)
    finally:
        if isinstance(file, WholeFile):
            file.is_loading = False
