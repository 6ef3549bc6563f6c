"""The header scanner: every encoding, every way real files break the rules, Pixel Data's extent."""

from __future__ import annotations

import mmap
import struct
import zlib

import pytest
from dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    UNDEFINED,
    element,
    even,
    file_meta,
    item,
    part10,
    sequence,
)

from isocenter.dicom.dataset import read_items
from isocenter.dicom.scanner import RawElement, ScanError, Wanted, scan

WANTED = Wanted([0x00080018, 0x00080060, 0x00100010, 0x00100020, 0x00280010])
PIXELS = Wanted([0x00100020, 0x00280010, 0x7FE00010])
ROWS = 0x00280010


def data_set(*, implicit: bool = False, big: bool = False, undefined: bool = True) -> bytes:
    """Elements with a nested sequence between wanted ones."""
    form = {"implicit": implicit, "big": big}
    order = ">" if big else "<"
    inner = element(0x00080100, "SH", b"CODE", **form)
    nested = sequence(0x0040A043, item(inner, undefined=undefined, big=big), undefined=undefined, **form)
    return b"".join(
        (
            element(0x00080018, "UI", b"1.2.3\0", **form),
            element(0x00080060, "CS", b"CT", **form),
            sequence(
                0x00081115, item(inner + nested, undefined=undefined, big=big), undefined=undefined, **form
            ),
            element(0x00090010, "LO", b"PRIVATE ", **form),
            sequence(0x00091010, item(inner, undefined=True, big=big), undefined=True, **form),
            element(0x00100010, "PN", b"Doe^Jane", **form),
            element(0x00100020, "LO", b"P1", **form),
            element(ROWS, "US", struct.pack(f"{order}H", 512), **form),
            element(0x7FE00010, "OW", bytes(range(64)), **form),
        )
    )


EXPECTED = {
    0x00080018: RawElement("UI", b"1.2.3\0"),
    0x00080060: RawElement("CS", b"CT"),
    0x00100010: RawElement("PN", b"Doe^Jane"),
    0x00100020: RawElement("LO", b"P1"),
    ROWS: RawElement("US", b"\0\2"),
}


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODED = {
    EXPLICIT: data_set(),
    IMPLICIT: data_set(implicit=True),
    BIG_ENDIAN: data_set(big=True),
    DEFLATED: deflate(data_set()),
}


@pytest.mark.parametrize("uid", ENCODED)
@pytest.mark.parametrize("bare", [False, True])
def test_finds_the_wanted_in_every_transfer_syntax(uid: str, bare: bool) -> None:
    if bare:
        found = scan(ENCODED[uid], WANTED, transfer_syntax_uid=uid)
        assert (found.header_size, found.file_meta) == (0, {})
    else:
        found = scan(part10(uid, ENCODED[uid]), WANTED)
        assert found.header_size == 132 + len(file_meta(uid))
        assert found.file_meta[0x00020010] == even(uid, "\0")
    assert found.elements == EXPECTED
    assert found.transfer_syntax_uid == uid
    assert (found.implicit_vr, found.big_endian, found.deflated) == (
        uid == IMPLICIT,
        uid == BIG_ENDIAN,
        uid == DEFLATED,
    )
    assert not found.disguised


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_skips_sequences_of_either_kind(implicit: bool, undefined: bool) -> None:
    data = data_set(implicit=implicit, undefined=undefined)
    assert scan(data, WANTED, transfer_syntax_uid=IMPLICIT if implicit else EXPLICIT).elements == EXPECTED


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_takes_any_buffer_and_copies_values(kind: type) -> None:
    source = bytearray(part10(EXPLICIT, data_set()))
    data = kind(source)
    found = scan(data, WANTED)
    source[:] = bytes(len(source))
    assert found.elements == EXPECTED
    assert all(type(raw.value) is bytes for raw in found.elements.values())


def test_takes_a_memory_map() -> None:
    source = part10(EXPLICIT, data_set())
    with mmap.mmap(-1, len(source)) as mapped:
        mapped[:] = source
        assert scan(mapped, WANTED).elements == EXPECTED


def test_a_failed_scan_leaves_no_hold_on_the_buffer() -> None:
    data = bytearray(part10(EXPLICIT, data_set())[:-40])
    with pytest.raises(ScanError):
        scan(data, PIXELS)
    data += b"more"  # BufferError if a view of it were still alive


@pytest.mark.parametrize(("uid", "implicit", "big"), [(EXPLICIT, 0, 0), (IMPLICIT, 1, 0), (BIG_ENDIAN, 0, 1)])
def test_guesses_a_bare_data_set(uid: str, implicit: int, big: int) -> None:
    found = scan(data_set(implicit=bool(implicit), big=bool(big)), WANTED)
    assert found.elements == EXPECTED
    assert found.transfer_syntax_uid == uid


def test_file_meta_without_preamble() -> None:
    found = scan(file_meta(EXPLICIT) + data_set(), WANTED)
    assert found.elements == EXPECTED
    assert scan(b"DICM" + file_meta(EXPLICIT) + data_set(), WANTED).elements == EXPECTED


@pytest.mark.parametrize(
    "meta", [file_meta(EXPLICIT, with_length=False), file_meta(EXPLICIT, group_length=7)]
)
def test_group_length_of_file_meta_missing_or_wrong(meta: bytes) -> None:
    assert scan(bytes(128) + b"DICM" + meta + data_set(), WANTED).elements == EXPECTED


@pytest.mark.parametrize(
    ("said", "real"),
    [(EXPLICIT, IMPLICIT), (IMPLICIT, EXPLICIT), (EXPLICIT, BIG_ENDIAN), (BIG_ENDIAN, EXPLICIT)],
)
def test_reads_what_is_there_not_what_is_said(said: str, real: str) -> None:
    found = scan(part10(said, ENCODED[real]), WANTED)
    assert found.elements == EXPECTED
    assert found.transfer_syntax_uid == said
    assert found.disguised
    assert found.implicit_vr is (real == IMPLICIT)


def test_says_deflated_and_is_not() -> None:
    found = scan(part10(DEFLATED, data_set()), WANTED)
    assert found.elements == EXPECTED
    assert (found.deflated, found.disguised) == (False, True)


def test_deflated_with_a_zlib_header() -> None:
    assert scan(part10(DEFLATED, zlib.compress(data_set())), WANTED).elements == EXPECTED


def test_private_transfer_syntax_is_explicit_little_endian() -> None:
    assert scan(part10("1.3.46.670589.33.1.4.1", data_set()), WANTED).elements == EXPECTED


@pytest.mark.parametrize("vr", ["??", "  ", "ab", "\0\0", "ZZ"])
def test_odd_vr_before_wanted_elements(vr: str) -> None:
    odd = struct.pack("<HH", 0x0008, 0x0012) + vr.encode() + struct.pack("<H", 8) + b"20240101"
    assert (
        scan(part10(EXPLICIT, ENCODED[EXPLICIT][:14] + odd + ENCODED[EXPLICIT][14:]), WANTED).elements
        == EXPECTED
    )


def test_vr_of_a_newer_standard_has_a_long_length() -> None:
    odd = struct.pack("<HH2sHI", 0x0008, 0x0019, b"QQ", 0, 4) + b"abcd"
    assert (
        scan(part10(EXPLICIT, ENCODED[EXPLICIT][:14] + odd + ENCODED[EXPLICIT][14:]), WANTED).elements
        == EXPECTED
    )


def test_one_element_without_vr_amid_explicit_ones() -> None:
    odd = element(0x00080019, "", b"1.2.3.4\0", implicit=True)
    assert (
        scan(part10(EXPLICIT, ENCODED[EXPLICIT][:14] + odd + ENCODED[EXPLICIT][14:]), WANTED).elements
        == EXPECTED
    )


@pytest.mark.parametrize("tail", [bytes(1), bytes(7), bytes(100), element(0xFFFCFFFC, "OB", bytes(50))])
def test_padding_after_the_data_set(tail: bytes) -> None:
    sr = b"".join((element(0x00080060, "CS", b"SR"), element(0x00100020, "LO", b"P1")))
    found = scan(part10(EXPLICIT, sr + tail), WANTED)
    assert set(found.elements) == {0x00080060, 0x00100020}
    read = scan(sr + tail, Wanted([0xFFFEFFFF]), transfer_syntax_uid=EXPLICIT)
    assert read.elements == {}


def test_odd_lengths_and_group_lengths() -> None:
    data = b"".join(
        (
            element(0x00080000, "UL", b"\x10\0\0\0"),
            element(0x00080060, "CS", b"C"),
            element(0x00100020, "LO", b"ABC"),
        )
    )
    found = scan(part10(EXPLICIT, data), WANTED)
    assert found.elements == {0x00080060: RawElement("CS", b"C"), 0x00100020: RawElement("LO", b"ABC")}


def test_elements_out_of_order_below_the_last_wanted_are_found() -> None:
    data = b"".join(
        (
            element(0x00080060, "CS", b"CT"),
            element(ROWS, "US", b"\0\2"),
            element(0x00100020, "LO", b"P1"),
            element(0x00280011, "US", b"\0\2"),
        )
    )
    assert set(scan(part10(EXPLICIT, data), WANTED).elements) == {0x00080060, ROWS, 0x00100020}


def test_command_group_left_behind() -> None:
    left = element(0, "", struct.pack("<I", 10), implicit=True) + element(0x100, "", b"\1\0", implicit=True)
    found = scan(left + data_set(implicit=True), WANTED)
    assert found.elements == EXPECTED
    assert found.header_size == len(left)
    assert scan(part10(EXPLICIT, left + data_set()), WANTED).elements == EXPECTED


@pytest.mark.parametrize("content_implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_unlabelled_sequence_is_kept_in_the_data_sets_own_form(
    content_implicit: bool, undefined: bool
) -> None:
    """PS3.5 §6.2.2: UN of undefined length holds implicit VR; some writers put explicit VR there."""
    code = element(0x00080100, "SH", b"CODE", implicit=content_implicit)
    unlabelled = sequence(0x00081032, item(code, undefined=undefined), undefined=undefined, vr="UN")
    data = element(0x00080060, "CS", b"CT") + unlabelled + element(0x00100020, "LO", b"P1")
    found = scan(part10(EXPLICIT, data), Wanted([0x00081032, 0x00100020]))
    raw = found.elements[0x00081032]
    assert raw.vr == "SQ"
    [[read]] = read_items(raw.value, implicit_vr=found.implicit_vr)
    assert (read.tag, read.vr, read.value) == (0x00080100, "SH", b"CODE")
    assert found.elements[0x00100020].value == b"P1"
    assert scan(part10(EXPLICIT, data), Wanted([0x00100020])).elements[0x00100020].value == b"P1"


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("undefined", [True, False])
def test_wanted_sequences_can_be_read(uid: str, undefined: bool) -> None:
    implicit, big = uid == IMPLICIT, uid == BIG_ENDIAN
    data = data_set(implicit=implicit, big=big, undefined=undefined)
    found = scan(part10(uid, data), Wanted([0x00081115]))
    [[code, nested]] = read_items(found.elements[0x00081115].value, implicit_vr=found.implicit_vr)
    assert (code.vr, code.value) == ("SH", b"CODE")
    assert nested.value[0][0].value == b"CODE"


def test_item_without_its_delimiter() -> None:
    broken = sequence(
        0x00081032, item(element(0x00080100, "SH", b"CODE"), undefined=True)[:-8], undefined=True
    )
    data = broken + element(0x00100020, "LO", b"P1")
    assert scan(part10(EXPLICIT, data), WANTED).elements[0x00100020].value == b"P1"


def test_the_last_of_two_values_counts() -> None:
    data = element(0x00100020, "LO", b"P1") + element(0x00100020, "LO", b"P2") + element(ROWS, "US", b"\0\2")
    assert scan(part10(EXPLICIT, data), WANTED).elements[0x00100020].value == b"P2"


# Pixel Data


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_native_pixel_data(uid: str) -> None:
    data = part10(uid, ENCODED[uid])
    pixels = scan(data, PIXELS).pixel_data
    assert pixels is not None
    assert (pixels.tag, pixels.vr, pixels.encapsulated) == (0x7FE00010, "OW", False)
    assert data[pixels.offset : pixels.offset + pixels.length] == bytes(range(64))


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("missing", [1, 64, 66])
def test_native_pixel_data_beyond_the_end_is_truncated(uid: str, missing: int) -> None:
    with pytest.raises(ScanError) as caught:
        scan(part10(uid, ENCODED[uid])[:-missing], PIXELS)
    assert caught.value.code == "truncated"


def test_pixel_data_unwanted_may_be_cut() -> None:
    assert scan(part10(EXPLICIT, data_set())[:-64], WANTED).elements == EXPECTED


def test_pixel_data_of_a_deflated_data_set_is_counted_not_kept() -> None:
    large = element(0x00100020, "LO", b"P1") + element(0x7FE00010, "OW", bytes(3_000_000))
    data = part10(DEFLATED, deflate(large))
    pixels = scan(data, PIXELS).pixel_data
    assert pixels is not None
    assert (pixels.offset, pixels.length) == (len(large) - 3_000_000, 3_000_000)
    short = element(0x00100020, "LO", b"P1") + element(0x7FE00010, "OW", bytes(2_999_999), length=3_000_000)
    with pytest.raises(ScanError) as caught:
        scan(part10(DEFLATED, deflate(short)), PIXELS)
    assert caught.value.code == "truncated"


def test_deflated_header_longer_than_the_first_bytes_inflated() -> None:
    large = element(0x00081032, "UN", bytes(1_000_000)) + element(0x00100020, "LO", b"P1")
    assert scan(part10(DEFLATED, deflate(large)), WANTED).elements[0x00100020].value == b"P1"


FRAGMENTS = (b"abcd", b"efghij", b"")
OFFSET_TABLE = struct.pack("<2I", 0, 12)


def encapsulated(*, table: bytes = OFFSET_TABLE, before: bytes = b"") -> bytes:
    items = (item(table), *(item(fragment) for fragment in FRAGMENTS))
    return element(0x00100020, "LO", b"P1") + before + sequence(0x7FE00010, *items, undefined=True, vr="OB")


def test_encapsulated_pixel_data() -> None:
    data = part10(JPEG_BASELINE, encapsulated())
    pixels = scan(data, PIXELS).pixel_data
    assert pixels is not None
    assert pixels.encapsulated
    assert [data[at : at + size] for at, size in pixels.fragments] == list(FRAGMENTS)
    assert list(pixels.basic_offset_table) == [0, 12]
    assert data[pixels.offset : pixels.offset + 4] == b"\xfe\xff\x00\xe0"
    assert data[pixels.offset + pixels.length :] == b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert pixels.extended_offset_table is None


def test_extended_offset_table_is_noticed() -> None:
    before = element(0x7FE00001, "OV", struct.pack("<2Q", 0, 12)) + element(
        0x7FE00002, "OV", struct.pack("<2Q", 4, 6)
    )
    found = scan(part10(JPEG_BASELINE, encapsulated(table=b"", before=before)), PIXELS)
    pixels = found.pixel_data
    assert pixels is not None
    assert list(pixels.basic_offset_table) == []
    assert list(pixels.extended_offset_table or ()) == [0, 12]
    assert list(pixels.extended_offset_table_lengths or ()) == [4, 6]
    assert set(found.elements) == {0x00100020}


@pytest.mark.parametrize("cut", [1, 8, 9, 16, 20])
def test_encapsulated_pixel_data_without_its_delimiter_is_truncated(cut: int) -> None:
    with pytest.raises(ScanError) as caught:
        scan(part10(JPEG_BASELINE, encapsulated())[:-cut], PIXELS)
    assert caught.value.code == "truncated"


def test_fragments_must_have_a_length_and_be_items() -> None:
    endless = element(0x7FE00010, "OB", item(b"", undefined=True), length=UNDEFINED)
    other = element(0x7FE00010, "OB", element(0x00100010, "PN", b"AB") + bytes(8), length=UNDEFINED)
    for data in (endless, other):
        with pytest.raises(ScanError) as caught:
            scan(element(0x00100020, "LO", b"P1") + data, PIXELS, transfer_syntax_uid=JPEG_BASELINE)
        assert caught.value.code == "malformed"


def test_encapsulated_pixel_data_is_stepped_over_when_something_behind_it_is_wanted() -> None:
    behind = element(0xFFFAFFFA, "LO", b"X ")
    found = scan(part10(JPEG_BASELINE, encapsulated() + behind), Wanted([0xFFFAFFFA, 0x7FE00010]))
    assert found.elements == {0xFFFAFFFA: RawElement("LO", b"X ")}
    assert found.pixel_data is not None
    assert scan(part10(JPEG_BASELINE, encapsulated() + behind), Wanted([0xFFFAFFFA])).elements


@pytest.mark.parametrize("padding_bytes", [0, 100, 32_700, 33_000, 70_000])
@pytest.mark.parametrize("pixel_bytes", [10, 40_000])
def test_a_view_tells_what_bytes_tell(padding_bytes, pixel_bytes):
    """Of a view the beginning is read first; the header ends in it, around its end or far behind."""
    data = b"".join(
        (
            element(ROWS - 0x00200000, "OB", bytes(padding_bytes)),  # (0008,0010)
            element(0x00100020, "LO", b"P1"),
            element(ROWS, "US", b"\x08\x00"),
            element(0x7FE00010, "OW", bytes(pixel_bytes)),
        )
    )
    of_view = scan(memoryview(bytearray(data)), PIXELS, transfer_syntax_uid=EXPLICIT)
    assert of_view == scan(data, PIXELS, transfer_syntax_uid=EXPLICIT)
    assert of_view.elements[0x00100020].value == b"P1"
    for shorter in (data[:-1], data[: len(data) - pixel_bytes - 4]):
        with pytest.raises(ScanError) as refusal:
            scan(memoryview(bytearray(shorter)), PIXELS, transfer_syntax_uid=EXPLICIT)
        assert refusal.value.code == "truncated"
