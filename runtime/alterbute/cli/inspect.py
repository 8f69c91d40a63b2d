"""`alterbute inspect`: a summary of a bundle on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alterbute.cli.echo import echo

if TYPE_CHECKING:
    from alterbute.bundle import Graph, Manifest, TensorSpec


def inspect(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder; the demo bundle when left out.")] = None,
) -> None:
    """Show a bundle's model, vocabulary, defaults, graphs and sizes (from its manifest; nothing is run)."""
    from alterbute.bundle import default_bundle_path, open_bundle

    opened = open_bundle(bundle or default_bundle_path())
    for line in describe(opened.manifest):
        echo(line)


def describe(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of the summary."""
    size = sum(entry.size for entry in manifest.files.values())
    yield f"{manifest.name}: family {manifest.family}, {len(manifest.files)} files, {size / 1e6:.1f} MB"
    sides = " or ".join(f"{side}x{side}" for side in manifest.window_sides)
    yield (
        f"model      {sides} pixels, {manifest.latent_channels} latent channels, "
        f"factor {manifest.latent_factor}, predicts {manifest.scheduler.get('prediction_type', 'unknown')}"
    )
    yield f"prompt     at most {manifest.text.tokens - 2} tokens"
    if manifest.attributes is None:
        yield "vocabulary open"
    else:
        for name, values in manifest.attributes.items():
            yield f"vocabulary {name}: {', '.join(values)}"
    defaults = manifest.defaults
    yield f"defaults   {defaults.steps} steps of {defaults.solver} ({defaults.spacing}), guidance {manifest.guidance.scale}"
    if table := manifest.solver_table:
        yield f"solvers    {', '.join(table.solvers)} (1 to {table.max_steps} steps in {table.file})"
    for name, graph in manifest.graphs.items():
        yield f"graph      {name}: {_describe_graph(graph)}"
        yield from _describe_types(graph)
        yield from _describe_cuda(graph)
    yield f"made by    {', '.join(f'{name} {version}' for name, version in manifest.producer.items())}"


def _describe_graph(graph: Graph) -> str:
    # Parity was measured in fp32; the error that half precision adds is printed by `_describe_types`.
    is_converted = all(variant.precision != "fp32" for variant in graph.variants)
    when = " in fp32" if is_converted else ""
    parity = f", {graph.parity.relative_error:.1e} from {graph.parity.against}{when}" if graph.parity else ""
    backends = ", ".join(variant.backend for variant in graph.variants)
    return f"{_describe_tensors(graph.inputs)} -> {_describe_tensors(graph.outputs)} ({backends}{parity})"


def _describe_types(graph: Graph) -> Iterator[str]:
    """A line for each converted file of a graph whose multiply-adds were counted by type."""
    listed_files: set[str] = set()
    for variant in graph.variants:
        audit = variant.audit
        if audit is None or not audit.shares or variant.file in listed_files:
            continue
        listed_files.add(variant.file)
        shares = ", ".join(
            f"{share:.1%} {kind}" for kind, share in sorted(audit.shares.items(), key=lambda item: -item[1])
        )
        kept = ", ".join(f"{count} {reason}" for reason, count in audit.islands.items())
        yield (
            f"types      {variant.file}: {shares} of {audit.multiply_adds / 1e6:,.0f} million multiply-adds"
            + (f"; operators kept fp32: {kept}" if kept else "")
            + (f"; from fp32 {variant.relative_error:.1e}" if variant.relative_error is not None else "")
        )


def _describe_cuda(graph: Graph) -> Iterator[str]:
    """A line for each file that was rewritten for CUDA: its prologue, launch shapes, and the operators that stayed as exported."""
    for variant in graph.variants:
        if not (variant.prologue or variant.buckets or variant.unfused) and variant.is_deterministic:
            continue
        parts = [f"keys and values of the conditions in {variant.prologue}"] if variant.prologue else []
        if variant.buckets:
            shapes = ", ".join(f"{bucket.slots}x{bucket.rows}" for bucket in variant.buckets)
            parts.append(f"launched at {shapes} slots x rows")
        if variant.unfused:
            kept = ", ".join(f"{count} {reason}" for reason, count in variant.unfused.items())
            parts.append(f"operators as exported: {kept}")
        if not variant.is_deterministic:
            parts.append("last bits may change from run to run")
        yield f"cuda       {variant.file}: {'; '.join(parts)}"


def _describe_tensors(tensors: tuple[TensorSpec, ...]) -> str:
    return " ".join(f"{tensor.name}[{','.join(map(str, tensor.shape))}]" for tensor in tensors)
