"""A ZIP archive that was planned is what other programs read, and any part of it is that part."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.kit.zip_plan import Contents, Directory, Header, ZipMember, ZipPlan


def part(plan: ZipPlan, contents: list[bytes], start: int, length: int) -> bytes:
    written = b""
    crc32s = [zlib.crc32(content) for content in contents]
    for what, begin, count in plan.slices(start, length):
        match what:
            case Header(number):
                written += plan.header(number, crc32s[number])[begin : begin + count]
            case Contents(number, at, many):
                assert (at, many) == (begin, count)
                written += contents[number][at : at + many]
            case Directory():
                written += plan.directory(crc32s)[begin : begin + count]
    return written


def planned(files: dict[str, bytes]) -> tuple[ZipPlan, list[bytes]]:
    return ZipPlan([ZipMember(name, len(content)) for name, content in files.items()]), list(files.values())


FILES = {"a/1.dcm": b"one" * 100, "a/2.dcm": b"", "b/ü.dcm": bytes(range(256))}


def test_other_programs_read_it(tmp_path: Path) -> None:
    plan, contents = planned(FILES)
    whole = part(plan, contents, 0, plan.size)
    assert len(whole) == plan.size
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    if shutil.which("unzip"):
        (tmp_path / "it.zip").write_bytes(whole)
        subprocess.run(["unzip", "-t", tmp_path / "it.zip"], check=True, capture_output=True)


def test_an_empty_one() -> None:
    plan, contents = planned({})
    assert zipfile.ZipFile(io.BytesIO(part(plan, contents, 0, plan.size))).namelist() == []


@given(st.data())
def test_every_part_is_that_part_of_the_whole(data: st.DataObject) -> None:
    files = data.draw(st.dictionaries(st.text("ab/é.", min_size=1), st.binary(max_size=40), max_size=4))
    plan, contents = planned(files)
    whole = part(plan, contents, 0, plan.size)
    start = data.draw(st.integers(0, plan.size))
    length = data.draw(st.integers(0, plan.size - start))
    assert part(plan, contents, start, length) == whole[start : start + length]


@pytest.mark.parametrize("size", [(1 << 32) - 1, 1 << 32, 1 << 40])
def test_sizes_beyond_four_gigabytes_change_nothing(size: int) -> None:
    plan = ZipPlan([ZipMember("large", size), ZipMember("small", 3)])
    headers = [what for what, _, _ in plan.slices(size, plan.size - size)]
    assert [type(what) for what in headers] == [Contents, Header, Contents, Directory]
    directory = plan.directory([1, 2])
    assert plan.size == size + 3 + len(plan.header(0, 1)) + len(plan.header(1, 2)) + len(directory)
