"""Metadata of picture files: captions, copyright, resolution; and where an edited picture comes from."""

from __future__ import annotations

from alterbute.images.metadata.metadata import NO_METADATA, Metadata
from alterbute.images.metadata.provenance import Provenance, add_provenance, read_provenance
from alterbute.images.metadata.reading import read_metadata, read_metadata_blocks
from alterbute.images.metadata.selection import METADATA_RULES, MetadataRule, select_metadata

__all__ = [
    "METADATA_RULES",
    "NO_METADATA",
    "Metadata",
    "MetadataRule",
    "Provenance",
    "add_provenance",
    "read_metadata",
    "read_metadata_blocks",
    "read_provenance",
    "select_metadata",
]
