"""File meta information, read back by pydicom, DCMTK's rules (PS3.10 §7.1) and our own scanner."""

from __future__ import annotations

import io
import struct

import pydicom
import pytest
from dicom_bytes import EXPLICIT, element

from isocenter.dicom.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PREAMBLE,
    encode_file_meta,
    is_part10,
)
from isocenter.dicom.scanner import Wanted, scan
from isocenter.dicom.uids import is_valid_uid

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded(**more: str) -> bytes:
    return encode_file_meta(sop_class_uid=CT, sop_instance_uid="1.2.3", transfer_syntax_uid=EXPLICIT, **more)


def test_pydicom_reads_every_element() -> None:
    data = encoded(source_ae_title="SENDER") + element(0x00080060, "CS", b"CT")
    read = pydicom.dcmread(io.BytesIO(data))
    meta = read.file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert meta.SourceApplicationEntityTitle == "SENDER"
    assert read.Modality == "CT"


@pytest.mark.parametrize("title", ["A", "AB", "SIXTEEN_LETTERS_"])
def test_group_length_counts_what_follows_it(title: str) -> None:
    data = encoded(source_ae_title=title)
    assert data[:132] == PREAMBLE + b"DICM"
    assert data[132:140] == b"\x02\0\0\0UL\x04\0"
    assert struct.unpack_from("<I", data, 140)[0] == len(data) - 144
    assert len(data) % 2 == 0


def test_our_scanner_finds_the_data_set_behind_it() -> None:
    head = encoded()
    found = scan(head + element(0x00080060, "CS", b"CT"), Wanted([0x00080060]))
    assert found.header_size == len(head)
    assert found.file_meta[0x00020002] == CT.encode() + b"\0"
    assert 0x00020016 not in found.file_meta


def test_our_own_names_obey_the_standard() -> None:
    assert is_valid_uid(IMPLEMENTATION_CLASS_UID)
    assert IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_only_ascii_is_written() -> None:
    with pytest.raises(ValueError, match="ascii"):
        encoded(source_ae_title="MÜNCHEN")


def test_is_part10() -> None:
    assert is_part10(encoded())
    assert is_part10(memoryview(encoded()))
    assert not is_part10(b"")
    assert not is_part10(bytes(132))
