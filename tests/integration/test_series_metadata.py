"""Metadata of series, kept as one compressed object: the same as the objects say, never older than the index,
nobody else's; and what the store, the sweep and the check make of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zstandard

from isocenter.features.archive import series_metadata
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.features.archive.retrieve import find_stored
from isocenter.features.archive.series_metadata import SeriesMetadata, data_sets, with_base
from isocenter.features.archive.spare_time import SpareTime
from isocenter.kit.clock import ManualClock
from isocenter.platform.storage.encrypted import EncryptedStore, KeyDestroyed
from isocenter.platform.storage.local import LocalStore
from services.archive import ORGANIZATION, Image, TestArchive, delete_for_good, opened
from services.data_keys import HeldDataKeys
from services.dicomweb import http_server
from services.schema import fresh_url

SETTLED_S = 60.0
BASE = "https://pacs.example/dicom-web"
STUDY = "1.2.3.1"
SERIES = "1.2.3.1.1"
NUL_TEXT = '{"BulkDataURI":"\\u0000 and a \0 of its own'
"""Looks like the place where a base is put in, and contains what stands there."""


def image(number: int = 1, series: str = SERIES, **more: str) -> Image:
    """With a value that is bulk data, and text that would like to be mistaken for its address."""
    extra = (
        (0x00081032, "LT", NUL_TEXT),
        (0x00200011, "IS", series.rpartition(".")[2]),
        (0x00200013, "IS", str(number)),
        (0x00420011, "OB", bytes(9000)),
    )
    return Image(sop=f"{series}.{number}", series=series, more=extra, **more)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def archive(url: str, tmp_path: Path) -> AsyncIterator[TestArchive]:
    clock = ManualClock(datetime.now(UTC))
    async with opened(url, tmp_path, clock=clock, conflict=ConflictPolicy.REPLACE) as made:
        yield made


@pytest.fixture
def kept(archive: TestArchive) -> SeriesMetadata:
    return metadata_of(archive)


def metadata_of(archive: TestArchive) -> SeriesMetadata:
    return SeriesMetadata(archive.database, archive.store, archive.clock, settled_s=SETTLED_S)


def pass_time(archive: TestArchive, seconds: float) -> None:
    assert isinstance(archive.clock, ManualClock)
    archive.clock.advance(seconds)


async def derived(archive: TestArchive) -> set[str]:
    return {key for key in await archive.keys() if "/derived/" in key}


async def live(archive: TestArchive, series: str = "", *, of: int = ORGANIZATION) -> bytes:
    instances = await find_stored(archive.database, of, STUDY, series)
    return b",".join([with_base(one, BASE) async for one in data_sets(archive.store, instances)])


async def given(
    kept: SeriesMetadata, archive: TestArchive, series: str = "", *, of: int = ORGANIZATION, base: str = BASE
) -> bytes:
    instances = await find_stored(archive.database, of, STUDY, series)
    return b"".join([piece async for piece in kept.json(of, instances, base)])


async def forget_originals(archive: TestArchive) -> None:
    """What is still given afterwards was kept."""
    for key in await archive.keys() - await derived(archive):
        await archive.store.delete(key)


# --- the same as the objects say -----------------------------------------------------------------------


async def test_what_is_kept_is_what_the_objects_say(archive: TestArchive, kept: SeriesMetadata) -> None:
    await archive.send(*(image(number) for number in (3, 1, 2)), image(1, "1.2.3.1.2"))
    wanted = {series: await live(archive, series) for series in ("", SERIES, "1.2.3.1.2")}
    assert wanted[""].count(b'"BulkDataURI":"https://pacs.example/dicom-web/studies/1.2.3.1/') == 8
    assert b"\0" not in wanted[""]
    first = {series: await given(kept, archive, series) for series in wanted}
    assert first == wanted
    await forget_originals(archive)
    assert {series: await given(kept, archive, series) for series in wanted} == wanted
    other = await given(kept, archive, SERIES, base='http://other/"\\')
    assert json.loads(b"[" + other + b"]")[0]["00420011"]["BulkDataURI"].startswith(
        'http://other/"\\/studies'
    )


async def test_pieces_of_any_size_make_the_same(
    archive: TestArchive, kept: SeriesMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archive.send(*(image(number) for number in range(1, 4)))
    wanted = await given(kept, archive)
    await forget_originals(archive)
    for bytes_at_once in (1, 3, 50, 1 << 20):
        monkeypatch.setattr(series_metadata, "_STEP_BYTES", bytes_at_once)
        assert await given(kept, archive) == wanted


async def test_it_is_made_when_the_series_has_settled(archive: TestArchive, kept: SeriesMetadata) -> None:
    await archive.send(image(1), image(2), image(1, "1.2.3.1.2"))
    assert (await kept.make_settled(SpareTime())).made == 0
    pass_time(archive, SETTLED_S + 1)
    assert (await kept.make_settled(SpareTime())).made == 2
    assert len(await derived(archive)) == 2
    assert (await kept.make_settled(SpareTime())).made == 0, "the cursor has moved on"
    wanted = await live(archive)
    await forget_originals(archive)
    assert await given(kept, archive) == wanted


async def test_what_is_too_large_is_answered_and_not_kept(
    archive: TestArchive, kept: SeriesMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_metadata, "_KEPT_BYTES_MAX", 100)
    await archive.send(image(1), image(2))
    assert await given(kept, archive) == await live(archive)
    assert not await derived(archive)


# --- never older than the index, nobody else's -----------------------------------------------------------


async def test_it_follows_every_change_at_once(archive: TestArchive, kept: SeriesMetadata) -> None:
    await archive.send(image(1), image(2))
    seen = [await given(kept, archive)]
    changes: list[Callable[[], Awaitable[object]]] = [
        lambda: archive.send(image(3)),
        lambda: archive.send(image(2, description="Another")),
        lambda: delete_for_good(
            archive.database, archive.clock, ORGANIZATION, STUDY, series=SERIES, instance=f"{SERIES}.1"
        ),
    ]
    for change in changes:
        await change()
        seen.append(await given(kept, archive))
        assert seen[-1] == await live(archive)
        assert await given(kept, archive) == seen[-1], "kept"
    assert len(set(seen)) == 4
    assert await archive.one("SELECT count(*) AS n FROM series_derived") == 1


async def test_another_edition_is_made_anew(
    archive: TestArchive, kept: SeriesMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archive.send(image(1))
    await given(kept, archive)
    (row,) = await archive.rows("SELECT made_of FROM series_derived")
    monkeypatch.setattr(series_metadata, "EDITION", "next")
    await given(kept, archive)
    assert await archive.rows("SELECT made_of FROM series_derived") != [row]


async def test_organizations_with_the_same_uids_share_nothing(
    archive: TestArchive, kept: SeriesMetadata
) -> None:
    theirs = await archive.add_organization("theirs")
    await archive.send(image(1, name="OURS^ONLY"))
    await archive.send(image(1, name="THEIRS^ONLY"), to=theirs)
    for _ in range(2):
        for mine, own, foreign in ((ORGANIZATION, b"OURS", b"THEIRS"), (theirs, b"THEIRS", b"OURS")):
            text = await given(kept, archive, of=mine)
            assert own in text and foreign not in text
            assert text == await live(archive, of=mine)
    assert sorted(key.partition("/")[0] for key in await derived(archive)) == ["1", str(theirs)]
    await archive.send(image(7), to=theirs)
    await archive.send(image(7))  # byte for byte the same: two objects all the same
    assert await given(kept, archive) == await live(archive)


# --- the store, the sweep, the check ---------------------------------------------------------------------


async def test_a_lost_object_is_made_again(archive: TestArchive, kept: SeriesMetadata) -> None:
    await archive.send(image(1), image(2))
    wanted = await given(kept, archive)
    (key,) = await derived(archive)
    await archive.store.delete(key)
    assert await given(kept, archive) == wanted
    assert await derived(archive) == {key}


@pytest.mark.parametrize("damage", [b"", b"not zstd", zstandard.compress(b'{"00100010":{}}')])
async def test_a_damaged_object_is_never_given(
    archive: TestArchive, kept: SeriesMetadata, damage: bytes
) -> None:
    await archive.send(image(1), image(2))
    wanted = await given(kept, archive)
    (key,) = await derived(archive)
    path = archive.store.local_path(key)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(damage)
    assert await given(kept, archive) == wanted


async def test_the_sweep_takes_what_is_out_of_use_and_no_more(
    archive: TestArchive, kept: SeriesMetadata
) -> None:
    await archive.send(image(1))
    await given(kept, archive)
    (old,) = await derived(archive)
    await archive.send(image(2))
    await given(kept, archive)
    assert len(await derived(archive)) == 2
    report = await archive.check.run(ORGANIZATION, adopt_orphans=True)
    assert report.healthy and report.adopted == 0
    pass_time(archive, 86_400)
    assert (await archive.sweep(timedelta(seconds=-1)).run()).removed == 1
    assert len(await derived(archive)) == 1 and old not in await derived(archive)
    await delete_for_good(archive.database, archive.clock, ORGANIZATION, STUDY)
    assert await archive.one("SELECT count(*) AS n FROM series_derived") == 0
    await archive.sweep(timedelta(seconds=-1)).run()
    assert not await archive.keys()


async def test_encrypted_stores_encrypt_it_and_a_destroyed_key_ends_it(url: str, tmp_path: Path) -> None:
    keys = HeldDataKeys()
    key_id = keys.rotate()
    store = EncryptedStore(LocalStore(tmp_path / "sealed"), keys)
    async with opened(url, tmp_path, clock=ManualClock(datetime.now(UTC)), store=store) as archive:
        kept = metadata_of(archive)
        await archive.send(image(1))
        wanted = await given(kept, archive)
        assert await given(kept, archive) == wanted == await live(archive)
        files = [path.read_bytes() for path in (tmp_path / "sealed").rglob("*") if path.is_file()]
        assert len([file for file in files if file]) == 2
        assert not any(b"DOE" in file or file.startswith(b"\x78\x9c") for file in files)
        keys.destroy(key_id)
        with pytest.raises(KeyDestroyed):
            await given(kept, archive)


# --- over HTTP -------------------------------------------------------------------------------------------


async def test_over_http(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        await server.store(*(image(number) for number in range(1, 5)), image(1, "1.2.3.1.2"))
        base = f"/studies/{STUDY}"
        single = [
            (await server.get(f"{base}/series/{SERIES}/instances/{SERIES}.{number}/metadata")).content
            for number in range(1, 5)
        ]
        joined = b"[" + b",".join(one[1:-1] for one in single) + b"]"
        for coding in ("identity", "gzip", "zstd"):
            path = f"{base}/series/{SERIES}/metadata"
            answer = await server.get(path, **{"Accept-Encoding": coding})
            assert answer.headers.get("content-encoding", "identity") == coding
            content = answer.content
            if coding == "zstd":
                content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
            assert content == joined
            again = await server.get(path, **{"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304
        whole = (await server.get(f"{base}/metadata")).json()
        assert len(whole) == 5 and whole[:4] == json.loads(joined)
        for one in whole:
            bulk = await server.client.get(one["00420011"]["BulkDataURI"])
            assert (bulk.status_code, bulk.content) == (200, bytes(9000))
        await forget_originals(server.archive)
        assert (await server.get(f"{base}/series/{SERIES}/metadata")).content == joined
        assert (await server.get(f"{base}/series/{SERIES}/instances/{SERIES}.1/metadata")).status_code == 500
