"""The import graph of the project's Python files, read from their syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "alterbute": ROOT / "runtime" / "alterbute",
    "alterbute_export": ROOT / "export" / "alterbute_export",
    "benchmarks": ROOT / "benchmarks",
    "demo": ROOT / "demo",
}


def list_modules(package: str) -> dict[str, Path]:
    """Files of a package's modules by dotted name; `__init__.py` has the name of its folder."""
    folder = PACKAGES[package]
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (package, *path.relative_to(folder).with_suffix("").parts)
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def read_imports(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Names of the `modules` that a file imports: at its top, in functions, or for type checking only."""
    return {
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imported_modules(node, modules)
    }


def _imported_modules(node: ast.AST, modules: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            if name in modules:
                yield name
            elif node.module in modules:
                yield node.module


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other: the strongly connected components of more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for successor in sorted(graph[node]):
            if successor not in index:
                visit(successor)
                low[node] = min(low[node], low[successor])
            elif successor in stack:
                low[node] = min(low[node], index[successor])
        if low[node] == index[node]:
            start = stack.index(node)
            cycle = stack[start:]
            del stack[start:]
            if len(cycle) > 1:
                cycles.append(sorted(cycle))

    for node in graph:
        if node not in index:
            visit(node)
    return cycles
