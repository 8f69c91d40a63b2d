"""Hundreds of bundles that are bent in one place each, with sizes and hashes made to fit: what no export writes, and every runtime refuses.

`bent_bundles` yields them, `write_bent` writes one into a folder; tests of the Python and of the C++ runtime share them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.support.bent_tokenizers import bent_tokenizers

_HUGE: Final = "9" * 400
_NUMBERS: Final = (
    *(
        "schema_version",
        "resolution",
        "latent_channels",
        "latent_factor",
        "scene_channels",
        "state_rows",
        "mask.dilate",
    ),
    *("mask.margin", "detail.radius", "detail.ridge", "detail.threshold", "guidance.scale", "guidance.identity"),
    *("guidance.rescale", "guidance.interval.0", "guidance.interval.1", "defaults.steps", "defaults.strength"),
    *("text.tokens", "text.dim", "text.pooled", "text.start_id", "text.end_id", "text.pad_id", "identity.size"),
    *("identity.shape.0", "identity.shape.1", "scheduler.beta_start", "scheduler.beta_end", "solver_table.max_steps"),
    *("scheduler.num_train_timesteps", "files.weights~bin.size", "graphs.step.parity.relative_error"),
    "graphs.step.inputs.0.shape.1",
)
# Written into the JSON text as they are.
_LITERALS: Final = ("-1", "1e999", _HUGE, "true", '"7"', "1000000000000", "NaN", "null", "[1]")
_TEXTS: Final = (
    *("name", "attributes.color.0", "producer.torch", "text.tokenizer", "defaults.solver", "defaults.spacing"),
    *(
        "graphs.step.variants.0.file",
        "graphs.step.variants.0.backend",
        "graphs.step.inputs.0.name",
        "solver_table.file",
    ),
    *("graphs.step.inputs.0.dtype", "scheduler.beta_schedule", "solver_table.solvers.0", "graphs.step.parity.against"),
)
_STRINGS: Final = (
    *("\x1b]0;owned\x07", "a\nsigned by the trusted key 0", "\x9b31m", "\u202ered", "nul\0nul", "zero\u200bwidth"),
    *("x" * 5000, "../../etc/passwd", "\udc80"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BentBundle:
    """A bent bundle.

    Args:
        name: What is bent.
        manifest: Bytes of its manifest.
        files: Replaced files by name, to which the manifest's sizes and hashes fit already.
    """

    name: str
    manifest: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What is bent, without the place: the literal for a value, and what is done to an edge for any edge of any graph."""
        bent = re.sub(r"^\S+ = ", "= ", re.sub(r"^\S+\.onnx", "graph", self.name))
        bent = re.sub(r"((?:in|out)puts?) \S+ ", r"\1 ", re.sub(r"^manifest: \S+", "manifest:", bent))
        bent = re.sub(
            r"weight in '.*'", "weight in a file", re.sub(r"^(\w+)( missing| without variants)$", r"graph\2", bent)
        )
        return re.sub(r"(normalizer|pre-tokenizer) .*?( behind CLIP's)?$", r"\1\2", bent)


def one_of_each_kind(bundles: Iterable[BentBundle]) -> list[BentBundle]:
    """One bundle of each kind, not always bent in the same place."""
    kinds: dict[str, list[BentBundle]] = {}
    for bundle in bundles:
        kinds.setdefault(bundle.kind, []).append(bundle)
    return [kind[number % len(kind)] for number, kind in enumerate(kinds.values())]


def bent_bundles(base: Path) -> Iterator[BentBundle]:
    """Every bent bundle that is made from a sound one of the demo's kind; needs the package onnx."""
    from tests.support.bent_graphs import bent_graph_files

    document = json.loads((base / "manifest.json").read_text(encoding="utf-8"))
    yield from _bent_numbers(document)
    yield from _bent_texts(document)
    yield from _bent_structure(document)
    yield from _bent_json((base / "manifest.json").read_bytes())
    for name, data in bent_tokenizers((base / "tokenizer" / "tokenizer.json").read_bytes()):
        yield _replaced(f"tokenizer: {name}", document, {"tokenizer/tokenizer.json": data})
    for graph in document["graphs"]:
        file = document["graphs"][graph]["variants"][0]["file"]
        for name, data, edges in bent_graph_files(graph, (base / file).read_bytes()):
            yield _replaced(f"{file}: {name}", document, {file: data})
            if edges is not None:  # the manifest bent alike
                entry = {**document["graphs"][graph], **edges}
                bent = {**document, "graphs": {**document["graphs"], graph: entry}}
                yield _replaced(f"{file} and manifest: {name}", bent, {file: data})


def write_bent(bent: BentBundle, base: Path, folder: Path) -> None:
    """Write a bent bundle; files that are as in the sound one are hard links, because weights are large."""
    for source in sorted(path for path in base.rglob("*") if path.is_file()):
        name = source.relative_to(base).as_posix()
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == "manifest.json":
            target.write_bytes(bent.manifest)
        elif name in bent.files:
            target.write_bytes(bent.files[name])
        else:
            try:
                os.link(source, target)
            except OSError:  # another file system
                shutil.copyfile(source, target)


def _replaced(name: str, document: Any, files: Mapping[str, bytes]) -> BentBundle:
    entries = {file: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for file, data in files.items()}
    text = json.dumps({**document, "files": {**document["files"], **entries}})
    return BentBundle(name=name, manifest=text.encode(), files=files)


def _bent_numbers(document: Any) -> Iterator[BentBundle]:
    for path in _NUMBERS:
        for literal in _LITERALS:
            yield BentBundle(name=f"{path} = {literal[:16]}", manifest=_set(document, path, literal))


def _bent_texts(document: Any) -> Iterator[BentBundle]:
    for path in _TEXTS:
        for text in _STRINGS:
            # Free texts may look like a path.
            if text.startswith("..") and path in (
                "name",
                "attributes.color.0",
                "producer.torch",
                "graphs.step.parity.against",
            ):
                continue
            name = f"{path} = {text[:16]!a}"
            yield BentBundle(name=name, manifest=_set(document, path, json.dumps(text)))


def _copy(document: Any) -> Any:
    """A copy; `copy.deepcopy` takes ten times as long."""
    return json.loads(json.dumps(document))


def _set(document: Any, path: str, literal: str) -> bytes:
    """The manifest's text with a value replaced by a literal."""
    bent = _copy(document)
    *parents, last = (part.replace("~", ".") for part in path.split("."))
    place = bent
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    place[int(last) if isinstance(place, list) else last] = "@HERE@"
    return json.dumps(bent).replace('"@HERE@"', literal).encode()


def _bent_structure(document: Any) -> Iterator[BentBundle]:
    """Lists and objects that hold too much, too little or what does not fit together."""

    def change(name: str, edit: Callable[[Any], object]) -> BentBundle:
        bent = _copy(document)
        edit(bent)
        return BentBundle(name=name, manifest=json.dumps(bent).encode())

    for graph, entry in document["graphs"].items():
        yield change(f"{graph} missing", partial(_drop_graph, graph))
        yield change(f"{graph} without variants", partial(_set_field, graph, "variants", []))
        for kind in ("inputs", "outputs"):
            edges = entry[kind]
            for index, edge in enumerate(edges):
                name = f"manifest: {graph} {kind} {edge['name']}"
                if edge["name"] not in ("source_on", "identity_scale"):
                    yield change(
                        f"{name} missing", partial(_set_field, graph, kind, edges[:index] + edges[index + 1 :])
                    )
                yield change(f"{name} twice", partial(_set_field, graph, kind, [*edges, edge]))
    yield change("10^5 values of an attribute", lambda bent: bent.update(attributes={"color": ["red"] * 100_000}))
    yield change("5000 attributes", lambda bent: bent.update(attributes={f"a{i}": ["b"] for i in range(5000)}))
    yield change("a file that is not there", lambda bent: bent["files"].update(ghost={"sha256": "0" * 64, "size": 1}))
    yield change(
        "a file name of Arabic letters", lambda bent: bent["files"].update({"\u0645": {"sha256": "0" * 64, "size": 1}})
    )
    yield change("pooled text", lambda bent: bent["text"].update(pooled=64))
    yield change("time ids", lambda bent: bent.update(time_ids=[64.0] * 6))
    yield change("identity of a latent", lambda bent: bent["identity"].update(kind="latent", shape=[16, 16, 16]))
    yield change("no identity", lambda bent: bent.update(identity=None))
    yield change("no scene", lambda bent: bent.update(scene=[], scene_channels=0))
    yield change("scene without reference", lambda bent: bent.update(scene=["mask", "masked_photo"]))
    yield change("another token at the end", lambda bent: bent["text"].update(end_id=1_000_000))
    yield change("tokens that take a gigabyte", lambda bent: bent["text"].update(tokens=4096, dim=65_536))
    yield change("windows of 8192", lambda bent: bent.update(resolution=8192, latent_factor=1))
    yield change("latent factor of 8", lambda bent: bent.update(latent_factor=8))
    yield change("nested builder", lambda bent: bent.update(engines=[{"builder": _nest(80)}]))


def _drop_graph(graph: str, bent: Any) -> None:
    del bent["graphs"][graph]


def _set_field(graph: str, field: str, value: Any, bent: Any) -> None:
    bent["graphs"][graph][field] = value


def _nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _bent_json(text: bytes) -> Iterator[BentBundle]:
    """Forms of JSON on which parsers disagree."""
    plain = text.decode()
    for name, data in (
        ("byte order mark", b"\xef\xbb\xbf" + text),
        ("UTF-16", plain.encode("utf-16")),
        ("UTF-32", plain.encode("utf-32")),
        ("byte that is not UTF-8", text.replace(b"alterbute-demo", b"alterbute-\xff")),
        ("encoded surrogate", text.replace(b"alterbute-demo", b"\xed\xa0\x80")),
        ("half a surrogate", text.replace(b"alterbute-demo", b"\\ud800")),
        ("key twice", text.replace(b"{", b'{"schema_version": 4,', 1)),
        ("NUL behind", text + b"\0"),
        ("text behind", text + b"{}"),
        ("comment", text + b"// comment"),
        ("comma behind the last", text.rstrip().removesuffix(b"}") + b",}"),
        ("single quotes", text.replace(b'"name"', b"'name'")),
        ("deep nesting", text.replace(b'"grid": null', b'"grid": ' + b"[" * 100_000 + b"]" * 100_000)),
        ("nesting of 70", text.replace(b'"grid": null', b'"grid": ' + b"[" * 70 + b"]" * 70)),
        ("raw control in a string", text.replace(b"alterbute-demo", b"a\nb")),
        ("number of 100 digits", text.replace(b"0.0003", b"0.0003" + b"0" * 100)),
        ("number that rounds to 0", text.replace(b"0.0003", b"3e-999")),
        ("integer of 2^53", text.replace(b"14466816", b"9007199254740992")),
        ("hexadecimal", text.replace(b'"resolution": 64', b'"resolution": 0x40')),
        ("leading zero", text.replace(b'"resolution": 64', b'"resolution": 064')),
        ("float for an integer", text.replace(b'"resolution": 64', b'"resolution": 64.0')),
        ("too large", text + b" " * (5 << 20)),
        ("empty", b""),
        ("a list", b"[]"),
        ("schema 0", text.replace(b'"schema_version": 4', b'"schema_version": 0')),
        ("schema -1", text.replace(b'"schema_version": 4', b'"schema_version": -1')),
    ):
        assert data != text, name
        yield BentBundle(name=f"JSON: {name}", manifest=data)
