"""Write `src/base/unicode_tables.inc`: what each character is to the tokenizers library and to Python, found by asking them.

The normalisers and regular expressions of a `tokenizer.json` follow the Unicode versions that the tokenizers library was built
with: one for NFC, another for lower case, a third for `\\p{L}`. Asking the library, character by character, gives the C++ port
the very same answers. Run it again when the library's answers change (tests/cpp compares token ids):

    python runtime/cpp/scripts/make_unicode_tables.py
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Final

from tokenizers import Regex, normalizers, pre_tokenizers

OUT: Final = Path(__file__).parents[1] / "src" / "base" / "unicode_tables.inc"
POINTS: Final = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
# U+0345 has the highest combining class of all, U+0334 the lowest.
HIGHEST: Final = "\u0345"
LOWEST: Final = "\u0334"
HANGUL: Final = range(0xAC00, 0xD7A4)


def main() -> None:
    nfc, nfd, lower = normalizers.NFC(), normalizers.NFD(), normalizers.Lowercase()
    decomposed = {point: nfd.normalize_str(chr(point)) for point in POINTS if point not in HANGUL}
    lowered = {point: lower.normalize_str(chr(point)) for point in POINTS}
    parts = [
        f"// Made by scripts/make_unicode_tables.py from tokenizers {version('tokenizers')} and Python {python_version()}; do not edit.\n",
        ranges("kLetters", matching(r"\p{L}")),
        ranges("kNumbers", matching(r"\p{N}")),
        ranges("kSpaces", matching(r"\s")),
        ranges("kPythonSpaces", [point for point in POINTS if chr(point).isspace()]),
        ranges("kPythonWord", [point for point in POINTS if re.match(r"\w", chr(point))]),
        ranges("kPythonCased", (cased := [point for point in POINTS if ends_word(f"1{chr(point)}")])),
        ranges("kPythonCaseIgnorable", sorted({point for point in POINTS if ends_word(f"a{chr(point)}")} - set(cased))),
        ranges("kUnprintable", [point for point in POINTS if not chr(point).isprintable()]),
        rows("LowerRun", "kLower", lower_runs({p: ord(t) for p, t in lowered.items() if len(t) == 1 and ord(t) != p})),
        mappings("kLowerLong", {point: text for point, text in lowered.items() if len(text) > 1}),
        mappings("kDecomposed", {point: text for point, text in decomposed.items() if text != chr(point)}),
        rows("Pair", "kComposed", compositions(nfc.normalize_str)),
        rows("Combining", "kCombining", combining(nfd.normalize_str)),
    ]
    OUT.write_text("\n".join(parts), encoding="utf-8", newline="\n")


def ends_word(text: str) -> bool:
    """Whether Python takes a sigma after this text for a final one: a cased character is before it, ignorable ones aside."""
    return (text + "\u03a3").lower().endswith("\u03c2")


def matching(pattern: str) -> list[int]:
    """Code points that the library's regular expressions count in."""
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found: set[int] = set()
    for start in range(0, 0x110000, 0x1000):
        text = "".join(chr(point) for point in range(start, start + 0x1000) if not 0xD800 <= point < 0xE000)
        found.update(ord(piece) for piece, _ in split.pre_tokenize_str(text))
    return sorted(found)


def lower_runs(lower: dict[int, int]) -> list[tuple[int, ...]]:
    """(first, last, stride, distance): every `stride`-th point from first to last moves by distance."""
    runs: list[list[int]] = []
    for point, target in sorted(lower.items()):
        distance = target - point
        last = runs[-1] if runs else None
        if last and last[3] == distance and point - last[1] in (1, 2) and last[2] in (0, point - last[1]):
            last[1], last[2] = point, point - last[1]
        else:
            runs.append([point, point, 0, distance])
    return [(first, end, stride or 1, distance) for first, end, stride, distance in runs]


def compositions(normalize: Callable[[str], str]) -> list[tuple[int, ...]]:
    """(first, second, whole) of every pair that the library joins, Hangul aside."""
    found = []
    for point in POINTS:
        pair = unicodedata.decomposition(chr(point)).split()
        if len(pair) == 2 and not pair[0].startswith("<"):
            first, second = (int(part, 16) for part in pair)
            if normalize(chr(first) + chr(second)) == chr(point):
                found.append((first, second, point))
    return sorted(found)


def combining(normalize: Callable[[str], str]) -> list[tuple[int, ...]]:
    """(first, last, class): a mark counts if the library moves it past another one."""
    runs: list[list[int]] = []
    for point in POINTS:
        level = unicodedata.combining(chr(point))
        if not level:
            continue
        mark = chr(point)
        moved = (
            normalize(f"x{mark}{LOWEST}") != f"x{mark}{LOWEST}"
            if level > 1
            else normalize(f"x{HIGHEST}{mark}") != f"x{HIGHEST}{mark}"
        )
        if not moved:
            continue
        if runs and runs[-1][1] == point - 1 and runs[-1][2] == level:
            runs[-1][1] = point
        else:
            runs.append([point, point, level])
    return [tuple(run) for run in runs]


def ranges(name: str, points: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for point in points:
        if runs and runs[-1][1] == point - 1:
            runs[-1][1] = point
        else:
            runs.append([point, point])
    return rows("Range", name, [tuple(run) for run in runs])


def mappings(name: str, texts: dict[int, str]) -> str:
    return rows("Mapping", name, [(point, *map(ord, text)) for point, text in sorted(texts.items())])


def rows(kind: str, name: str, items: Iterable[tuple[int, ...]]) -> str:
    lines, line = [], ""
    for item in items:
        cell = "{" + ",".join(map(str, item)) + "},"
        if len(line) + len(cell) > 140:
            lines.append(line)
            line = ""
        line += cell
    return f"constexpr {kind} {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


if __name__ == "__main__":
    main()
