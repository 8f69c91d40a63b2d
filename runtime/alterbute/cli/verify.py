"""`alterbute verify`: check every byte of a bundle against its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the demo bundle when left out.")] = None,
    trust_key: Annotated[
        list[Path] | None, typer.Option(help="Public key; one of those given must have signed the bundle.")
    ] = None,
) -> None:
    """Check every file of a bundle against the SHA-256 and size in its manifest, and its signature."""
    from alterbute.bundle import default_bundle_path, read_trust_keys, verify_bundle

    verified = verify_bundle(bundle or default_bundle_path(), trust_keys=read_trust_keys(trust_key or ()))
    files = verified.manifest.files
    size = sum(entry.size for entry in files.values())
    typer.echo(f"{verified.manifest.name}: {len(files)} files, {size / 1e6:.1f} MB, every SHA-256 matches the manifest")
    if verified.signed_by is not None:
        typer.echo(f"signed by the trusted key {verified.signed_by}")
    for engine in verified.manifest.engines:
        where = f"{engine.gpu or 'GPUs'} of compute capability {' or '.join(engine.capabilities)}"
        typer.echo(f"engine {engine.file}: {engine.product} {engine.version}, {engine.precision}, for {where}")
