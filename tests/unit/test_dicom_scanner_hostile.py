"""Bytes that mean harm: every one ends in a Scan or a ScanError, soon, and in little memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from dicom_bytes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    UNDEFINED,
    element,
    file_meta,
    item,
    part10,
    sequence,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.element import Element
from isocenter.dicom.scanner import Scan, ScanError, ScanLimits, Wanted, scan

WANTED = Wanted([0x00080018, 0x00081115, 0x00100020, 0x7FE00010])
assert WANTED.vrs  # loads the dictionary now, not within a test that measures time
CODES = {"not-dicom", "truncated", "too-deep", "too-large-header", "deflate-bomb", "malformed"}
NATIVE = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)


@contextmanager
def bounded(seconds: float, memory_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        spent, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert spent < seconds
    assert peak < memory_bytes


def outcome(data: bytes, uid: str | None = None, limits: ScanLimits | None = None) -> Scan | str:
    try:
        return scan(data, WANTED, transfer_syntax_uid=uid, limits=limits or ScanLimits())
    except ScanError as error:
        assert error.code in CODES
        assert error.remedy
        assert f"at byte {error.offset}" in error.detail
        return error.code


def reading(data: bytes, uid: str) -> list[Element] | str:
    try:
        return read_dataset(data, uid)
    except ScanError as error:
        assert error.code in CODES
        return error.code


@given(st.binary(max_size=400))
def test_any_bytes_as_a_file(data: bytes) -> None:
    assert outcome(data)
    assert outcome(bytes(128) + b"DICM" + data)


@given(st.binary(max_size=400), st.sampled_from((*NATIVE, JPEG_BASELINE, "1.2.3.4")))
def test_any_bytes_as_a_data_set(data: bytes, uid: str) -> None:
    assert outcome(data, uid)
    reading(data, uid)


def tags() -> st.SearchStrategy[int]:
    return st.sampled_from(
        (0, 0x00080018, 0x00081115, 0x00091001, 0x00100020, 0x7FE00010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD)
    )


@st.composite
def near_misses(draw: st.DrawFn) -> bytes:
    """Headers that look right, with lengths and nesting that may not be."""
    implicit, big = draw(st.booleans()), draw(st.booleans())
    parts = []
    for _ in range(draw(st.integers(1, 12))):
        vr = draw(st.sampled_from(("LO", "UI", "US", "OB", "OW", "SQ", "UN", "??", "ZZ")))
        value = draw(st.binary(max_size=12))
        length = draw(st.sampled_from((len(value), len(value) + 1, 0, 0xFFFF, UNDEFINED, 0xFFFFFFFE)))
        if vr in ("LO", "UI", "US", "??", "ZZ") and not implicit:
            length &= 0xFFFF
        parts.append(element(draw(tags()), vr, value, length=length, implicit=implicit, big=big))
    return b"".join(parts)


@settings(max_examples=400)
@given(near_misses(), st.sampled_from((*NATIVE, JPEG_BASELINE)))
def test_headers_that_nearly_make_sense(data: bytes, uid: str) -> None:
    assert outcome(data, uid)
    assert outcome(part10(uid, data))
    reading(data, uid)


def small_file(uid: str) -> bytes:
    form = {"implicit": uid == IMPLICIT, "big": uid == BIG_ENDIAN}
    code = element(0x00080100, "SH", b"CODE", **form)
    data = b"".join(
        (
            element(0x00080018, "UI", b"1.2.3\0", **form),
            sequence(
                0x00081115, item(code, undefined=True, big=form["big"]), item(code, big=form["big"]),
                undefined=True, **form,
            ),
            element(0x00100020, "LO", b"P1", **form),
            element(0x7FE00010, "OW", bytes(16), **form),
        )
    )  # fmt: skip
    if uid == DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        return part10(uid, packer.compress(data) + packer.flush())
    return part10(uid, data)


@pytest.mark.parametrize("uid", NATIVE)
def test_cut_at_every_byte(uid: str) -> None:
    whole = small_file(uid)
    header = 132 + len(file_meta(uid))
    complete = scan(whole, WANTED)
    assert complete.pixel_data is not None
    results = {size: outcome(whole[:size]) for size in range(len(whole))}
    for size, result in results.items():
        if isinstance(result, Scan):
            # Only a cut between two elements (or behind all of them, in the last bits of a deflate
            # stream) can go unnoticed, and then nothing is made up.
            assert result.pixel_data in (None, complete.pixel_data if uid == DEFLATED else None)
            assert result.elements.items() <= complete.elements.items()
        elif size < 132:
            assert result == "not-dicom"
        elif size > header + 8 and uid != DEFLATED:
            assert result == "truncated"
    assert sum(isinstance(result, Scan) for result in results.values()) <= 9


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_every_length_field_undefined_or_huge(uid: str) -> None:
    whole = small_file(uid)
    start = 132 + len(file_meta(uid))
    for at in range(start, len(whole) - 4):
        for length in (UNDEFINED, 0xFFFFFFFE, 0x7FFFFFFF, 0x00010000):
            for order in "<>":
                data = whole[:at] + struct.pack(f"{order}I", length) + whole[at + 4 :]
                assert outcome(data)
                reading(data[start:], uid)


@pytest.mark.parametrize("wanted_tag", [0x00081115, 0x00100020])
@pytest.mark.parametrize("vr", ["SQ", "UN"])
@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_sequences_nested_100_000_deep(uid: str, vr: str, wanted_tag: int) -> None:
    form = {"implicit": uid == IMPLICIT, "big": uid == BIG_ENDIAN}
    one = element(0x00081115, vr, b"", length=UNDEFINED, **form)
    one += item(b"", undefined=True, big=form["big"])[:8]
    data = element(0x00080018, "UI", b"1.2.3\0", **form) + one * 100_000
    with bounded(2, 8 << 20):
        with pytest.raises(ScanError) as caught:
            scan(data, Wanted([wanted_tag]), transfer_syntax_uid=uid)
        # The items inside UN are implicit (PS3.5 §6.2.2): what follows cannot be read as such.
        assert caught.value.code in (("too-deep",) if vr == "SQ" else ("too-deep", "truncated", "malformed"))
        assert reading(data, uid) in ("too-deep", "truncated", "malformed")


def test_defined_lengths_nested_1_000_deep() -> None:
    data = b""
    for _ in range(1_000):
        data = sequence(0x00081115, item(data))
    assert reading(data, EXPLICIT) == "too-deep"
    assert isinstance(outcome(data, EXPLICIT), Scan)  # stepped over in one jump


def test_depth_that_is_allowed() -> None:
    data = b""
    for _ in range(60):
        data = sequence(0x00081115, item(data, undefined=True), undefined=True)
    assert isinstance(outcome(data, EXPLICIT), Scan)
    assert isinstance(reading(data, EXPLICIT), list)


@pytest.mark.parametrize(("levels", "allowed"), [(64, True), (65, False)])
@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT])
def test_depth_counts_in_well_formed_sequences_too(uid: str, levels: int, allowed: bool) -> None:
    data = b""
    for _ in range(levels):
        data = sequence(0x00081115, item(data, undefined=True), undefined=True, implicit=uid == IMPLICIT)
    result = outcome(data, uid)
    assert isinstance(result, Scan) if allowed else result == "too-deep"


def test_many_sequences_share_one_limit() -> None:
    one = sequence(0x00091001, *[item(b"")] * 600, undefined=True)
    assert isinstance(outcome(one, EXPLICIT, ScanLimits(elements_max=1_000)), Scan)
    assert outcome(one * 2, EXPLICIT, ScanLimits(elements_max=1_000)) == "too-large-header"


@pytest.mark.parametrize("before_pixels", [True, False])
def test_deflate_bomb_of_a_gigabyte(before_pixels: bool) -> None:
    packer = zlib.compressobj(9, wbits=-15)
    tag, vr = (0x00081032, "UN") if before_pixels else (0x7FE00010, "OW")
    data = packer.compress(element(tag, vr, b"", length=1 << 30))
    for _ in range(1 << 10):
        data += packer.compress(bytes(1 << 20))
    data += packer.flush()
    started = time.process_time()
    assert outcome(part10(DEFLATED, data)) == "deflate-bomb"
    assert reading(data, DEFLATED) == "deflate-bomb"
    assert time.process_time() - started < 5


def test_deflate_bomb_stays_small_in_memory() -> None:
    packer = zlib.compressobj(9, wbits=-15)
    data = packer.compress(element(0x7FE00010, "OW", b"", length=1 << 28))
    for _ in range(1 << 8):
        data += packer.compress(bytes(1 << 20))
    data += packer.flush()
    with bounded(5, 4 << 20):
        assert outcome(part10(DEFLATED, data)) == "deflate-bomb"


def test_inflated_header_over_the_limit() -> None:
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(element(0x00081032, "UN", bytes(1 << 20)) + element(0x00100020, "LO", b"P1"))
    data += packer.flush()
    assert isinstance(outcome(part10(DEFLATED, data)), Scan)
    assert outcome(part10(DEFLATED, data), limits=ScanLimits(inflated_bytes_max=1 << 19)) == "deflate-bomb"


def test_deflated_data_that_is_damaged_or_cut() -> None:
    assert outcome(part10(DEFLATED, b"\xff" * 50)) == "malformed"
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(element(0x00100020, "LO", b"P1") + element(0x7FE00010, "OW", bytes(5000)))
    data += packer.flush()
    assert outcome(part10(DEFLATED, data[: len(data) // 2])) == "truncated"
    assert reading(data[: len(data) // 2], DEFLATED) == "truncated"


@pytest.mark.parametrize("uid", [EXPLICIT, IMPLICIT])
def test_millions_of_tiny_elements(uid: str) -> None:
    limits = ScanLimits(elements_max=100_000)
    data = element(0x00080018, "UI", b"", implicit=uid == IMPLICIT) * 200_000
    with bounded(2, 1 << 20):
        assert outcome(data, uid, limits) == "too-large-header"
    inside = sequence(0x00091001, item(data, undefined=True), undefined=True, implicit=uid == IMPLICIT)
    with bounded(4, 1 << 20):
        assert outcome(inside, uid, limits) == "too-large-header"
    items = sequence(0x00091001, *[item(b"")] * 200_000, undefined=True, implicit=uid == IMPLICIT)
    assert outcome(items, uid, limits) == "too-large-header"
    with pytest.raises(ScanError) as caught:
        read_dataset(items, uid, limits=limits)
    assert caught.value.code == "too-large-header"


def test_too_many_fragments() -> None:
    data = sequence(0x7FE00010, *[item(b"")] * 2_000, undefined=True, vr="OB")
    assert outcome(data, JPEG_BASELINE, ScanLimits(fragments_max=1_000)) == "too-large-header"
    assert isinstance(outcome(data, JPEG_BASELINE), Scan)


def test_wanted_value_over_the_limit() -> None:
    data = element(0x00081115, "SQ", bytes(4096)) + element(0x00100020, "LO", b"P1")
    assert outcome(data, EXPLICIT, ScanLimits(value_bytes_max=4095)) == "too-large-header"
    implicit = element(0x00100020, "LO", bytes(4096), implicit=True)
    assert outcome(implicit, IMPLICIT, ScanLimits(value_bytes_max=4095)) == "too-large-header"


def test_file_meta_over_the_limit() -> None:
    data = (
        bytes(128) + b"DICM" + element(0x00020102, "OB", bytes(10_000)) * 3 + element(0x00080018, "UI", b"")
    )
    assert outcome(data, limits=ScanLimits(file_meta_bytes_max=20_000)) == "too-large-header"


def test_words_never_hold_values() -> None:
    data = element(0x00080018, "UI", b"1.2.3\0") + element(0x00100020, "LO", b"SECRET", length=60_000)
    with pytest.raises(ScanError) as caught:
        scan(part10(EXPLICIT, data), WANTED)
    assert "(0010,0020)" in caught.value.detail
    assert "SECRET" not in caught.value.detail + caught.value.remedy
