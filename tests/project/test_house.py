"""The source tree: folders, names, imports, file sizes, and agreement between README, docs and Makefile."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

from tests.support.imports import PACKAGES, ROOT, find_cycles, list_modules, read_imports

MAX_MODULES = 12
# Protocols with the names of TensorRT's own classes; the runtime and the exporter use different members of them.
LIBRARY_MIRRORS = {"alterbute.backends.tensorrt.api", "alterbute_export.engine.api"}
TOP_FOLDERS = {"runtime", "export", "engines", "demo", "tests", "benchmarks", "docs"}


def _tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).exists()]


def _cpp_sources() -> list[Path]:
    return sorted((ROOT / "runtime" / "cpp").rglob("*.cpp"))


@cache
def _modules() -> dict[str, Path]:
    """Files of all product modules by dotted name."""
    return {name: path for package in PACKAGES for name, path in list_modules(package).items()}


@cache
def _imports() -> dict[str, set[str]]:
    modules = _modules()
    return {name: read_imports(path, modules) - {name} for name, path in modules.items()}


def test_no_folder_holds_more_than_twelve_modules() -> None:
    folders = Counter(path.parent for path in [*_modules().values(), *_cpp_sources()] if path.stem != "__init__")
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > MAX_MODULES}
    assert not crowded


def test_no_two_modules_of_a_package_have_one_name() -> None:
    for package in PACKAGES:
        stems = Counter(path.stem for path in list_modules(package).values() if not path.stem.startswith("__"))
        assert not [stem for stem, count in stems.items() if count > 1], package
    stems = Counter(path.stem for path in _cpp_sources() if "src" in path.parts)
    assert not [stem for stem, count in stems.items() if count > 1]


def test_there_are_no_import_cycles() -> None:
    assert find_cycles(_imports()) == []


def test_there_are_no_include_cycles() -> None:
    source = ROOT / "runtime" / "cpp" / "src"
    files = {str(path.relative_to(source)): path for path in source.rglob("*.?pp")}
    includes = {
        name: {header for header in re.findall(r'#include "([^"]+)"', path.read_text()) if header in files}
        for name, path in files.items()
    }
    assert any(includes.values())
    assert find_cycles(includes) == []


def test_top_level_folders_import_each_other_one_way_only() -> None:
    arrows = {
        (name.split(".")[0], imported.split(".")[0])
        for name, imports in _imports().items()
        for imported in imports
        if name.split(".")[0] != imported.split(".")[0]
    }
    assert ("alterbute_export", "alterbute") in arrows
    assert not [arrow for arrow in arrows if arrow[::-1] in arrows]
    assert not [arrow for arrow in arrows if arrow[0] == "alterbute"], "the runtime imports no other folder"


def test_folders_of_a_package_import_each_other_one_way_only() -> None:
    """Folders and modules beside each other, at every depth; a name that `__init__` re-exports counts as the folder's own."""
    arrows = set()
    for name, imports in _imports().items():
        for imported in imports:
            source, target = name.split("."), imported.split(".")
            depth = next((i for i, (a, b) in enumerate(zip(source, target, strict=False)) if a != b), 0)
            if depth > 0:
                arrows.add((".".join(source[: depth + 1]), ".".join(target[: depth + 1])))
    assert ("alterbute.serve.openai", "alterbute.serve.scheduler") in arrows
    assert not [arrow for arrow in arrows if arrow[::-1] in arrows]


def test_a_public_class_name_has_one_meaning() -> None:
    definitions: dict[str, list[str]] = {}
    for name, path in _modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and name not in LIBRARY_MIRRORS:
                definitions.setdefault(node.name, []).append(name)
    assert not {name: modules for name, modules in definitions.items() if len(modules) > 1}


def test_no_source_file_is_over_400_lines() -> None:
    long = [path.name for path in _tracked() if path.suffix == ".py" and len(path.read_text().splitlines()) > 400]
    assert not long


def test_no_file_is_over_16_megabytes_and_none_is_a_pickle() -> None:
    for path in _tracked():
        assert path.stat().st_size <= 16 * 2**20, path
        assert path.suffix not in {".pt", ".pth", ".pkl", ".ckpt", ".whl"}, path


def test_top_level_folders_are_those_of_the_design() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in _tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert {name for name in folders if not name.startswith(".")} <= TOP_FOLDERS


def test_links_of_every_page_resolve() -> None:
    for page in (path for path in _tracked() if path.suffix == ".md"):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_source_files_that_pages_name_exist() -> None:
    """Paths of this repository in backticks, such as `runtime/alterbute/editor.py`."""
    for page in (path for path in _tracked() if path.suffix == ".md" and path.name != "CHANGELOG.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:runtime|export|tests|benchmarks|demo|docs)/[\w./-]+\.\w+)", text):
            assert (ROOT / name).exists() or (page.parent / name).exists(), f"{page.relative_to(ROOT)} names {name}"


def test_readme_make_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in re.findall(r"\bmake ([a-z0-9-]+)", (ROOT / "README.md").read_text()):
        assert command in targets, command


def test_ci_runs_the_readme_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
