"""DCMTK's tools against the DIMSE door: echoscu, storescu, findscu."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pydicom
import pytest

from isocenter.doors.scp.server import DicomSettings
from isocenter.kit.errors import OutOfSpace
from isocenter.platform.storage.faults import FaultyStore, Operation
from isocenter.platform.storage.local import LocalStore
from services.archive import Image
from services.dcmtk import Dcmtk
from services.schema import fresh_url
from services.scp import OnePageOnly, ScpDoor, scp_door


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with scp_door(tmp_path) as made:
        yield made


def files(folder: Path, count: int, **more: object) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(1, count + 1):
        path = folder / f"{number:03d}.dcm"
        path.write_bytes(Image(sop=f"1.2.3.1.1.{number}").but(**more).file)
        paths.append(path)
    return paths


async def count(door: ScpDoor) -> int:
    found: int = await door.archive.one("SELECT count(*) FROM instance WHERE current = 1")
    return found


async def test_echoscu(door: ScpDoor, dcmtk: Dcmtk) -> None:
    done = await door.run(dcmtk, "echoscu", "-v", "--repeat", 3)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Received Echo Response (Success)") == 3


async def test_storescu_one_association(door: ScpDoor, dcmtk: Dcmtk, tmp_path: Path) -> None:
    done = await door.run(dcmtk, "storescu", "-v", *files(tmp_path / "in", 20))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Received Store Response (Success)") == 20
    assert await count(door) == 20


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


async def test_four_senders_of_one_patient_at_once(url: str, dcmtk: Dcmtk, tmp_path: Path) -> None:
    async with scp_door(tmp_path, database_url=url) as door:
        senders = []
        for number in range(4):
            series = f"1.2.3.1.{number}"
            paths = files(tmp_path / f"in{number}", 15, series=series)
            for one, path in enumerate(paths):
                path.write_bytes(Image(series=series, sop=f"{series}.{one}").file)
            senders.append(door.run(dcmtk, "storescu", *paths))
        for done in await asyncio.gather(*senders):
            assert done.returncode == 0, done.stdout
        assert await count(door) == 60
        assert await door.archive.one("SELECT count(*) FROM patient") == 1
        assert await door.archive.one("SELECT instance_count FROM study") == 60


@pytest.mark.parametrize("no_delay", ["0", "1"])
async def test_nagle_on_and_off(
    door: ScpDoor, dcmtk: Dcmtk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_delay: str
) -> None:
    monkeypatch.setitem(os.environ, "TCP_NODELAY", no_delay)
    done = await door.run(dcmtk, "storescu", *files(tmp_path / "in", 25, pixels=bytes(100_000)))
    assert done.returncode == 0, done.stdout
    assert await count(door) == 25


@pytest.mark.parametrize(
    ("conversion", "option", "syntax"),
    [
        ("+ti", "-xi", "1.2.840.10008.1.2"),
        ("+te", "-xe", "1.2.840.10008.1.2.1"),
        ("+tb", "-xb", "1.2.840.10008.1.2.2"),
        ("+td", "-xd", "1.2.840.10008.1.2.1.99"),
    ],
)
async def test_the_senders_encoding_is_kept(
    door: ScpDoor, dcmtk: Dcmtk, tmp_path: Path, conversion: str, option: str, syntax: str
) -> None:
    [original] = files(tmp_path / "in", 1)
    converted = tmp_path / "converted.dcm"
    assert dcmtk.run("dcmconv", conversion, original, converted).returncode == 0
    done = await door.run(dcmtk, "storescu", option, converted)
    assert done.returncode == 0, done.stdout
    [row] = await door.archive.rows("SELECT transfer_syntax_uid, object_key FROM instance")
    assert row["transfer_syntax_uid"] == syntax
    stored = tmp_path / "stored.dcm"
    stored.write_bytes(await door.archive.store.get(row["object_key"]))
    checked = await asyncio.to_thread(dcmtk.run, "dcmdump", stored)
    assert checked.returncode == 0 and "DOE^JANE" in checked.stdout


# How storescu is told that a file's encoding may be proposed.
OPTIONS = {
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
async def test_compressed_objects_are_kept_as_they_are(
    door: ScpDoor, dcmtk: Dcmtk, tmp_path: Path, pydicom_test_files: list[Path], name: str
) -> None:
    path = next(path for path in pydicom_test_files if path.name == name)
    original = pydicom.dcmread(path)
    syntax = str(original.file_meta.TransferSyntaxUID)
    done = await door.run(dcmtk, "storescu", OPTIONS[syntax], path)
    assert done.returncode == 0, done.stdout
    [row] = await door.archive.rows("SELECT transfer_syntax_uid, object_key FROM instance")
    assert row["transfer_syntax_uid"] == syntax
    copy = tmp_path / name
    copy.write_bytes(await door.archive.store.get(row["object_key"]))
    assert pydicom.dcmread(copy).PixelData == original.PixelData


async def test_a_bad_object_does_not_end_the_association(door: ScpDoor, dcmtk: Dcmtk, tmp_path: Path) -> None:
    good = files(tmp_path / "in", 3)
    good[1].write_bytes(Image(sop="1.2.3.1.1.2", modality=None).file)
    done = await door.run(dcmtk, "storescu", "-v", "-nh", *good)
    responses = re.findall(r"Received Store Response \((.*?)\)", done.stdout)
    assert responses == ["Success", "Error: DataSetDoesNotMatchSOPClass", "Success"]
    assert await count(door) == 2
    [entry] = await door.archive.quarantine.list(1)
    assert entry.problems[0]["code"] == "missing" and entry.peer == "STORESCU"


async def test_a_full_disk_is_said_and_forgiven(dcmtk: Dcmtk, tmp_path: Path) -> None:
    store = FaultyStore(LocalStore(tmp_path / "objects"))
    async with scp_door(tmp_path, store=store) as door:
        store.fail(Operation.PUT, lambda: OutOfSpace("The disk is full."), nth=2)
        done = await door.run(dcmtk, "storescu", "-v", "-nh", *files(tmp_path / "in", 3))
        responses = re.findall(r"Received Store Response \((.*?)\)", done.stdout)
        assert responses == ["Success", "Refused: OutOfResources", "Success"]
        assert await count(door) == 2


async def test_refused_callers_and_called_titles(dcmtk: Dcmtk, tmp_path: Path) -> None:
    async with scp_door(tmp_path, loopback_exempt=False, settings=DicomSettings(ae_title="MAIN")) as door:
        done = await door.run(dcmtk, "echoscu", "-aet", "CT1", aec="MAIN")
        assert done.returncode != 0 and "Calling AE Title Not Recognized" in done.stdout
        done = await door.run(dcmtk, "echoscu", "-aet", "CT1", aec="OTHER")
        assert done.returncode != 0 and "Called AE Title Not Recognized" in done.stdout
        await door.ae_titles.register(1, "CT1", host="127.0.0.0/8")
        done = await door.run(dcmtk, "echoscu", "-aet", "CT1", aec="MAIN")
        assert done.returncode == 0, done.stdout


# --- findscu


async def found(door: ScpDoor, dcmtk: Dcmtk, tmp_path: Path, model: str, *keys: str) -> list[pydicom.Dataset]:
    """The answers of findscu, read back by pydicom."""
    folder = tmp_path / "answers"
    folder.mkdir()
    options = [part for key in keys for part in ("-k", key)]
    done = await asyncio.to_thread(
        dcmtk.run,
        "findscu",
        "-aec",
        "ISOCENTER",
        model,
        *options,
        "-X",
        "-od",
        folder,
        "127.0.0.1",
        door.port,
    )
    assert done.returncode == 0, done.stdout
    answers = [pydicom.dcmread(path, force=True) for path in sorted(folder.iterdir())]
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return answers


@pytest.fixture
async def filled(door: ScpDoor) -> ScpDoor:
    utf_8 = ((0x00080005, "CS", "ISO_IR 192"),)
    images = [
        Image(
            study=f"1.9.{number}",
            series=f"1.9.{number}.1",
            sop=f"1.9.{number}.1.1",
            patient_id=f"P{number}",
            name=name.encode(),
            more=(*utf_8, (0x00080020, "DA", date)),
        )
        for number, (name, date) in enumerate(
            [("DOE^JANE", "20240101"), ("DOE^JOHN", "20240215"), ("Müller^Jürgen", "20231231")], start=1
        )
    ]
    await door.archive.send(*images)
    return door


@pytest.mark.parametrize(
    ("model", "keys", "expected"),
    [
        ("-S", ["QueryRetrieveLevel=STUDY", "PatientName=DOE*"], ["1.9.1", "1.9.2"]),
        ("-S", ["QueryRetrieveLevel=STUDY", "PatientName=?oe^jane"], ["1.9.1"]),
        ("-S", ["QueryRetrieveLevel=STUDY", "StudyDate=20240101-20240131"], ["1.9.1"]),
        ("-S", ["QueryRetrieveLevel=STUDY", "StudyDate=-20240101"], ["1.9.1", "1.9.3"]),
        ("-S", ["QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.9.2\\1.9.3"], ["1.9.2", "1.9.3"]),
        ("-S", ["QueryRetrieveLevel=SERIES", "StudyInstanceUID=1.9.2", "Modality"], ["1.9.2"]),
        ("-S", ["QueryRetrieveLevel=IMAGE", "SOPInstanceUID=1.9.3.1.1"], ["1.9.3"]),
        ("-P", ["QueryRetrieveLevel=STUDY", "PatientID=P2"], ["1.9.2"]),
        ("-S", ["QueryRetrieveLevel=STUDY", "PatientID=NOBODY"], []),
    ],
)
async def test_findscu(
    filled: ScpDoor, dcmtk: Dcmtk, tmp_path: Path, model: str, keys: list[str], expected: list[str]
) -> None:
    answers = await found(
        filled, dcmtk, tmp_path, model, *keys, "StudyDate" if "Date" not in str(keys) else "PatientSex"
    )
    assert sorted(answer.StudyInstanceUID for answer in answers) == expected
    assert all(answer.RetrieveAETitle == "ISOCENTER" for answer in answers)


async def test_findscu_reads_names_in_its_character_set(
    filled: ScpDoor, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    keys = ["QueryRetrieveLevel=STUDY", "PatientID=P3", "PatientName"]
    [latin] = await found(filled, dcmtk, tmp_path, "-S", "SpecificCharacterSet=ISO_IR 100", *keys)
    assert (latin.SpecificCharacterSet, str(latin.PatientName)) == ("ISO_IR 100", "Müller^Jürgen")
    [unicode] = await found(filled, dcmtk, tmp_path, "-S", *keys)
    assert (unicode.SpecificCharacterSet, str(unicode.PatientName)) == ("ISO_IR 192", "Müller^Jürgen")


async def test_findscu_hears_why_it_is_refused(door: ScpDoor, dcmtk: Dcmtk) -> None:
    done = await door.run(
        dcmtk, "findscu", "-v", "-S", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=P1"
    )
    # DCMTK has one word for A900H
    assert "Received Final Find Response (Error: DataSetDoesNotMatchSOPClass)" in done.stdout


async def test_findscu_cancels(dcmtk: Dcmtk, tmp_path: Path) -> None:
    async with scp_door(tmp_path, searching=OnePageOnly) as door:
        await door.archive.send(*many_studies(250))
        done = await door.run(
            dcmtk, "findscu", "-v", "-S", "--cancel", 3, "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID"
        )
        assert "Sending Cancel" in done.stdout, done.stdout
        assert "Received Final Find Response (Cancel" in done.stdout, done.stdout


def many_studies(count: int) -> list[Image]:
    uids = [f"1.9.{number}" for number in range(count)]
    return [Image(study=uid, series=f"{uid}.1", sop=f"{uid}.1.1", patient_id=f"P{uid}") for uid in uids]
