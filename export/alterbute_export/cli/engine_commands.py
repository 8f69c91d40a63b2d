"""The commands of bundles with engines: `engine` builds them, `sign` signs a bundle, `publish` writes the folder to ship."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alterbute_export.cli.progress import progress_bar

if TYPE_CHECKING:
    from alterbute_export.engine.build import BuildResult
    from alterbute_export.half.variant_file import VariantFile


def engine(
    bundle: Annotated[
        Path, typer.Argument(help="Bundle folder; it is replaced in one step, when everything is built.")
    ],
    recipe: Annotated[Path, typer.Option("--recipe", help="A recipe of engines/recipes.")],
    graph: Annotated[list[str] | None, typer.Option(help="Build only this graph; may be repeated.")] = None,
    measure: Annotated[
        bool, typer.Option(help="Edit the sample photo first, and keep operators that overflow in fp32.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be built and how large it is.")] = False,
) -> None:
    """Build engines of a bundle's graphs by a recipe."""
    from alterbute.bundle import open_bundle

    from alterbute_export.engine.build import build_engines
    from alterbute_export.engine.estimate import describe
    from alterbute_export.engine.recipe import read_recipe
    from alterbute_export.half.variants import MODEL_GRAPHS

    parsed_recipe = read_recipe(recipe)
    if dry_run:
        for line in describe(open_bundle(bundle), parsed_recipe):
            typer.echo(line)
        return
    start = time.monotonic()
    with progress_bar(width=48, is_once_per_graph=True) as report:
        result = build_engines(
            bundle, parsed_recipe, report=report, measure=measure, graphs=tuple(graph or MODEL_GRAPHS)
        )
    _print_result(result)
    typer.echo(f"built {parsed_recipe.name} into {bundle} in {time.monotonic() - start:.0f} s", err=True)


def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    key: Annotated[
        Path, typer.Option("--key", help="Private key (PEM); with --new it is made there, the public one beside it.")
    ],
    new: Annotated[bool, typer.Option("--new", help="Make a new key first.")] = False,
) -> None:
    """Sign a bundle with Ed25519, so that runtimes that trust the key may load its engines."""
    from alterbute_export.packaging.sign import make_key, sign_bundle

    if new:
        typer.echo(f"wrote {key} (keep it secret) and {make_key(key)} (give it to users)", err=True)
    typer.echo(f"signed {bundle} by key {sign_bundle(bundle, key)}", err=True)


def publish(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to ship; an earlier one is replaced.")],
    engines: Annotated[
        list[str] | None, typer.Option("--engines", help="Ship engines of this recipe only; may be repeated.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Sign with this private key.")] = None,
) -> None:
    """Write a bundle ready to ship: verified files only, and an inventory of what it was made with."""
    from alterbute_export.packaging.publish import publish_bundle

    published = publish_bundle(bundle, output, recipes=engines, key=key)
    size = sum(entry.size for entry in published.manifest.files.values())
    signed = "signed" if key else "not signed: engines in it need --allow-unsigned"
    typer.echo(f"wrote {output}, {len(published.manifest.files)} files, {size / 1e6:.1f} MB, {signed}", err=True)


def _print_result(result: BuildResult) -> None:
    for variant in result.variants.values():
        for written in variant.files:
            typer.echo(_describe_file(written), err=True)
    for name, plan in result.plans.items():
        work = ", ".join(f"{count} {kind}" for kind, count in plan.audit.work.items())
        memory = "" if plan.memory is None else f", scratch {plan.memory / 1e6:.1f} MB"
        typer.echo(
            f"{name:<9} plan in {plan.seconds:.0f} s, {plan.peak_rss_mib} MiB of memory, work layers: {work}{memory}",
            err=True,
        )


def _describe_file(written: VariantFile) -> str:
    error = "" if written.relative_error is None else f", {written.relative_error:.1e} from fp32 on the sample edit"
    shares = ", ".join(f"{share:.1%} {kind}" for kind, share in written.audit.shares.items())
    kept = "".join(f", {count} kept fp32 ({reason})" for reason, count in written.audit.islands.items())
    unfused = "".join(f", {count} as exported ({reason})" for reason, count in written.unfused.items())
    return f"{written.file:<22} arithmetic {shares or 'none'}{kept}{unfused}{error}"
