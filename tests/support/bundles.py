"""A stub bundle, with a valid manifest and placeholder graphs, for tests that run no graph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from alterbute.bundle import (
    GRAPHS,
    SCHEMA_VERSION,
    WEIGHTS_FILE,
    Bundle,
    Defaults,
    DetailRules,
    Graph,
    Guidance,
    Identity,
    Manifest,
    MaskRules,
    Parity,
    Text,
    Variant,
    describe_files,
    open_bundle,
    write_manifest,
)
from alterbute.bundle.edges import make_edges


def write_stub_bundle(folder: Path) -> Bundle:
    """Write and open a bundle that passes every check; only loading its graphs fails."""
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / WEIGHTS_FILE).write_bytes(bytes(range(256)) * 16)
    for name in GRAPHS:
        (folder / f"{name}.onnx").write_bytes(name.encode())
    write_manifest(folder, stub_manifest(folder))
    return open_bundle(folder)


def stub_manifest(folder: Path) -> Manifest:
    """A manifest like the demo's that lists the files of a folder."""
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name="stub",
        family="adapter",
        resolution=64,
        latent_channels=16,
        latent_factor=4,
        scene_channels=33,
        state_rows=4,
        latent_mask="area",
        residual="collage",
        scene=("mask", "masked_photo", "reference"),
        reinject=False,
        mask=MaskRules(dilate=3, margin=1.4),
        detail=DetailRules(radius=4, ridge=3e-4, threshold=0.15, attributes=("color",)),
        scheduler={"prediction_type": "sample", "num_train_timesteps": 1000, "beta_end": 0.03},
        guidance=Guidance(forms=("none", "text"), scale=1.5, identity=1.0, rescale=0.0, interval=(0.0, 1.0)),
        defaults=Defaults(steps=20, solver="dpmpp_2m", spacing="trailing", strength=1.0),
        text=Text(tokens=32, dim=8, pooled=0, tokenizer="tokenizer/tokenizer.json", start_id=0, end_id=1, pad_id=1),
        time_ids=None,
        identity=Identity(kind="tokens", shape=(4, 8), size=64),
        attributes={"color": ("red", "blue"), "material": ("metal",)},
        graphs={},
        files=describe_files(folder),
        producer={"alterbute": "0.1.0"},
        checkpoint={},
    )
    return with_edges(manifest)


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Write a file of a bundle, and its new size and SHA-256 into the manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def with_edges(manifest: Manifest) -> Manifest:
    """The manifest with the graphs, inputs and outputs that its numbers determine; variants and parity are kept."""
    graphs = {}
    for name, (inputs, outputs) in make_edges(manifest).items():
        known = manifest.graphs.get(name)
        graphs[name] = Graph(
            variants=known.variants if known else (Variant(backend="onnxruntime", file=f"{name}.onnx"),),
            inputs=inputs,
            outputs=outputs,
            parity=known.parity if known else Parity(relative_error=3e-7, against="torch 2.13.0"),
        )
    return replace(manifest, graphs=graphs)
