"""The bundle: a folder with graphs, weights, tokenizer and `manifest.json`, which is all that the runtime needs.

The exporter fills the dataclasses and calls `write_manifest`; the runtime calls `open_bundle` and then `Bundle.read`, which
returns only bytes whose SHA-256 equals that in the manifest.
"""

from __future__ import annotations

from alterbute.bundle.engines import Engine, Precision, Product, ShapeRange, VariantPrecision
from alterbute.bundle.files import (
    Bundle,
    default_bundle_path,
    describe_files,
    open_bundle,
    read_manifest,
    verify_bundle,
)
from alterbute.bundle.manifest import (
    GRAPHS,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    WEIGHTS_FILE,
    Defaults,
    DetailRules,
    FileEntry,
    Graph,
    GridRules,
    Guidance,
    Identity,
    LaunchShape,
    Manifest,
    MaskRules,
    Merged,
    Parity,
    SolverTable,
    TensorSpec,
    Text,
    TypeAudit,
    Variant,
    are_window_sides,
)
from alterbute.bundle.manifest_file import parse_manifest, write_manifest
from alterbute.bundle.signature import SIGNATURE_FILE, TrustKey, read_trust_keys
from alterbute.bundle.strict_json import Json

__all__ = [
    "GRAPHS",
    "MANIFEST_FILE",
    "SCHEMA_VERSION",
    "SIGNATURE_FILE",
    "WEIGHTS_FILE",
    "Bundle",
    "Defaults",
    "DetailRules",
    "Engine",
    "FileEntry",
    "Graph",
    "GridRules",
    "Guidance",
    "Identity",
    "Json",
    "LaunchShape",
    "Manifest",
    "MaskRules",
    "Merged",
    "Parity",
    "Precision",
    "Product",
    "ShapeRange",
    "SolverTable",
    "TensorSpec",
    "Text",
    "TrustKey",
    "TypeAudit",
    "Variant",
    "VariantPrecision",
    "are_window_sides",
    "default_bundle_path",
    "describe_files",
    "open_bundle",
    "parse_manifest",
    "read_manifest",
    "read_trust_keys",
    "verify_bundle",
    "write_manifest",
]
