"""Errors of the exporter; each message names what was seen, what was expected, and the fix."""

from __future__ import annotations

from alterbute.errors import AlterbuteError


class CheckpointError(AlterbuteError):
    """A file or key of the checkpoint folder is missing, or its parts do not fit each other."""


class OutputError(AlterbuteError):
    """The output folder cannot be written, or holds files that are not a bundle."""


class ResourceError(AlterbuteError):
    """The export's estimated need exceeds the free memory or disk of this machine; checked before any model is loaded."""


class ParityError(AlterbuteError):
    """The output of an exported graph differs from that of its torch module by more than the limit."""


class AttentionError(AlterbuteError):
    """An attention of an exported graph has a form that cannot be fused for ONNX Runtime."""


class PrecisionError(AlterbuteError):
    """A graph cannot be converted to the requested precision, or its error after conversion is above the limit."""


class CalibrationError(AlterbuteError):
    """The edits for int8 calibration cannot be read, or do not run every graph that is quantized."""


class BuildError(AlterbuteError):
    """An engine cannot be built; the message names the recipe, the builder library or the graph as the cause."""
