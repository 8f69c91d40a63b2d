"""Keys, signatures and the folder that is shipped."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from alterbute.bundle import MANIFEST_FILE, SIGNATURE_FILE, open_bundle, read_trust_keys, verify_bundle
from alterbute.cli import main as runtime_main
from alterbute.errors import AlterbuteError, BundleError, InputError
from alterbute_export.cli import main
from alterbute_export.errors import OutputError
from alterbute_export.packaging.publish import publish_bundle
from alterbute_export.packaging.sign import make_key, sign_bundle

from tests.support.engines import add_engines


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_a_private_key_is_its_owners_alone_and_is_never_replaced(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(OutputError, match="cannot be written"):
        make_key(key)
    assert key.read_bytes() == before


def test_a_signed_bundle_opens_for_those_who_trust_the_key(copy: Path, key: Path) -> None:
    name = sign_bundle(copy, key)
    trusted = read_trust_keys([key.with_suffix(".pub")])
    assert open_bundle(copy, trust_keys=trusted).signed_by == name == trusted[0].name
    assert open_bundle(copy).signed_by is None


def test_signing_verifies_every_byte_first(copy: Path, key: Path) -> None:
    data = bytearray((copy / "weights.bin").read_bytes())
    data[100] ^= 1
    (copy / "weights.bin").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        sign_bundle(copy, key)
    assert not (copy / SIGNATURE_FILE).exists()


@pytest.mark.parametrize(
    "text", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"], ids=["empty", "garbage"]
)
def test_a_key_that_is_none_is_refused(copy: Path, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "bad.pem").write_bytes(text)
    with pytest.raises(OutputError, match="private key"):
        sign_bundle(copy, tmp_path / "bad.pem")


def test_a_public_key_of_another_kind_is_refused(key: Path) -> None:
    with pytest.raises(InputError, match="not base64"):
        read_trust_keys([key])


def test_publishing_ships_chosen_engines_and_nothing_else(copy: Path, key: Path, tmp_path: Path) -> None:
    add_engines(copy, recipe="h200_fp16")
    add_engines(copy, recipe="l4_fp16", capabilities=("8.9",))
    out = tmp_path / "out"
    published = publish_bundle(copy, out, recipes=["h200_fp16"], key=key)
    assert {engine.recipe for engine in published.manifest.engines} == {"h200_fp16"}
    assert not (out / "l4_fp16").exists()
    assert open_bundle(out, trust_keys=read_trust_keys([key.with_suffix(".pub")])).signed_by
    listed = {*published.manifest.files, MANIFEST_FILE, SIGNATURE_FILE}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == listed


def test_the_inventory_says_what_every_file_is_and_what_made_it(copy: Path, tmp_path: Path) -> None:
    add_engines(copy)
    published = publish_bundle(copy, tmp_path / "out")
    inventory = json.loads((tmp_path / "out" / "inventory.json").read_text())
    hashes = {name: entry.sha256 for name, entry in published.manifest.files.items() if name != "inventory.json"}
    assert {item["name"]: item["sha256"] for item in inventory["files"]} == hashes
    assert {item["graph"] for item in inventory["engines"]} == {"prompt", "identity", "scene", "step", "decode"}
    assert inventory["producer"] == dict(published.manifest.producer)
    assert inventory["checkpoint"] == dict(published.manifest.checkpoint)


def test_publishing_twice_gives_the_same_bytes(copy: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        publish_bundle(copy, tmp_path / name)
    one, two = (verify_bundle(tmp_path / name).manifest.files for name in ("one", "two"))
    assert one == two
    publish_bundle(tmp_path / "one", tmp_path / "two")
    assert verify_bundle(tmp_path / "two").manifest.files == one


def test_a_damaged_bundle_is_not_published_and_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    (copy / "step.onnx").write_bytes(b"x" * (copy / "step.onnx").stat().st_size)
    with pytest.raises(AlterbuteError, match="SHA-256"):
        publish_bundle(copy, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_replaced(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is no bundle"):
        publish_bundle(copy, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_a_recipe_that_was_never_built_is_named_with_those_that_were(copy: Path, tmp_path: Path) -> None:
    add_engines(copy)
    with pytest.raises(OutputError, match="no engines of recipe 'l4_fp16'; expected one of h200_fp16"):
        publish_bundle(copy, tmp_path / "out", recipes=["l4_fp16"])


def test_the_commands_sign_publish_and_verify(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_engines(copy)
    private, out = tmp_path / "release.pem", tmp_path / "out"
    assert main(["sign", str(copy), "--key", str(private), "--new"]) == 0
    assert main(["publish", str(copy), "-o", str(out), "--key", str(private)]) == 0
    capsys.readouterr()
    assert runtime_main(["verify", str(out), "--trust-key", str(private.with_suffix(".pub"))]) == 0
    told = capsys.readouterr().out
    assert "signed by the trusted key" in told
    assert "engine h200_fp16/step.plan: tensorrt 11.4.0.106, fp16" in told
    make_key(tmp_path / "other.pem")
    assert runtime_main(["verify", str(out), "--trust-key", str(tmp_path / "other.pub")]) == 2
    assert "signed by key" in capsys.readouterr().err
