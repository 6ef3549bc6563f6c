"""DCMTK's tools and the real server: they ask and send, we ask and send."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import orjson
import pydicom
import pytest

from services.dcmtk import Dcmtk, StoreScp
from services.isocenter import Isocenter, attribute
from services.series import new_series, write_files

MODALITY = "00080060"
SOP = "00080018"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def answers(output: str) -> list[dict[str, str]]:
    """What ``findscu`` printed: one dictionary of values by tag for each match."""
    found = []
    for block in re.split(r"Find Response: \d+", output)[1:]:
        values = re.findall(r"\((\w{4},\w{4})\) \w\w (?:\[(.*?)\]|=?(\S+))", block)
        found.append({tag: (text or other).strip("\0 ") for tag, text, other in values})
    return found


def find(dcmtk: Dcmtk, server: Isocenter, level: str, *keys: str, root: str = "-S") -> list[dict[str, str]]:
    wanted = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
    done = dcmtk.run("findscu", "-v", root, *wanted, *server.called)
    assert done.returncode == 0, done.stdout
    assert "Received Final Find Response (Success)" in done.stdout
    return answers(done.stdout)


def test_echoscu(dcmtk: Dcmtk, isocenter: Isocenter) -> None:
    assert dcmtk.run("echoscu", *isocenter.called).returncode == 0
    refused = dcmtk.run("echoscu", "-aec", "SOMEBODY", "127.0.0.1", isocenter.dicom_port)
    assert refused.returncode != 0
    assert "Called AE Title Not Recognized" in refused.stdout


@pytest.mark.parametrize("nodelay", ["0", "1"])
def test_storescu_of_a_folder(
    dcmtk: Dcmtk, isocenter: Isocenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodelay: str
) -> None:
    monkeypatch.setenv("TCP_NODELAY", nodelay)
    images = new_series(20)
    write_files(tmp_path / "disk" / "a", images[:10])
    write_files(tmp_path / "disk" / "b", images[10:])
    sent = dcmtk.run("storescu", "+sd", "+r", *isocenter.called, tmp_path / "disk")
    assert sent.returncode == 0, sent.stdout
    assert len(isocenter.found(f"/studies/{images[0].study}/instances")) == 20
    assert all(isocenter.stored_file(image).endswith(image.data_set) for image in images)


@pytest.mark.parametrize(
    ("flag", "tool", "options", "syntax"),
    [
        ("-xs", "dcmcjpeg", ["+e1"], JPEG_LOSSLESS),
        ("-xt", "dcmcjpls", [], "1.2.840.10008.1.2.4.80"),
        ("-xr", "dcmcrle", [], "1.2.840.10008.1.2.5"),
        ("-xd", "dcmconv", ["+td"], "1.2.840.10008.1.2.1.99"),
        ("-xb", "dcmconv", ["+tb"], "1.2.840.10008.1.2.2"),
        ("-xi", "dcmconv", ["+ti"], IMPLICIT),
    ],
)
def test_storescu_in_other_transfer_syntaxes(
    dcmtk: Dcmtk, isocenter: Isocenter, tmp_path: Path, flag: str, tool: str, options: list[str], syntax: str
) -> None:
    [image] = new_series(1)
    [source] = write_files(tmp_path, [image])
    converted = tmp_path / "converted"
    made = dcmtk.run(tool, *options, source, converted)
    assert made.returncode == 0, made.stdout
    sop = str(pydicom.dcmread(converted).SOPInstanceUID)  # some tools make a new one
    sent = dcmtk.run("storescu", "-R", flag, *isocenter.called, converted)
    assert sent.returncode == 0, sent.stdout
    kept = tmp_path / "kept"
    kept.write_bytes(isocenter.stored_file(image.but(sop=sop)))
    theirs, ours = pydicom.dcmread(converted), pydicom.dcmread(kept)
    assert ours.file_meta.TransferSyntaxUID == syntax
    assert ours == theirs
    assert ours.PixelData == theirs.PixelData
    assert dcmtk.run("dcmdump", "-q", kept).returncode == 0
    assert dcmtk.run("dcmftest", kept).stdout.startswith("yes:")


def test_what_lies_in_the_data_folder_is_dicom_files(
    dcmtk: Dcmtk, start_isocenter: Callable[..., Isocenter], tmp_path: Path
) -> None:
    server = start_isocenter()
    assert dcmtk.run("storescu", *server.called, *write_files(tmp_path, new_series(3))).returncode == 0
    assert len(server.objects()) == 3
    tested = dcmtk.run("dcmftest", *server.objects())
    assert tested.returncode == 0
    assert tested.stdout.count("yes:") == 3


def test_findscu_at_every_level(dcmtk: Dcmtk, isocenter: Isocenter, tmp_path: Path) -> None:
    images = [
        *new_series(3, name="FINDME^ANNA", patient_id="FIND1"),
        *new_series(2, name="FINDME^BERT", patient_id="FIND2", modality="MR"),
    ]
    assert dcmtk.run("storescu", *isocenter.called, *write_files(tmp_path, images)).returncode == 0
    anna, bert = images[0], images[-1]

    studies = find(dcmtk, isocenter, "STUDY", "PatientName=FINDME*", "StudyInstanceUID", "PatientID")
    assert {one["0020,000d"] for one in studies} == {anna.study, bert.study}
    assert find(dcmtk, isocenter, "STUDY", "PatientName=findme^b?rt", "PatientID")[0]["0010,0020"] == "FIND2"
    assert len(find(dcmtk, isocenter, "STUDY", "PatientID=FIND*", "StudyDate=20251231-20260101")) == 2
    assert find(dcmtk, isocenter, "STUDY", "PatientID=FIND*", "StudyDate=20260102-") == []
    counts = find(dcmtk, isocenter, "STUDY", "PatientID=FIND1", "NumberOfStudyRelatedInstances")
    assert counts[0]["0020,1208"] == "3"
    modalities = find(dcmtk, isocenter, "STUDY", "PatientID=FIND*", "ModalitiesInStudy=MR", "PatientID")
    assert [one["0010,0020"] for one in modalities] == ["FIND2"]

    series = find(
        dcmtk, isocenter, "SERIES", f"StudyInstanceUID={bert.study}", "SeriesInstanceUID", "Modality"
    )
    assert [(one["0020,000e"], one["0008,0060"]) for one in series] == [(bert.series, "MR")]

    found = find(
        dcmtk,
        isocenter,
        "IMAGE",
        f"StudyInstanceUID={anna.study}",
        f"SeriesInstanceUID={anna.series}",
        "SOPInstanceUID",
        "InstanceNumber=2",
    )
    assert [one["0008,0018"] for one in found] == [images[1].sop]

    both = find(dcmtk, isocenter, "STUDY", f"StudyInstanceUID={anna.study}\\{bert.study}")
    assert len(both) == 2
    patients = find(dcmtk, isocenter, "PATIENT", "PatientID=FIND*", "PatientName", root="-P")
    assert {one["0010,0010"] for one in patients} == {"FINDME^ANNA", "FINDME^BERT"}


def test_findscu_cancels(dcmtk: Dcmtk, isocenter: Isocenter, tmp_path: Path) -> None:
    images = new_series(40, patient_id="CANCEL")
    assert dcmtk.run("storescu", *isocenter.called, *write_files(tmp_path, images)).returncode == 0
    study = f"StudyInstanceUID={images[0].study}"
    keys = ["-k", "QueryRetrieveLevel=IMAGE", "-k", study, "-k", "SOPInstanceUID"]
    done = dcmtk.run("findscu", "-v", "-S", "--cancel", 2, *keys, *isocenter.called)
    assert done.returncode == 0, done.stdout
    assert dcmtk.run("echoscu", *isocenter.called).returncode == 0


def test_we_ask_storescp(isocenter: Isocenter, storescp: StoreScp) -> None:
    done = isocenter.run("scu", "echo", "127.0.0.1", storescp.port, "--called", storescp.ae_title)
    assert done.returncode == 0, done.stderr
    assert "STORESCP at 127.0.0.1" in done.stdout
    nobody = isocenter.run("scu", "echo", "127.0.0.1", 1)
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("isocenter: No connection to 127.0.0.1:1")


def received(receiver: StoreScp) -> dict[str, pydicom.FileDataset]:
    return {one.SOPInstanceUID: one for one in map(pydicom.dcmread, receiver.files())}


def test_files_go_to_storescp_as_they_are(
    dcmtk: Dcmtk, isocenter: Isocenter, storescp: StoreScp, tmp_path: Path
) -> None:
    """Explicit and JPEG in one folder: each in its own transfer syntax; what is no DICOM is left alone."""
    images = new_series(5)
    paths = write_files(tmp_path / "disk", images)
    compressed = tmp_path / "disk" / "z.dcm"
    assert dcmtk.run("dcmcjpeg", "+ua", "+un", paths[0], compressed).returncode == 0
    paths[0].unlink()
    (tmp_path / "disk" / "README.TXT").write_text("This is no image.")
    flags = ("--called", storescp.ae_title, "--associations", 2, "--json")
    done = isocenter.run("scu", "send", "127.0.0.1", storescp.port, tmp_path / "disk", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = map(orjson.loads, done.stdout.splitlines())
    assert {line["outcome"] for line in lines} == {"stored"}
    assert {line["transfer_syntax_uid"] for line in lines} == {EXPLICIT, JPEG_LOSSLESS}
    assert last["summary"]["outcomes"] == {"stored": 5} and last["summary"]["left_alone"] == 1
    there = received(storescp)
    for image in images[1:]:
        assert there[image.sop].file_meta.TransferSyntaxUID == EXPLICIT
        assert there[image.sop].PixelData == image.pixels
    theirs = there[pydicom.dcmread(compressed).SOPInstanceUID]
    assert theirs.PixelData == pydicom.dcmread(compressed).PixelData


def test_the_archive_goes_to_storescp(
    dcmtk: Dcmtk, isocenter: Isocenter, storescp: StoreScp, tmp_path: Path
) -> None:
    study, other = new_series(4, pixels=200_000), new_series(2)
    files = write_files(tmp_path, [*study, *other])
    assert dcmtk.run("storescu", *isocenter.called, *files).returncode == 0
    to = ("127.0.0.1", storescp.port, "--called", storescp.ae_title)
    done = isocenter.run("scu", "send", *to, "--study", study[0].study, "--series", other[0].series)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"6 +stored", done.stdout)
    there = received(storescp)
    assert there.keys() == {image.sop for image in (*study, *other)}
    assert all(there[image.sop].PixelData == image.pixels for image in (*study, *other))
    unknown = isocenter.run("scu", "send", *to, "--study", "1.2.3.4.5")
    assert unknown.returncode == 1 and "no such study" in unknown.stderr


def test_a_peer_that_takes_implicit_vr_only(
    dcmtk: Dcmtk, isocenter: Isocenter, start_storescp: Callable[..., StoreScp], tmp_path: Path
) -> None:
    """Uncompressed objects are rewritten with the same pixels; compressed ones are not, and that is said."""
    receiver = start_storescp("+xi")
    [image] = new_series(1, pixels=4096)
    [path] = write_files(tmp_path, [image])
    compressed = tmp_path / "compressed.dcm"
    assert dcmtk.run("dcmcjpeg", "+ua", "+un", path, compressed).returncode == 0
    to = ("127.0.0.1", receiver.port, "--called", receiver.ae_title)
    done = isocenter.run("scu", "send", *to, path, compressed)
    assert done.returncode == 1
    assert "1  of them rewritten" in done.stdout
    assert "STORESCP does not take CT Image Storage encoded as JPEG Lossless" in done.stdout
    [there] = received(receiver).values()
    assert there.file_meta.TransferSyntaxUID == IMPLICIT
    assert there.PixelData == image.pixels
    assert there == pydicom.dcmread(path)


def test_a_real_series_again_is_counted_as_duplicates(
    dcmtk: Dcmtk, start_isocenter: Callable[..., Isocenter], shared_data: Path
) -> None:
    """Imported first, then sent by ``storescu``, then imported once more. The second door's objects differ in
    their file header alone; the sweep takes them."""
    folder = shared_data / "mr-head"
    count = len([path for path in folder.rglob("*") if path.is_file()])
    server = start_isocenter()
    first = orjson.loads(server.run("import", folder, "--json").stdout)
    assert first["outcomes"] == {"stored": count}
    assert dcmtk.run("storescu", "+sd", "+r", *server.called, folder).returncode == 0
    again = orjson.loads(server.run("import", folder, "--json").stdout)
    assert again["outcomes"] == {"duplicate": count}
    [study] = server.found("/studies?includefield=NumberOfStudyRelatedInstances")
    assert attribute(study, "00201208") == count
    swept = orjson.loads(server.run("storage", "sweep", "--sweep-grace-s", "0.001", "--json").stdout)
    assert swept["removed"] == count
    assert len(server.objects()) == count
