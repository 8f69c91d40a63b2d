"""What can go wrong at export; each says what was seen, what was expected, and what to do."""

from __future__ import annotations

from alterbute.errors import AlterbuteError


class CheckpointError(AlterbuteError):
    """The checkpoint folder lacks something, or one of its files does not fit the others."""


class OutputError(AlterbuteError):
    """The bundle cannot be written where the user asked."""


class ParityError(AlterbuteError):
    """An exported graph does not compute what the torch model computes."""
