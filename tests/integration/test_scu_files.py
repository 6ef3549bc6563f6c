"""Files as objects to be sent, and what becomes of those that have to be rewritten (dimse/scu)."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pydicom
import pytest

from isocenter.dicom.dataset import write_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.part10 import encode_file_meta
from isocenter.dimse.scu import rewriting
from isocenter.dimse.scu.files import files_under, outgoing_file
from isocenter.dimse.scu.rewriting import rewritten
from isocenter.kit.errors import InvalidInput, IsocenterError, TooLarge, Unsupported
from services.archive import CT, EXPLICIT, Image, element, part10

IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
UNCOMPRESSED = (EXPLICIT, DEFLATED)


def file_of(data_set: bytes, syntax: str) -> pydicom.FileDataset:
    meta = encode_file_meta(sop_class_uid=CT, sop_instance_uid="1.2.3", transfer_syntax_uid=syntax)
    return pydicom.dcmread(io.BytesIO(meta + data_set))


def without_group_lengths(data_set: pydicom.Dataset) -> pydicom.Dataset:
    for one in data_set:
        if one.VR == "SQ":
            for item in one.value:
                without_group_lengths(item)
        elif one.tag.element == 0:
            del data_set[one.tag]
    return data_set


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
async def test_real_files_are_the_same_after_rewriting(dicom_test_files: list[Path]) -> None:
    """As implicit VR they have the same elements; only VRs of private ones are forgotten, as they must be."""
    compared = 0
    for path in dicom_test_files:
        try:
            one = outgoing_file(path)
        except IsocenterError:
            continue
        if one.transfer_syntax_uid not in UNCOMPRESSED:
            continue
        try:
            data = await rewritten(one.body(), one.transfer_syntax_uid, IMPLICIT)
        except IsocenterError:
            assert "truncated" in path.name, path
            continue
        theirs = without_group_lengths(pydicom.dcmread(path, force=True))
        ours = without_group_lengths(file_of(data, IMPLICIT))
        assert ours.get("PixelData") == theirs.get("PixelData"), path
        assert list(ours.keys()) == list(theirs.keys()), path
        for tag in ours.keys():  # noqa: SIM118 - iterating would decode every element first
            if not tag.is_private:
                assert ours[tag].value == theirs[tag].value or ours[tag].VR == "SQ", (path, tag)
        compared += 1
    assert compared >= 16


async def test_deflated_is_inflated_for_those_who_take_explicit_only() -> None:
    image = Image(pixels=bytes(range(256)))
    body = write_dataset([Element(0x7FE00010, "OW", image.pixels)], DEFLATED)
    assert await rewritten(body, DEFLATED, EXPLICIT) == element(0x7FE00010, "OW", image.pixels)


async def test_what_must_not_be_rewritten_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"
    items = b"\xfe\xff\0\xe0\0\0\0\0" + b"\xfe\xff\0\xe0\x04\0\0\0abcd" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(Unsupported, match="compressed"):
        await rewritten(Image().data_set[:-16] + head + items, EXPLICIT, IMPLICIT)
    monkeypatch.setattr(rewriting, "BYTES_MAX", 1000)
    with pytest.raises(TooLarge, match="1000 B"):
        await rewritten([bytes(600), bytes(600)], EXPLICIT, IMPLICIT)


def test_a_file_is_sent_in_the_encoding_it_is_really_in(tmp_path: Path) -> None:
    """The receiver goes by the presentation context: a file's false claim must not become its problem."""
    image = Image()
    path = tmp_path / "one.dcm"
    for content, syntax in (
        (image.file, EXPLICIT),
        (image.data_set, EXPLICIT),  # no file meta information at all
        (part10(image.data_set, image.sop, syntax=IMPLICIT), EXPLICIT),
        (part10(image.data_set, image.sop, syntax=BIG_ENDIAN), EXPLICIT),
    ):
        path.write_bytes(content)
        one = outgoing_file(path)
        assert (one.sop_class_uid, one.sop_instance_uid, one.size) == (CT, image.sop, len(image.data_set))
        assert one.transfer_syntax_uid == syntax


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not-dicom"),
        (b"This is no DICOM.", "not-dicom"),
        (os.urandom(1) * 4096, None),
        (Image(sop_class=None).file, "no-uid"),
    ],
)
def test_what_cannot_be_sent_is_told(tmp_path: Path, content: bytes, code: str | None) -> None:
    path = tmp_path / "one"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        outgoing_file(path)
    assert code is None or refused.value.code == code


def test_a_dicomdir_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "DICOMDIR"
    path.write_bytes(part10(element(0x00041130, "CS", "DISK"), "1.2.3", "1.2.840.10008.1.3.10"))
    with pytest.raises(Unsupported) as refused:
        outgoing_file(path)
    assert refused.value.code == "dicomdir"


def test_folders_are_walked_in_order_and_links_are_not_followed(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/x/3", "4"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"-")
    (tmp_path / "tree" / "loop").symlink_to(tmp_path / "tree", target_is_directory=True)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "tree" / "4")
    alone = tmp_path / "alone"
    alone.write_bytes(b"-")
    walked = [path.relative_to(tmp_path).as_posix() for path in files_under([alone, tmp_path / "tree"])]
    assert walked == ["alone", "tree/4", "tree/a/x/3", "tree/b/1", "tree/b/2"]
