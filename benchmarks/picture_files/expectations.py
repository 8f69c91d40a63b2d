"""What a picture file of the campaign is, and what is expected of a reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

Levels: TypeAlias = NDArray[Any]
"""HW3 or HW, uint8 or uint16."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """What a user may expect of a file: it is read as this picture, refused by a word, or either where both are given.

    Args:
        pixels: HW3 levels as stored, upright, of the file's depth; None where a reader may convert them.
        alpha: HW of the depth of the pixels; None = opaque.
        srgb: HW3 uint8: the picture in sRGB; None where the levels themselves are sRGB.
        tolerance: Largest difference of a pixel or of alpha, in levels of 8 bits; 0 = bit for bit.
        colour_tolerance: The same in sRGB, where colour management rounds several times.
        word: A regular expression, in any case of letters, that a refusal must hold; empty = it must not be refused.
        mask: HW bool, the object, of a file that is a mask; None = it is a photo.
    """

    pixels: Levels | None = None
    alpha: Levels | None = None
    srgb: Levels | None = None
    tolerance: float = 0
    colour_tolerance: float = 4
    word: str = ""
    mask: Levels | None = None

    @property
    def may_be_read(self) -> bool:
        """Whether there is a picture that the file may be read as."""
        return self.pixels is not None or self.srgb is not None or self.mask is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A file of the campaign.

    Args:
        name: Its file name.
        encoder: The program or library that wrote it.
        kind: What it is, in words.
        data: Its bytes.
        expected: What is expected of a reader.
    """

    name: str
    encoder: str
    kind: str
    data: bytes
    expected: Expected


Expect: TypeAlias = "Expected | Callable[[bytes], Expected]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileRecipe:
    """How a file is made; `make` fails where its encoder is missing.

    Args:
        name: The file's name.
        encoder: The program or library that writes it.
        kind: What it is, in words.
        make: Writes the file.
        expect: What is expected, or how to find it out from the file's bytes.
    """

    name: str
    encoder: str
    kind: str
    make: Callable[[], bytes]
    expect: Expect

    def cook(self) -> Case:
        """Make the file and its expectation."""
        data = self.make()
        expected = self.expect(data) if callable(self.expect) else self.expect
        return Case(
            name=self.name,
            encoder=self.encoder,
            kind=self.kind,
            data=data,
            expected=expected,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileFamily:
    """Files of one format, whose names and kinds start with it.

    Args:
        title: The format.
        ending: The end of their names.
        usual: What is expected of them, unless another expectation is given.
    """

    title: str
    ending: str
    usual: Expect = field(default_factory=Expected)

    def __call__(
        self, name: str, encoder: str, kind: str, make: Callable[[], bytes], expect: Expect | None = None
    ) -> FileRecipe:
        """A file of the campaign.

        Args:
            name: Its name, without format and ending.
            encoder: What writes it.
            kind: What it is, after the format.
            make: Writes it.
            expect: What is expected; None is the usual.
        """
        return FileRecipe(
            name=f"{self.title.lower()}_{name}.{self.ending}",
            encoder=encoder,
            kind=f"{self.title} {kind}",
            make=make,
            expect=self.usual if expect is None else expect,
        )


Outcome: TypeAlias = Literal[
    "right", "refused by name", "not read", "badly refused", "silently other", "shallower", "crash"
]
"""`right` and `refused by name` are as expected. `not read`: refused by some message, though it should be read. `shallower`:
read with fewer bits than the file's. `badly refused`: the message does not hold the word, or is not one line."""
