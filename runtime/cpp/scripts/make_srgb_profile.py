"""Write `src/images/srgb_profile.inc`: the bytes of the sRGB profile that the Python runtime gives to littlecms.

The same profile gives the same conversions. Run it again when Python's changes (tests/cpp compares the bytes):

    python runtime/cpp/scripts/make_srgb_profile.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alterbute.images.color.icc_profile import srgb_profile

OUT: Final = Path(__file__).parents[1] / "src" / "images" / "srgb_profile.inc"
BYTES_PER_LINE: Final = 20


def main() -> None:
    OUT.write_text(srgb_source())


def srgb_source() -> str:
    """The text of the file."""
    profile = srgb_profile()
    lines = [profile[start : start + BYTES_PER_LINE] for start in range(0, len(profile), BYTES_PER_LINE)]
    body = "".join(f"    {', '.join(f'0x{byte:02x}' for byte in line)},\n" for line in lines)
    return f"// Made by scripts/make_srgb_profile.py; do not edit.\n\nconstexpr unsigned char kSrgbProfile[] = {{\n{body}}};\n"


if __name__ == "__main__":
    main()
