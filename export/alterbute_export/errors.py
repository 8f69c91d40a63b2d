"""What can go wrong at export; each says what was seen, what was expected, and what to do."""

from __future__ import annotations

from alterbute.errors import AlterbuteError


class CheckpointError(AlterbuteError):
    """The checkpoint folder lacks something, or one of its files does not fit the others."""


class OutputError(AlterbuteError):
    """The bundle cannot be written where the user asked."""


class ResourceError(AlterbuteError):
    """This machine has too little memory or disk for what was asked, by the estimate that is made before anything starts."""


class ParityError(AlterbuteError):
    """An exported graph does not compute what the torch model computes."""


class AttentionError(AlterbuteError):
    """An attention in an exported graph has a form that cannot be fused for ONNX Runtime."""


class PrecisionError(AlterbuteError):
    """A graph cannot be given the precision that was asked for, or loses too much by it."""


class CalibrationError(AlterbuteError):
    """The edits that int8 scales are taken from cannot be read, or do not exercise the graphs."""


class BuildError(AlterbuteError):
    """An engine cannot be built: the recipe, the builder library or the graph is at fault, and says which."""
