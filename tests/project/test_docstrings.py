"""Docstrings of the product: every parameter of a public function is described, in plain sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.imports import PACKAGES, ROOT, list_modules

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MODULES = [path for package in PACKAGES for path in list_modules(package).values()]
# Protocols that repeat a library's own signatures; other tests compare the names with that library.
MIRRORS = (
    "runtime/alterbute/backends/tensorrt/api.py",
    "runtime/alterbute/backends/cuda/runtime.py",
    "export/alterbute_export/engine/api.py",
)
# Commands whose options are generated from the server's settings, which describe each of them.
DESCRIBED_BY_SETTINGS = {"runtime/alterbute/cli/config.py": "config", "runtime/alterbute/cli/serve.py": "serve"}
MIN_PARAMETERS = 3
# "As `Backend.run`." or "See `make_plan`." and nothing else: the docstring does not say what the function does.
POINTS_ELSEWHERE = re.compile(r"(as|see|like|same as)\b[^.]*`[^`]+`[^.]*\.?", re.IGNORECASE)
NOT_ENGLISH = re.compile(r"\bas of (the|this|`|alterbute)", re.IGNORECASE)
PERSONIFIED = re.compile(
    r"\b(nobody|somebody|whoever|everybody)\b|\b(is|are) told\b"
    r"|\b(bundle|manifest|graph|file|table|server|config|checkpoint|engine|device|layout|plan|header|reply)s?"
    r" (says?|tells?|knows?|wants?|speaks?|asks?|hears?)\b",
    re.IGNORECASE,
)


def public_functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Public functions of a file and public methods of its public classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, FUNCTIONS) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


def list_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of a function's parameters, except those that `typer.Option(help=...)` describes, itself or by a name `...Option`."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    named = [argument for argument in every if argument is not None and argument.arg not in ("self", "cls")]
    return [
        argument.arg
        for argument in named
        if not re.search(r"typer\.|Option$", ast.unparse(argument.annotation or ast.Constant(None)))
    ]


def missing_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Parameters that the docstring's `Args:` does not describe; none for fewer than MIN_PARAMETERS parameters."""
    parameters = list_parameters(function)
    if len(parameters) < MIN_PARAMETERS:
        return []
    described = (ast.get_docstring(function) or "").partition("Args:")[2]
    return [name for name in parameters if not re.search(rf"\b{name}\b", described)]


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring of a file, including those of constants and fields."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def relative_name(path: Path) -> str:
    """A file's path in the repository."""
    return str(path.relative_to(ROOT))


def test_a_public_function_with_three_parameters_describes_them() -> None:
    missing = [
        f"{relative_name(path)}:{function.lineno} {name}: {', '.join(missing_arguments(function))}"
        for path in MODULES
        if relative_name(path) not in MIRRORS
        for name, function in public_functions(path)
        if DESCRIBED_BY_SETTINGS.get(relative_name(path)) != name and missing_arguments(function)
    ]
    assert not missing, "`Args:` does not describe\n" + "\n".join(missing)


def test_a_docstring_does_not_only_point_elsewhere() -> None:
    pointing = [
        f"{relative_name(path)}:{line} {text}"
        for path in MODULES
        for line, text in docstrings(path)
        if POINTS_ELSEWHERE.fullmatch(text)
    ]
    assert not pointing, "these only point elsewhere:\n" + "\n".join(pointing)


def test_docstrings_are_plain_english() -> None:
    unclear = [
        f"{relative_name(path)}:{line} {match[0]!r}"
        for path in MODULES
        for line, text in docstrings(path)
        for match in (NOT_ENGLISH.search(text), PERSONIFIED.search(text))
        if match
    ]
    assert not unclear, "say what the thing is or returns:\n" + "\n".join(unclear)


def test_each_check_finds_a_violation(tmp_path: Path) -> None:
    """A file that violates each of the rules above."""
    path = tmp_path / "bad.py"
    path.write_text(
        'def run(a, b, c):\n    """As `Backend.run`."""\n\n\nX = 1\n"""As of the class: what the manifest tells."""\n'
    )
    assert [missing_arguments(function) for _, function in public_functions(path)] == [["a", "b", "c"]]
    texts = [text for _, text in sorted(docstrings(path))]
    assert [bool(POINTS_ELSEWHERE.fullmatch(text)) for text in texts] == [True, False]
    assert NOT_ENGLISH.search(texts[1])
    assert PERSONIFIED.search(texts[1])
