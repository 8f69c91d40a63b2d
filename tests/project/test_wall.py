"""The runtime imports neither the exporter nor its libraries (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What comes with tokenizers for its `from_pretrained`, which is not called: a client of a model hub.
HUB = (
    "huggingface_hub",
    "hf_xet",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "requests",
    "urllib3",
    "yaml",
    "tqdm",
    "fsspec",
    "filelock",
)
HEAVY = ("torch", "diffusers", "transformers", "onnx", "polygraphy", "alterbute_export")

_IMPORT_ALL = """
import importlib, pkgutil, sys

class ImportBlocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ImportError("the runtime imports " + name)

sys.meta_path.insert(0, ImportBlocker())
import alterbute
for module in pkgutil.walk_packages(alterbute.__path__, "alterbute."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted(sys.modules))
"""

_EDIT = """
import alterbute.cli
sys.argv = ["alterbute", "edit", "--steps", "4", "--seed", "1", "-o", "out.png"]
alterbute.cli.main()
"""


def test_every_runtime_module_imports_without_heavy_libraries() -> None:
    code = _IMPORT_ALL.replace("{heavy!r}", repr(set(HEAVY)))
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    assert "alterbute.editor" in process.stdout.split()


def test_an_edit_and_the_server_import_no_client_of_a_model_hub(tmp_path: Path) -> None:
    code = _IMPORT_ALL.replace("{heavy!r}", repr({*HEAVY, *HUB})) + _EDIT
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    assert (tmp_path / "out.png").exists()


def test_import_alterbute_loads_neither_numpy_nor_pillow_nor_an_engine() -> None:
    code = "import sys, alterbute; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "PIL", "onnxruntime", "tokenizers", "rich", "typer"} & set(loaded)


def test_no_runtime_source_names_a_heavy_library() -> None:
    for path in sorted((ROOT / "runtime" / "alterbute").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in HEAVY], f"{path.name} imports {names}"


def test_there_are_at_most_ten_public_names() -> None:
    import alterbute

    assert len(alterbute.__all__) <= 10
    assert all(getattr(alterbute, name) is not None for name in alterbute.__all__)
