"""The bundle: a folder with graphs, weights, tokenizer and `manifest.json`; all that a server needs.

The exporter fills the dataclasses and calls `write_manifest`; the runtime calls `open_bundle` and then
`Bundle.read`, which never returns a byte that does not have the manifest's SHA-256.
"""

from __future__ import annotations

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
    FileEntry,
    Graph,
    Guidance,
    Identity,
    Manifest,
    MaskRules,
    Parity,
    TensorSpec,
    Text,
    Variant,
    parse_manifest,
    write_manifest,
)
from alterbute.bundle.typed_json import Json

__all__ = [
    "GRAPHS",
    "MANIFEST_FILE",
    "SCHEMA_VERSION",
    "WEIGHTS_FILE",
    "Bundle",
    "Defaults",
    "FileEntry",
    "Graph",
    "Guidance",
    "Identity",
    "Json",
    "Manifest",
    "MaskRules",
    "Parity",
    "TensorSpec",
    "Text",
    "Variant",
    "default_bundle_path",
    "describe_files",
    "open_bundle",
    "parse_manifest",
    "read_manifest",
    "verify_bundle",
    "write_manifest",
]
