"""Every file that pydicom ships, and every file of the shared test data, through the real server and back.

Data sets come back byte for byte, which covers Pixel Data and every element; by STOW-RS whole files do. What
is refused is refused for the reason named here, and none is refused that keeps to the standard.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson
import pydicom.data
import pytest

from isocenter.dimse.net.bodies import FileBody
from isocenter.dimse.scu.files import outgoing_file
from isocenter.dimse.scu.outgoing import OutgoingObject
from isocenter.dimse.scu.peers import Peer, Remotes
from isocenter.dimse.scu.sending import SendObjects, SendOutcome, Sent
from isocenter.kit.errors import IsocenterError
from services.dicomweb import multipart
from services.isocenter import Isocenter

NO_MODALITY = {"missing 00080060"}
NO_UIDS_NOR_MODALITY = {"missing 0020000D", "missing 0020000E", "missing 00080060"}
NO_IDENTITY = NO_UIDS_NOR_MODALITY | {"missing 00080016", "missing 00080018"}
INVALID_UIDS = {"invalid-uid 00080018", "invalid-uid 0020000D", "invalid-uid 0020000E"}
TRUNCATED = {"truncated"}

# Looked at one by one: each of these files lacks what an archive cannot do without, or its end.
REFUSED = {
    "GDCMJ2K_TextGBR.dcm": NO_MODALITY,
    "HTJ2KLossless_08_RGB.dcm": NO_UIDS_NOR_MODALITY,
    "HTJ2K_08_RGB.dcm": NO_UIDS_NOR_MODALITY,
    "JLSL_08_07_0_1F.dcm": NO_UIDS_NOR_MODALITY,
    "JLSL_16_15_1_1F.dcm": NO_UIDS_NOR_MODALITY,
    "JPEGLSNearLossless_08.dcm": NO_UIDS_NOR_MODALITY,
    "JPEGLSNearLossless_16.dcm": NO_UIDS_NOR_MODALITY,
    "MR_truncated.dcm": TRUNCATED,
    "SC_jpeg_no_color_transform.dcm": NO_MODALITY,
    "SC_jpeg_no_color_transform_2.dcm": NO_MODALITY,
    "SC_rgb_jls_lossy_line.dcm": NO_UIDS_NOR_MODALITY,
    "SC_rgb_jls_lossy_sample.dcm": NO_UIDS_NOR_MODALITY,
    "SC_rgb_jpeg_app14_dcmd.dcm": NO_MODALITY,
    "bad_sequence.dcm": INVALID_UIDS,
    "emri_small_jpeg_2k_lossless_too_short.dcm": TRUNCATED,
    "rtplan_truncated.dcm": TRUNCATED,
}
# No objects at all: C-STORE cannot name them, and STOW-RS is told what they lack.
NO_OBJECTS = {
    "DICOMDIR-empty.dcm": NO_IDENTITY,
    "JLSL_RGB_ILV0.dcm": NO_IDENTITY - {"missing 00080016"},
    "JLSL_RGB_ILV1.dcm": NO_IDENTITY - {"missing 00080016"},
    "JLSL_RGB_ILV2.dcm": NO_IDENTITY - {"missing 00080016"},
    "JLSN_RGB_ILV0.dcm": NO_IDENTITY - {"missing 00080016"},
    "UN_sequence.dcm": NO_IDENTITY,
    "empty_charset_LEI.dcm": NO_IDENTITY,
    "meta_missing_tsyntax.dcm": NO_IDENTITY,
    "nested_priv_SQ.dcm": NO_IDENTITY,
    "no_meta.dcm": {"not-dicom"},  # its first byte is missing
    "no_meta_group_length.dcm": NO_IDENTITY,
    "priv_SQ.dcm": NO_IDENTITY,
}


@dataclass(frozen=True)
class File:
    path: Path
    object: OutgoingObject

    @property
    def data_set(self) -> bytes:
        body = self.object.body()
        assert isinstance(body, FileBody)
        return self.path.read_bytes()[body.offset :]


def every_file(dicom_test_files: Sequence[Path]) -> list[Path]:
    """With those of pydicom's files whose names do not say that they are DICOM (its file-sets)."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    unnamed = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    return [*dicom_test_files, *sorted(path for path in unnamed if path.read_bytes()[128:132] == b"DICM")]


def objects_of(paths: Sequence[Path]) -> tuple[list[File], set[str]]:
    """The files that are objects, and the names of the others."""
    files, others = [], set()
    for path in paths:
        try:
            files.append(File(path, outgoing_file(path)))
        except IsocenterError:
            others.add(path.name)
    return files, others


def rounds(files: Sequence[File]) -> Iterator[list[File]]:
    """No two files of a round have the same SOP Instance UID."""
    by_sop = defaultdict(list)
    for file in files:
        by_sop[file.object.sop_instance_uid].append(file)
    while by_sop:
        yield [waiting.pop(0) for waiting in by_sop.values()]
        by_sop = {sop: waiting for sop, waiting in by_sop.items() if waiting}


async def fetch(server: Isocenter) -> dict[str, bytes]:
    """Everything the server has, by SOP Instance UID, as WADO-RS gives it; then it is deleted."""
    uids = ("0020000D", "0020000E", "00080018")
    found = server.found("/instances?limit=10000&includefield=00080018")
    content: dict[str, bytes] = {}
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    async with httpx2.AsyncClient(base_url=server.dicom_web_url, headers=accept, timeout=60) as client:
        for match in found:
            study, series, sop = (match[tag][0] for tag in uids)
            response = await client.get(f"/studies/{study}/series/{series}/instances/{sop}")
            assert response.status_code == 200, response.text
            body = response.content.split(b"\r\n\r\n", 1)[1]
            content[sop] = body[: body.rindex(b"\r\n--")]
        for study in {match["0020000D"][0] for match in found}:
            assert (await client.delete(f"/studies/{study}")).status_code in {200, 204}
    return content


async def c_store(server: Isocenter, files: Sequence[File]) -> set[str]:
    """Sends the files; the SOP Instance UIDs of those that were stored."""
    told: list[Sent] = []
    peer = Peer("127.0.0.1", server.dicom_port, server.ae_title, "FILES")
    async with Remotes() as remotes:
        sending = SendObjects(remotes, peer, associations=2)
        await sending.run([file.object for file in files], told.append)
    assert {sent.outcome for sent in told} <= {SendOutcome.STORED, SendOutcome.REFUSED}
    assert not any(sent.rewritten_to for sent in told)
    return {sent.object.sop_instance_uid for sent in told if sent.outcome.arrived}


async def stow(server: Isocenter, files: Sequence[File]) -> set[str]:
    body, headers = multipart([file.path.read_bytes() for file in files])
    headers["Accept"] = "application/dicom+json"
    status, answer = server.request("POST", "/dicom-web/studies", body, headers)
    assert status in {200, 202, 409}, answer  # 409: none of them is one to keep
    stored = orjson.loads(answer).get("00081199", {"Value": []})["Value"]
    return {item["00081155"]["Value"][0] for item in stored}


def quarantined(server: Isocenter) -> list[tuple[bytes, set[str]]]:
    """Content and problems of each entry."""
    entries = []
    for entry in server.quarantine():
        status, content = server.request("GET", f"/api/v1/quarantine/{entry['id']}/content")
        assert status == 200
        problems = {f"{problem['code']} {problem['tag']}".strip() for problem in entry["problems"]}
        entries.append((content, problems))
    return entries


@pytest.mark.parametrize("store", [c_store, stow])
async def test_every_file_comes_back_byte_for_byte(
    start_isocenter: Callable[..., Isocenter],
    dicom_test_files: list[Path],
    store: Callable[[Isocenter, Sequence[File]], asyncio.Future[set[str]]],
) -> None:
    server = start_isocenter()
    files, others = objects_of(every_file(dicom_test_files))
    assert {name for name in others if not name.startswith("DICOMDIR")} <= NO_OBJECTS.keys()
    returned = 0
    for some in rounds(files):
        stored = await store(server, some)
        expected = {file.object.sop_instance_uid: file for file in some if file.path.name not in REFUSED}
        assert stored == expected.keys()
        content = await fetch(server)
        assert content.keys() == expected.keys()
        for sop, file in expected.items():
            whole = file.path.read_bytes()
            if store is stow and whole[128:132] == b"DICM":
                assert content[sop] == whole, file.path
            else:
                assert content[sop][128:132] == b"DICM", file.path
                assert content[sop].endswith(file.data_set), file.path
        returned += len(expected)
    assert returned >= 100
    entries = quarantined(server)
    for file in files:
        if file.path.name in REFUSED:
            data_set = file.data_set
            reasons = [problems for content, problems in entries if content.endswith(data_set)]
            assert reasons == [REFUSED[file.path.name]], file.path
    assert {frozenset(problems) for _, problems in entries} <= set(map(frozenset, REFUSED.values()))


def test_what_is_no_object_is_kept_aside_with_the_reason(
    start_isocenter: Callable[..., Isocenter], dicom_test_files: list[Path]
) -> None:
    server = start_isocenter()
    paths = [path for path in dicom_test_files if path.name in NO_OBJECTS]
    assert len(paths) >= 8
    for path in paths:
        body, headers = multipart([path.read_bytes()])
        assert server.request("POST", "/dicom-web/studies", body, headers)[0] == 409
    entries = quarantined(server)
    for path in paths:
        content = path.read_bytes()
        assert [why for kept, why in entries if kept.endswith(content)] == [NO_OBJECTS[path.name]], path
    assert server.found("/instances") == []
