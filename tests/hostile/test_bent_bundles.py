"""Bundles that are bent in one place, with hashes that fit: each is refused by a typed error, within limits of time and memory."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from alterbute.bundle import default_bundle_path, open_bundle
from alterbute.bundle.graph_files import read_graph_file, read_model
from alterbute.encode.tokenizer_file import check_tokenizer_file
from alterbute.errors import BundleError, is_printable

from tests.support.bent_bundles import BentBundle, bent_bundles, one_of_each_kind, write_bent
from tests.support.bent_runs import command_with, edit_with, run_apart

# The graphs of these are only bent where the bundle is used; one of each is tried fast, the rest behind `slow`.
_USED = (
    "step.mha.onnx: output next_state renamed",
    "scene.onnx: output scene flattened in secret",
    "prompt.onnx: output text flattened in secret",
    "decode.onnx: output image of another size",
    "paste16.onnx: output image renamed",
    "latent factor of 8",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo bundle that only its owner can write, so that bent bundles may link to its files."""
    folder = tmp_path_factory.mktemp("base") / "demo"
    shutil.copytree(default_bundle_path(), folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="module")
def bent(base: Path) -> dict[str, BentBundle]:
    pytest.importorskip("onnx", reason="bends graphs with the package onnx, of the extra `export`")
    bundles = list(bent_bundles(base))
    assert len({bundle.name for bundle in bundles}) == len(bundles) >= 400
    return {bundle.name: bundle for bundle in bundles}


def test_bent_manifests_are_refused_when_they_are_opened(
    base: Path, bent: dict[str, BentBundle], tmp_path: Path
) -> None:
    taken = []
    manifests = [bundle for bundle in bent.values() if not bundle.files]
    for index, bundle in enumerate((*one_of_each_kind(manifests), *manifests[::6])):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "manifest.json").write_bytes(bundle.manifest)
        try:
            open_bundle(folder)
        except BundleError as fault:
            assert is_printable(str(fault))
            if "is missing; expected" in str(fault) and "bytes" in str(fault):
                taken.append(bundle.name)  # the manifest itself was accepted: its first file is looked for
    # Refused later: by the solver's own reader of the scheduler's config, by the list of files, and by what a run makes.
    later = {
        "latent factor of 8",
        "another token at the end",
        "a file that is not there",
        "files.weights~bin.size = 1000000000000",
    }
    assert {name for name in taken if not name.startswith("scheduler.")} <= later


def test_bent_tokenizers_are_refused_before_they_are_built(bent: dict[str, BentBundle]) -> None:
    files = [bundle.files["tokenizer/tokenizer.json"] for name, bundle in bent.items() if name.startswith("tokenizer")]
    assert len(files) > 80
    for data in files:
        with pytest.raises(ValueError, match=r"."):
            check_tokenizer_file(data)


def test_weights_outside_the_manifest_and_malformed_graphs_are_refused(base: Path, bent: dict[str, BentBundle]) -> None:
    files = open_bundle(base).manifest.files
    count = 0
    for name, bundle in bent.items():
        if ".onnx: weight" in name or ".onnx: cut" in name:
            with pytest.raises(BundleError, match="is not what an export writes"):
                read_graph_file("bent.onnx", next(iter(bundle.files.values())), files)
            count += 1
    assert count > 100


def test_a_graph_of_each_kind_is_refused_before_a_library_reads_it(
    base: Path, bent: dict[str, BentBundle], tmp_path: Path
) -> None:
    graphs = [bundle for bundle in bent.values() if ".onnx" in bundle.name and bundle.files]
    kinds = one_of_each_kind(graphs)
    taken = set()
    for index, bundle in enumerate(kinds):
        write_bent(bundle, base, tmp_path / str(index))
        try:
            opened = open_bundle(tmp_path / str(index))
            for name, graph in opened.manifest.graphs.items():
                if graph.variants[0].file in bundle.files:
                    read_model(opened, name, graph.variants[0])
        except BundleError as fault:
            assert is_printable(str(fault))
        else:
            taken.add(bundle.kind)
    assert len(kinds) > 50
    # What a run shows; see _USED.
    assert taken <= {"graph: output flattened in secret", "graph: output of another size"}


@pytest.mark.parametrize("name", _USED)
def test_a_bundle_that_is_bent_where_it_is_used_is_refused(
    base: Path, bent: dict[str, BentBundle], tmp_path: Path, name: str
) -> None:
    write_bent(bent[name], base, tmp_path / "bundle")
    kind, message = edit_with(tmp_path / "bundle")
    assert kind == "refused", message
    assert is_printable(message)


def test_verify_and_inspect_escape_what_a_bundle_holds(base: Path, bent: dict[str, BentBundle], tmp_path: Path) -> None:
    write_bent(bent["name = '\\x1b]0;owned\\x07'"], base, tmp_path / "bundle")
    for verb in ("verify", "inspect", "doctor"):
        kind, output = command_with(verb, str(tmp_path / "bundle"))
        assert kind == "refused"
        assert output.count("\n") == 1
        assert is_printable(output.rstrip("\n"))


@pytest.mark.slow
def test_every_bent_bundle_is_refused_within_its_limits(
    base: Path, bent: dict[str, BentBundle], tmp_path: Path
) -> None:
    import alterbute.cli.commands  # children are copies of this process: what is loaded here is not loaded by each
    import onnxruntime
    import tokenizers

    assert alterbute.cli.commands and onnxruntime and tokenizers
    folder = tmp_path / "bundle"
    kinds: Counter[str] = Counter()
    failed, peak, longest = [], 0, 0.0
    for name, bundle in bent.items():
        write_bent(bundle, base, folder)
        runs = {
            "edit": run_apart(lambda: edit_with(folder)),
            "verify": run_apart(lambda: command_with("verify", str(folder))),
            "inspect": run_apart(lambda: command_with("inspect", str(folder))),
        }
        shutil.rmtree(folder)
        kinds[runs["edit"].kind] += 1
        peak, longest = (
            max(peak, *(r.peak_bytes for r in runs.values())),
            max(longest, *(r.cpu_s for r in runs.values())),
        )
        are_typed = runs["edit"].kind == "refused" and all(run.kind in ("refused", "taken") for run in runs.values())
        are_shown = all(is_printable(line) for run in runs.values() for line in run.message.split("\n"))
        if not (are_typed and are_shown):
            failed.append((name, runs))
    print(f"{len(bent)} bent bundles: {dict(kinds)}, at most {longest:.1f} CPU s and {peak / 1e6:.0f} MB")
    assert not failed
    assert longest < 5
    assert peak < 1e9
