"""dicomweb-client, the DICOMweb client of the Python world, and the real server."""

from __future__ import annotations

import io
import json
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from requests import HTTPError

from isocenter.doors.dicomweb.representations import FRAME_TYPES
from services.isocenter import Isocenter
from services.rendered_files import stored
from services.series import new_series
from services.stow import OCTETS, message


@pytest.fixture
def client(isocenter: Isocenter) -> DICOMwebClient:
    return DICOMwebClient(isocenter.dicom_web_url)


def test_store_search_retrieve_delete(client: DICOMwebClient) -> None:
    images = new_series(4, name="WEB^CLIENT", pixels=100_000)
    study, series = images[0].study, images[0].series
    answer = client.store_instances([pydicom.dcmread(io.BytesIO(image.file)) for image in images])
    assert len(answer.ReferencedSOPSequence) == 4
    assert "FailedSOPSequence" not in answer

    [found] = client.search_for_studies(search_filters={"PatientName": "WEB*"}, fields=["StudyDescription"])
    assert found["0020000D"]["Value"] == [study]
    [found] = client.search_for_series(study, search_filters={"Modality": "CT"})
    assert found["0020000E"]["Value"] == [series]
    found_instances = client.search_for_instances(study, series, limit=3)
    assert [one["00080018"]["Value"][0] for one in found_instances] == [image.sop for image in images[:3]]
    rest = client.search_for_instances(study, offset=3)
    assert [one["00080018"]["Value"][0] for one in rest] == [images[3].sop]

    expected = {image.sop: image.pixels for image in images}
    assert {one.SOPInstanceUID: one.PixelData for one in client.retrieve_study(study)} == expected
    assert {one.SOPInstanceUID: one.PixelData for one in client.retrieve_series(study, series)} == expected
    one = client.retrieve_instance(study, series, images[1].sop)
    assert one == pydicom.dcmread(io.BytesIO(images[1].file))

    for metadata in (
        client.retrieve_study_metadata(study),
        client.retrieve_series_metadata(study, series),
        [client.retrieve_instance_metadata(study, series, image.sop) for image in images],
    ):
        assert {item["00080018"]["Value"][0] for item in metadata} == expected.keys()
        loaded = pydicom.Dataset.from_json(metadata[0], bulk_data_uri_handler=lambda uri: b"")
        assert loaded.PatientName == "WEB^CLIENT"

    client.delete_instance(study, series, images[0].sop)
    assert len(client.search_for_instances(study)) == 3
    client.delete_series(study, series)
    assert client.search_for_studies(search_filters={"StudyInstanceUID": study}) == []
    with pytest.raises(HTTPError) as gone:
        client.delete_study(study)
    assert gone.value.response.status_code == 404


def test_bulk_data_is_where_the_metadata_says(client: DICOMwebClient) -> None:
    [image] = new_series(1, pixels=50_000)
    client.store_instances([pydicom.dcmread(io.BytesIO(image.file))])
    [metadata] = client.retrieve_series_metadata(image.study, image.series)
    [content] = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert content == image.pixels


def test_failures_are_told(client: DICOMwebClient) -> None:
    good, bad = new_series(2)
    answer = client.store_instances(
        [pydicom.dcmread(io.BytesIO(one.file)) for one in (good, bad.but(modality=None))]
    )
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [good.sop]
    [failure] = answer.FailedSOPSequence
    assert failure.ReferencedSOPInstanceUID == bad.sop
    assert failure.FailureReason == 0xA900
    with pytest.raises(HTTPError) as missing:
        client.retrieve_study("1.2.3.4.5.6.7")
    assert missing.value.response.status_code == 404


def test_compressed_objects_come_as_they_are(client: DICOMwebClient, pydicom_test_files: list[Path]) -> None:
    path = next(path for path in pydicom_test_files if path.name == "MR_small_RLE.dcm")
    source = pydicom.dcmread(path)
    client.store_instances([source])
    uids = (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)
    rle = source.file_meta.TransferSyntaxUID
    got = client.retrieve_instance(*uids, media_types=(("application/dicom", rle),))
    assert got.file_meta.TransferSyntaxUID == rle
    assert got == source


def test_metadata_and_bulk_data_go_back_as_they_came(
    client: DICOMwebClient, isocenter: Isocenter, pydicom_test_files: list[Path]
) -> None:
    """What the client read of an instance is stored again under another UID, compressed frames too."""
    names = ("CT_small.dcm", "MR_small_RLE.dcm", "emri_small_jpeg_2k_lossless.dcm", "examples_jpeg2k.dcm")
    for path in (path for path in pydicom_test_files if path.name in names):
        source = pydicom.dcmread(path)
        client.store_instances([source])
        uids = (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)
        metadata = client.retrieve_instance_metadata(*uids)
        metadata["00080018"]["Value"] = [f"{uids[2][:56]}.7"]
        syntax = source.file_meta.TransferSyntaxUID
        uri = metadata["7FE00010"]["BulkDataURI"]
        if syntax.is_compressed:
            frame_type = FRAME_TYPES[syntax]
            frames = int(source.get("NumberOfFrames", 1))
            bulk = client.retrieve_instance_frames(
                *uids,
                frame_numbers=[*range(1, frames + 1)],
                media_types=((frame_type, str(syntax)),),
            )
            kind = f"{frame_type}; transfer-syntax={syntax}"
        else:
            bulk, kind = client.retrieve_bulkdata(uri), OCTETS
        body, headers = message([json.dumps([metadata]).encode()], [(kind, uri, one) for one in bulk])
        answer = requests.post(f"{isocenter.dicom_web_url}/studies", data=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        again = client.retrieve_instance(
            *uids[:2], metadata["00080018"]["Value"][0], media_types=(("application/dicom", "*"),)
        )
        assert again.file_meta.TransferSyntaxUID == (
            syntax if syntax.is_compressed else "1.2.840.10008.1.2.1"
        )
        again.SOPInstanceUID = source.SOPInstanceUID
        for kept in (again, source):
            kept.pop("SpecificCharacterSet", None)
            kept.pop("DataSetTrailingPadding", None)
        with_pixels = (again.pixel_array == source.pixel_array).all()
        assert with_pixels, path.name
        del again.PixelData, source.PixelData
        assert again == source, path.name


def test_frames_come_alone_and_transcoded(client: DICOMwebClient) -> None:
    frames = np.stack([np.full((16, 24), 50 * number, np.uint8) for number in range(5)])
    image = stored(frames, study="1.2.3.76", series="1.2.3.76.1", sop="1.2.3.76.1.1", modality="US")
    client.store_instances([pydicom.dcmread(io.BytesIO(image.file))])
    names = (image.study, image.series, image.sop)
    plain = client.retrieve_instance_frames(*names, [5, 2])
    assert plain == [frames[4].tobytes(), frames[1].tobytes()]
    assert list(client.iter_instance_frames(*names, [1])) == [frames[0].tobytes()]
    jpeg_2000 = client.retrieve_instance_frames(
        *names, [3], media_types=(("image/jp2", "1.2.840.10008.1.2.4.90"),)
    )
    assert (imagecodecs.jpeg2k_decode(jpeg_2000[0]) == frames[2]).all()
    with pytest.raises(HTTPError) as missing:
        client.retrieve_instance_frames(*names, [6])
    assert missing.value.response.status_code == 404


def test_a_range_of_a_multipart_answer_is_the_whole(client: DICOMwebClient) -> None:
    """The client asks for multipart, of which a range would be no use: Range is ignored (RFC 9110 §14.2)."""
    [image] = new_series(1, pixels=50_000)
    client.store_instances([pydicom.dcmread(io.BytesIO(image.file))])
    [metadata] = client.retrieve_series_metadata(image.study, image.series)
    url = metadata["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(url, byte_range=(100, 299)) == [image.pixels]
