"""The real server's pictures: for dicomweb-client, made in the background, by processes that end with it."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from dicomweb_client import DICOMwebClient
from PIL import Image

from services.isocenter import Isocenter
from services.rendered_files import stored

CINE = stored(
    np.stack([np.full((16, 24), 20 * number, np.uint8) for number in range(6)]),
    sop="1.2.3.77.2.1",
    series="1.2.3.77.2",
    study="1.2.3.77",
    modality="US",
)


def sent(server: Isocenter) -> DICOMwebClient:
    client = DICOMwebClient(server.dicom_web_url)
    client.store_instances([pydicom.dcmread(io.BytesIO(CINE.file))])
    return client


def children_of(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(stat.parent.name))
    return found


def test_dicomweb_client_shows_what_is_there(isocenter: Isocenter) -> None:
    client = sent(isocenter)
    names = (CINE.study, CINE.series, CINE.sop)
    whole = client.retrieve_instance_rendered(*names, media_types=("image/png",))
    assert set(np.asarray(Image.open(io.BytesIO(whole))).flat) == {60}
    frame = client.retrieve_instance_frames_rendered(
        *names, frame_numbers=[2], media_types=("image/jpeg",), params={"viewport": "12,12", "quality": "90"}
    )
    picture = Image.open(io.BytesIO(frame))
    assert (picture.format, picture.size) == ("JPEG", (12, 8))
    for one in (
        client.retrieve_series_rendered(*names[:2], media_types=("image/gif",)),
        client.retrieve_instance_rendered(*names, media_types=("video/mp4",)),
    ):
        assert one[:3] == b"GIF" or one[4:8] == b"ftyp"


def test_thumbnails_are_made_without_being_asked_for(start_isocenter: Callable[..., Isocenter]) -> None:
    server = start_isocenter("--thumbnail-after-s", "0.2")
    sent(server)
    derived = server.data_folder / "objects" / "1" / "derived"
    server.wait_until(lambda: any(derived.rglob("*.jpg")), "make a thumbnail")
    (kept,) = derived.rglob("*.jpg")
    with urllib.request.urlopen(f"{server.dicom_web_url}/studies/{CINE.study}/thumbnail") as answer:
        assert answer.read() == kept.read_bytes()
    server.wait_until(lambda: any(derived.rglob("*.zst")), "make the metadata of the series")


def test_the_processes_end_with_the_server(start_isocenter: Callable[..., Isocenter]) -> None:
    server = start_isocenter()
    client = sent(server)
    client.retrieve_instance_rendered(CINE.study, CINE.series, CINE.sop, media_types=("image/png",))
    workers = children_of(server.pid)
    assert workers
    server.terminate()
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
