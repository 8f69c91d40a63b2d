"""Metadata of photos: what is read, what each rule writes beside an edited picture, and where the picture comes from."""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from alterbute.images.metadata import (
    METADATA_RULES,
    NO_METADATA,
    Metadata,
    Provenance,
    add_provenance,
    read_metadata,
    read_metadata_blocks,
    read_provenance,
    select_metadata,
)
from alterbute.images.metadata.xmp import DC, IPTC_CORE, PHOTOSHOP, RIGHTS, read_xmp
from alterbute.images.metadata.xmp_values import read_values
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from tests.support import metadata as files
from tests.support.pictures import noise, to_bytes

MAKERS: dict[str, Callable[[], bytes]] = {
    "JPEG": files.make_jpeg,
    "PNG": files.make_png,
    "WEBP": files.make_webp,
    "TIFF": files.make_tiff,
}
OUTPUTS = ("PNG", "WEBP", "TIFF")
PROVENANCE = Provenance(
    bundle="chairs",
    bundle_sha256="ab" * 32,
    prompt='a "red" chair <&> 빨간 의자\r\n ',
    seed=7,
    index=1,
    version="0.1.0",
    settings={"steps": 20, "guidance": 7.5, "solver": "unipc"},
)
RDF_HEAD = (
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">'
)
LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10 if i else b"lol") for i in range(10))
HOSTILE_XMP = {
    "billion laughs": b"<!DOCTYPE x ["
    + LAUGHS
    + b"]>"
    + RDF_HEAD
    + b"<rdf:Description><dc:x>&l9;</dc:x></rdf:Description></rdf:RDF>",
    "billion laughs in UTF-16": ("<!DOCTYPE x [" + LAUGHS.decode() + "]><x>&l9;</x>").encode("utf-16"),
    "external entity": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    + RDF_HEAD
    + b"<dc:x>&f;</dc:x></rdf:RDF>",
    "deep": RDF_HEAD + b"<rdf:Description>" + b"<dc:x>" * 100_000,
    "deep and closed": RDF_HEAD
    + b"<rdf:Description>"
    + b"<dc:x>" * 5000
    + b"</dc:x>" * 5000
    + b"</rdf:Description></rdf:RDF>",
    "wide": RDF_HEAD + b"<rdf:Description>" + b"<dc:x/>" * 140_000 + b"</rdf:Description></rdf:RDF>",
    "cut": files.XMP[:-300],
    "no XML": b"\0\xff" * 500,
    "another encoding": b'<?xml version="1.0" encoding="nonsense"?>\xff',
    "too large": RDF_HEAD + b" " * (1 << 20) + b"</rdf:RDF>",
}


def read(data: bytes) -> Metadata:
    return read_metadata(files.open_picture(data))


def exif_texts(exif: bytes | None) -> dict[int, str]:
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + (exif or b""))
    return {tag: value.encode("latin-1").decode() for tag, value in dict(tags).items() if isinstance(value, str)}


def xmp_texts(xmp: bytes | None, name: str) -> list[str]:
    packet = read_xmp(xmp or b"")
    assert packet is not None
    return [value.text for value in read_values(packet.properties.get(name))]


@pytest.mark.parametrize("format", MAKERS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_safe_writes_captions_and_nothing_private(format: str, output: str, is_loaded: bool) -> None:
    source = MAKERS[format]()
    picture = files.open_picture(source)
    if is_loaded:
        picture.load()
    assert files.PRIVATE.encode() in files.inflate_chunks(source)
    written = files.write(select_metadata(read_metadata(picture), "safe"), output)
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        assert files.PRIVATE.encode(encoding) not in files.inflate_chunks(written)
    again = read(written)
    texts = exif_texts(again.exif)
    assert {tag: texts[tag] for tag in (270, 315, 33432)} == {
        270: files.CAPTION,
        315: files.AUTHOR,
        33432: files.RIGHTS,
    }
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + (select_metadata(again, "safe").exif or b""))
    assert set(tags) <= {270, 282, 283, 296, 315, 33432}
    assert xmp_texts(again.xmp, f"{DC}description") == [files.CAPTION, "Ein Stuhl"]
    assert xmp_texts(again.xmp, f"{DC}creator") == [files.AUTHOR, "Lee"]
    assert xmp_texts(again.xmp, f"{IPTC_CORE}AltTextAccessibility") == ["의자"]
    assert xmp_texts(again.xmp, f"{PHOTOSHOP}Credit") == ["Studio"]
    assert xmp_texts(again.xmp, f"{RIGHTS}WebStatement") == ["https://example.org/licence"]
    dpi = {"JPEG": 300, "TIFF": 300, "PNG": 144}.get(format)
    assert again.dpi == (None if dpi is None else pytest.approx((dpi, dpi), abs=0.02))


def test_iptc_fills_what_xmp_lacks() -> None:
    metadata = read(files.make_jpeg())
    safe, kept = select_metadata(metadata, "safe"), select_metadata(metadata, "keep")
    for result in (safe, kept):
        assert xmp_texts(result.xmp, f"{DC}title") == ["제목"]
        assert xmp_texts(result.xmp, f"{DC}rights") == [files.RIGHTS]
        assert xmp_texts(result.xmp, f"{DC}creator") == [files.AUTHOR, "Lee"], "XMP has it already"
        assert result.iptc is None
    assert xmp_texts(kept.xmp, f"{PHOTOSHOP}DateCreated") == ["2026-01-02"]
    assert not xmp_texts(safe.xmp, f"{PHOTOSHOP}DateCreated")


def test_iptc_without_a_charset_is_utf_8_or_else_latin_1() -> None:
    for data in ("é".encode(), b"\xe9"):
        records = struct.pack(">BBBH", 0x1C, 2, 116, len(data)) + data
        assert xmp_texts(select_metadata(Metadata(iptc=records), "safe").xmp, f"{DC}rights") == ["é"]


def test_texts_of_a_png_are_an_allowlist_in_safe_and_whole_in_keep() -> None:
    metadata = read(files.make_png())
    safe = select_metadata(metadata, "safe")
    assert safe.texts == {"Title": files.CAPTION, "Author": "Kim", "Copyright": files.RIGHTS}
    assert set(select_metadata(metadata, "keep").texts) == {
        *safe.texts,
        "Software",
        "Source",
        "Comment",
        "parameters",
        "prompt",
    }


def test_captions_of_windows_become_xmp_and_a_camera_s_own_description_is_no_caption() -> None:
    exif = Image.Exif()
    exif[0x9C9B], exif[0x9C9D] = "제목\0".encode("utf-16-le"), "Park\0".encode("utf-16-le")
    exif[270], exif[271] = "OLYMPUS DIGITAL CAMERA", "OLYMPUS"
    safe = select_metadata(read_metadata_blocks(exif.tobytes(), None), "safe")
    assert xmp_texts(safe.xmp, f"{DC}title") == ["제목"]
    assert xmp_texts(safe.xmp, f"{DC}creator") == ["Park"]
    assert safe.exif is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_keep_resets_the_orientation_and_drops_pictures_of_the_photo_before_the_edit(format: str) -> None:
    source = read(MAKERS[format]())
    kept = select_metadata(source, "keep")
    assert source.exif is not None and kept.exif is not None
    before, tags = Image.Exif(), Image.Exif()
    before.load(b"Exif\0\0" + source.exif)
    tags.load(b"Exif\0\0" + kept.exif)
    assert (before[274], tags[274]) == (6, 1)
    assert before.get_ifd(ExifTags.IFD.IFD1) and not tags.get_ifd(ExifTags.IFD.IFD1)
    assert tags.get_ifd(0x8825) == before.get_ifd(0x8825)
    photo = tags.get_ifd(0x8769)
    assert (photo[0xA431], photo[0x9003]) == (files.private("serial"), files.private("date"))
    assert (photo[0xA002], photo[0xA003]) == (30, 40), "the picture was turned"
    assert not {256, 257} & set(tags), "a TIFF's writer would take them for its own"
    note, old_note = photo[0x927C], before.get_ifd(0x8769)[0x927C]
    assert len(note) == len(old_note) and kept.exif.index(note) == source.exif.index(old_note)
    assert note.startswith(b"Maker\0PRIVATE-makernote\0") and note.endswith(b"after the preview")
    for name in ("thumbnail", "preview"):
        assert files.private(name).encode() not in kept.exif
    assert len(kept.exif) < len(source.exif)
    packet = read_xmp(kept.xmp or b"")
    assert packet is not None
    names = {name.partition("}")[2]: element for name, element in packet.properties.items()}
    assert names["Orientation"].text == "1"
    assert names["GPSLatitude"].text == files.private("latitude")
    assert "History" in names
    assert not {"Thumbnails", "HasExtendedXMP", "Version", "Regions"} & set(names)


def test_keep_holds_place_and_device_of_a_tiff() -> None:
    kept = select_metadata(read(files.write(select_metadata(read(files.make_tiff()), "keep"), "TIFF")), "keep")
    tags = Image.Exif()
    tags.load(b"Exif\0\0" + (kept.exif or b""))
    assert tags.get_ifd(0x8825)[2] == (37.0, 33.0, 59.0)
    assert tags.get_ifd(0x8769)[0xA431] == files.private("serial")
    assert exif_texts(kept.exif)[270] == files.CAPTION
    assert set(tags) & {258, 273, 278, 279, 700, 33723} == set()


def test_strip_is_nothing() -> None:
    assert METADATA_RULES == ("safe", "keep", "strip")
    assert select_metadata(read(files.make_jpeg()), "strip") == NO_METADATA


@pytest.mark.parametrize("rule", METADATA_RULES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_provenance_is_read_back_from_every_format(rule: str, output: str) -> None:
    metadata = select_metadata(read(files.make_jpeg()), rule)  # type: ignore[arg-type]
    marked = add_provenance(metadata, PROVENANCE)
    assert marked == add_provenance(select_metadata(read(files.make_jpeg()), rule), PROVENANCE)  # type: ignore[arg-type]
    again = read(files.write(marked, output))
    assert read_provenance(again) == {
        "bundle": "chairs",
        "bundle_sha256": "ab" * 32,
        "prompt": PROVENANCE.prompt,
        "seed": 7,
        "index": 1,
        "version": "0.1.0",
        "settings": {"steps": 20, "guidance": 7.5, "solver": "unipc"},
    }
    packet = read_xmp(again.xmp or b"")
    assert packet is not None
    names = {name.partition("}")[2]: element.text for name, element in packet.properties.items()}
    assert names["CreatorTool"] == "alterbute 0.1.0"
    assert str(names["DigitalSourceType"]).endswith("/compositeWithTrainedAlgorithmicMedia")
    if rule != "strip":
        assert exif_texts(again.exif)[305] == "alterbute 0.1.0"
        assert exif_texts(again.exif)[33432] == files.RIGHTS


def test_provenance_of_a_second_edit_replaces_the_first() -> None:
    first = add_provenance(select_metadata(read(files.make_jpeg()), "keep"), PROVENANCE)
    second = add_provenance(select_metadata(first, "keep"), replace(PROVENANCE, prompt="blue"))
    assert (read_provenance(second) or {})["prompt"] == "blue"
    assert first.exif == second.exif, "the EXIF does not grow"
    assert read_provenance(select_metadata(second, "safe")) is None
    assert read_provenance(NO_METADATA) is None


@given(prompt=st.text(st.characters(), max_size=200), value=st.floats())
@settings(max_examples=100, deadline=None)
def test_any_prompt_survives(prompt: str, value: float) -> None:
    marked = add_provenance(NO_METADATA, replace(PROVENANCE, prompt=prompt, settings={"value": value}))
    assert (read_provenance(marked) or {})["prompt"] == prompt
    json.loads(marked.texts["alterbute"], parse_constant=lambda name: pytest.fail(name))
    in_xmp = (read_provenance(replace(marked, texts={})) or {})["prompt"]
    allowed = [
        c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff") else "\ufffd"
        for c in prompt
    ]
    assert in_xmp == "".join(allowed)


@pytest.mark.parametrize("name", HOSTILE_XMP)
def test_hostile_xmp_is_left_out_at_once(name: str) -> None:
    started = time.monotonic()
    assert read_metadata_blocks(None, HOSTILE_XMP[name]) == NO_METADATA
    direct = Metadata(xmp=HOSTILE_XMP[name])
    assert select_metadata(direct, "safe").xmp is None
    assert (read_provenance(add_provenance(direct, PROVENANCE)) or {})["seed"] == 7
    assert time.monotonic() - started < 3


def test_exif_with_loops_ends_and_keeps_its_captions() -> None:
    entry = struct.Struct("<HHII")
    text = entry.pack(270, 2, 4, int.from_bytes(b"abc\0", "little"))
    loops = entry.pack(0x8769, 4, 1, 8) + entry.pack(0x8825, 4, 1, 8)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + text + loops + struct.pack("<I", 8)
    metadata = read_metadata_blocks(exif, None)
    kept, safe = (select_metadata(metadata, rule).exif for rule in ("keep", "safe"))
    assert exif_texts(kept) == exif_texts(safe) == {270: "abc"}
    assert kept is not None and b"\x69\x87" not in kept


def test_a_megabyte_of_tags_that_claim_the_same_bytes_takes_no_time() -> None:
    slots = 60_000
    table = b"".join(struct.pack("<HHII", tag, 1, 1 << 19, 8) for tag in range(slots))
    exif = (
        b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 14) + struct.pack("<H", slots) + table + bytes(4)
    )
    started = time.monotonic()
    for rule in METADATA_RULES:
        add_provenance(select_metadata(read_metadata_blocks(exif, None), rule), PROVENANCE)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("length", [0, 1, 5, 8, 9, 10, 20, 60, 200, 400])
def test_cut_exif_is_no_error(length: int) -> None:
    exif = files.make_exif()[:length]
    for data in (exif, b"Exif\0\0" + exif, b"Exif\0\0" * 1000 + exif):
        for rule in METADATA_RULES:
            add_provenance(select_metadata(read_metadata_blocks(data, None), rule), PROVENANCE)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", MAKERS)
def test_damaged_files_are_no_error(format: str) -> None:
    source, random_numbers = MAKERS[format](), random.Random(1)
    read_files = 0
    for _ in range(150):
        data = bytearray(source)
        for _ in range(random_numbers.randint(1, 30)):
            data[random_numbers.randrange(8, len(data))] = random_numbers.randrange(256)
        try:
            picture = files.open_picture(bytes(data))
        except Exception:  # the picture itself is damaged; another test is about that
            continue
        read_files += 1
        metadata = read_metadata(picture)
        for rule in METADATA_RULES:
            add_provenance(select_metadata(metadata, rule), PROVENANCE)
        written = files.write(select_metadata(metadata, "safe"), "PNG")
        assert b"PRIVATE-serial" not in files.inflate_chunks(written)
    assert read_files > (2 if format == "PNG" else 20), "most damage to a PNG is found by its checksums"


def test_damaged_blocks_are_no_error() -> None:
    exif, random_numbers = files.make_exif(), random.Random(2)
    for _ in range(1000):
        data, xmp = bytearray(exif), bytearray(files.XMP)
        for block in (data, xmp):
            for _ in range(random_numbers.randint(1, 8)):
                block[random_numbers.randrange(len(block))] = random_numbers.randrange(256)
        metadata = read_metadata_blocks(bytes(data), bytes(xmp))
        for rule in METADATA_RULES:
            add_provenance(select_metadata(metadata, rule), PROVENANCE)
        kept = select_metadata(metadata, "keep").exif
        assert kept is None or len(kept) <= len(exif) + 300


def test_huge_and_many_texts_are_left_out() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", "x" * 70_000, zip=True)
    for number in range(150):
        info.add_text(f"key{number}", "value")
    metadata = read(to_bytes(noise(8, 8), pnginfo=info))
    assert len(metadata.texts) == 100
    assert "Description" not in metadata.texts


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (float("inf"), 72), (1e9, 1e9)])
def test_a_resolution_that_is_no_resolution_is_left_out(dpi: tuple[float, float]) -> None:
    picture = Image.new("RGB", (8, 8))
    picture.format, picture.info["dpi"] = "PNG", dpi
    assert read_metadata(picture).dpi is None


def test_resolution_comes_from_exif_where_the_container_has_none() -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 100.0, 50.0, 3
    for data in (to_bytes(noise(8, 8), "WEBP", exif=exif), to_bytes(noise(8, 8), "PNG", exif=exif)):
        assert read(data).dpi == pytest.approx((254, 127))
    exif = Image.Exif()
    exif[270] = "no resolution"
    assert read(to_bytes(noise(8, 8), "JPEG", exif=exif)).dpi is None
    assert read(to_bytes(noise(8, 8), "BMP", dpi=(96, 96))).dpi == pytest.approx((96, 96), abs=0.02)
    assert read(to_bytes(noise(8, 8), "GIF")) == NO_METADATA
