"""`alterbute verify`: is every byte of a bundle what its manifest says?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the demo bundle when left out.")] = None,
) -> None:
    """Check every file of a bundle against the SHA-256 and size in its manifest."""
    from alterbute.bundle import default_bundle_path, verify_bundle

    verified = verify_bundle(bundle or default_bundle_path())
    files = verified.manifest.files
    size = sum(entry.size for entry in files.values())
    typer.echo(f"{verified.manifest.name}: {len(files)} files, {size / 1e6:.1f} MB, every SHA-256 as the manifest says")
