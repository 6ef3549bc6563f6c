"""The servers that other tests rely on start, answer, and are what they claim to be."""

from __future__ import annotations

import urllib.error
import urllib.request

import asyncpg
import pytest


async def test_each_test_has_a_database_of_its_own(postgres, postgres_url):
    connection = await asyncpg.connect(postgres_url)
    try:
        assert int(await connection.fetchval("SHOW server_version_num")) >= 150000
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await connection.execute("CREATE TABLE only_here (x int)")
    finally:
        await connection.close()
    with postgres.fresh_database() as other:
        connection = await asyncpg.connect(other)
        try:
            assert await connection.fetchval("SELECT to_regclass('only_here')") is None
        finally:
            await connection.close()


async def test_postgres_can_go_away_and_come_back(postgres, postgres_url):
    postgres.stop()
    try:
        with pytest.raises(OSError):
            await asyncpg.connect(postgres_url)
    finally:
        postgres.start()
    connection = await asyncpg.connect(postgres_url)
    await connection.close()


def test_radosgw_refuses_who_does_not_sign(radosgw):
    bucket = radosgw.bucket()
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{radosgw.account.endpoint}/{bucket}", timeout=10)
    assert refusal.value.code == 403
    refusal.value.close()


def test_orthanc_sends_what_it_was_given_to_storescp(orthanc, storescp, pydicom_test_files):
    small = next(path for path in pydicom_test_files if path.name == "CT_small.dcm")
    stored = orthanc.request("POST", "/instances", small.read_bytes())
    assert orthanc.request("GET", "/plugins/dicom-web")["ID"] == "dicom-web"
    orthanc.add_modality("receiver", ae_title=storescp.ae_title, port=storescp.port)
    orthanc.request("POST", "/modalities/receiver/store", stored["ID"])
    assert len(storescp.files()) == 1


def test_orthanc_is_empty_again(orthanc):
    assert orthanc.request("GET", "/patients") == []
    assert orthanc.request("GET", "/modalities") == []


def test_dcmtk_reaches_orthanc(orthanc, dcmtk):
    echo = dcmtk.run("echoscu", "-aec", orthanc.ae_title, "127.0.0.1", orthanc.dicom_port)
    assert echo.returncode == 0, echo.stdout
