"""`alterbute verify`: check every byte of a bundle against its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alterbute.cli.echo import echo
from alterbute.cli.trust import TrustKeyOption, read_trust_option


def verify(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the demo bundle when left out.")] = None,
    trust_key: TrustKeyOption = None,
) -> None:
    """Check every file of a bundle against the SHA-256 and size in its manifest, and its signature."""
    from alterbute.bundle import default_bundle_path, verify_bundle

    verified = verify_bundle(bundle or default_bundle_path(), trust_keys=read_trust_option("verify", trust_key))
    files = verified.manifest.files
    size = sum(entry.size for entry in files.values())
    echo(f"{verified.manifest.name}: {len(files)} files, {size / 1e6:.1f} MB, every SHA-256 matches the manifest")
    if verified.signed_by is not None:
        echo(f"signed by the trusted key {verified.signed_by}")
    for engine in verified.manifest.engines:
        where = f"{engine.gpu or 'GPUs'} of compute capability {' or '.join(engine.capabilities)}"
        echo(f"engine {engine.file}: {engine.product} {engine.version}, {engine.precision}, for {where}")
