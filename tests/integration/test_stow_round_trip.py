"""Object → our metadata and bulk data → STOW-RS → the same object, in every element and pixel."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest

from isocenter.dicom.validation import Strictness
from services.archive import broken_promises
from services.dicom_files import pydicom_files, shared_files
from services.dicomweb import HttpServer, http_server
from services.images import Pixels, compressed, data_set, file_of
from services.stow import JSON, XML, everything, passed_on

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

LARGE_BYTES = 2 << 20
J = "1.2.840.10008.1.2.4."


def real_files() -> list[Path]:
    by_name = {path.name: path for path in (*shared_files(), *pydicom_files())}
    return [path for _, path in sorted(by_name.items()) if path.stat().st_size < LARGE_BYTES]


def path_of(stored: dict[str, object], server: HttpServer) -> str:
    [item] = stored["00081199"]["Value"]  # type: ignore[index]
    url: str = item["00081190"]["Value"][0]
    return url.removeprefix(server.dicomweb)


def plain(value: Any) -> Any:
    """Without the delimiters at the end of names: they say nothing (PS3.5 §6.2.1.1), and XML has none."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("vr") == "PN":
        names = [
            {group: text.rstrip("^") for group, text in (name or {}).items() if text.rstrip("^")}
            for name in value.get("Value", ())
        ]
        return names if any(names) else []
    return {name: plain(one) for name, one in value.items()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (tag, str(one.get(tag))[:200], str(other.get(tag))[:200])
        for tag in sorted(one.keys() | other.keys())
        if one.get(tag) != other.get(tag)
    ]


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_every_real_file(tmp_path: Path, kind: str) -> None:
    """Each in one of the two forms, in turn: what both are made of and into is the same."""
    compared = 0
    excused: dict[str, Any] = {}
    settings = {"strictness": Strictness.LENIENT, "accept_unknown_sop_classes": True}
    async with (
        http_server(tmp_path / "one", **settings) as source,
        http_server(tmp_path / "two", **settings) as target,
    ):
        for file in real_files()[[JSON, XML].index(kind) :: 2]:
            stored = await source.store(file.read_bytes())
            if stored.status_code not in {200, 202}:
                continue
            path = path_of(stored.json(), source)
            response = await passed_on(source, path, kind, target)
            if response.status_code not in {200, 202}:
                excused[file.name] = (response.status_code, response.text)
                continue
            one, other = await everything(source, path), await everything(target, path)
            differing = differences(one, other) if kind == JSON else differences(plain(one), plain(other))
            if differing:
                excused[file.name] = differing
            compared += 1
            await source.client.delete(source.dicomweb + path)
            await target.client.delete(target.dicomweb + path)
        assert not excused, excused
        assert await broken_promises(target.archive) == []
    assert compared >= 30


@pytest.mark.parametrize("kind", [JSON, XML])
@pytest.mark.parametrize("table", ["basic", "empty", "extended", "fragmented"])
async def test_compressed_frames_keep_their_bytes(tmp_path: Path, table: str, kind: str) -> None:
    frames = [b"\xff\x4f\xff\x51" + bytes([number]) * (100 + number) + b"\xff\xd9" for number in range(5)]
    made = compressed(data_set(Pixels(frames=5)), J + "90", frames, table=table)
    file = file_of(made)
    async with (
        http_server(tmp_path / "one") as source,
        http_server(tmp_path / "two") as target,
    ):
        path = path_of((await source.store(file)).json(), source)
        assert (await passed_on(source, path, kind, target)).status_code == 200
        response = await target.get(path, Accept="application/dicom; transfer-syntax=*")
        given = pydicom.dcmread(io.BytesIO(response.content))
        assert given.file_meta.TransferSyntaxUID == J + "90"
        assert given["PixelData"].VR == "OB"
        assert ("ExtendedOffsetTable" in given) == (table == "extended")
        found = list(pydicom.encaps.generate_frames(given.PixelData, number_of_frames=5))
        assert [one[: len(frame)] for one, frame in zip(found, frames, strict=True)] == frames
        if table in {"basic", "extended"}:
            with warnings.catch_warnings(action="ignore"):
                sent = pydicom.dcmread(io.BytesIO(file))
            assert given == sent
