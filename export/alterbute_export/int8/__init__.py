"""Int8 bundles for ONNX Runtime on a CPU: static quantization, with scales that are calibrated on example edits."""

from __future__ import annotations

from alterbute_export.int8.calibration_edits import CalibrationEdit, default_edits, read_edits
from alterbute_export.int8.quantize_bundle import quantize_bundle, write_int8

__all__ = ["CalibrationEdit", "default_edits", "quantize_bundle", "read_edits", "write_int8"]
