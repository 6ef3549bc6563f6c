"""Data keys in the index and the master key around them, on both databases."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.features.encryption.keyring import TRUSTED_S, KeyRing, organization_of
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict, InternalError, InvalidInput, Unavailable
from isocenter.platform.db import Database, Sql, Work, open_database
from isocenter.platform.security.keys import (
    MasterKey,
    WrongMasterKey,
    load_master_key,
    make_master_key_file,
    open_to_others,
)
from isocenter.platform.storage.encrypted import EncryptedStore, KeyDestroyed
from isocenter.platform.storage.interface import InMemory
from isocenter.platform.storage.memory import MemoryStore
from services.schema import fresh_url

KEY, HERS = "1/ab/abcdef", "2/ab/abcdef"
ADD_ORGANIZATION = Sql(
    "INSERT INTO organization (id, slug, name, settings, created_at_us) "
    "VALUES (:organization_id, 'other', '', '{}', 0)"
)
SWAP_OWNER = Sql("UPDATE data_key SET organization_id = :organization_id WHERE organization_id = 1")


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    with fresh_url(request, request.param, tmp_path) as url:
        opened = await open_database(url)
        await opened.write_across(run, ADD_ORGANIZATION, 2)
        yield opened
        await opened.close()


@pytest.fixture
def master() -> MasterKey:
    return MasterKey(os.urandom(32))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def run(statement: Sql, organization_id: int) -> Work[None]:
    yield statement(organization_id=organization_id)


async def test_each_organisation_gets_a_key_of_its_own_once(database, master, clock):
    rings = [KeyRing(database, master, clock) for _ in range(4)]
    active = await asyncio.gather(*[ring.active(KEY) for ring in rings for _ in range(5)])
    assert len({key.secret for key in active}) == 1
    hers = await rings[0].active(HERS)
    assert hers.secret != active[0].secret
    for ring, key_id in ((rings[0], hers.id), (rings[1], os.urandom(16))):
        with pytest.raises(InternalError) as refusal:
            await ring.find(KEY, key_id)
        assert refusal.value.code == "data-key-unknown"
    assert await rings[0].check() == 2


async def test_a_wrong_master_key_is_refused_before_anything_is_written(database, master, clock):
    await KeyRing(database, master, clock).active(KEY)
    wrong = KeyRing(database, MasterKey(os.urandom(32)), clock)
    with pytest.raises(WrongMasterKey) as refusal:
        await wrong.check()
    assert "master key" in refusal.value.detail
    with pytest.raises(Unavailable):
        await wrong.rotate(1)
    with pytest.raises(Unavailable):
        await wrong.active(KEY)
    with pytest.raises(Unavailable):
        await wrong.active(HERS)  # an organisation without keys: hers would open for nobody else
    with pytest.raises(InvalidInput) as unset:
        await KeyRing(database, None, clock).check()
    assert unset.value.code == "master-key-not-set"
    assert len(await wrong.status()) == 1


async def test_a_key_cannot_be_passed_off_as_another_organisations(database, master, clock):
    await KeyRing(database, master, clock).active(KEY)
    await database.write_across(run, SWAP_OWNER, 2)
    with pytest.raises(WrongMasterKey):
        await KeyRing(database, master, clock).check()


async def test_rotating_the_data_key_keeps_the_old_one(database, master, clock):
    ring, elsewhere = KeyRing(database, master, clock), KeyRing(database, master, clock)
    old = await ring.active(KEY)
    assert await elsewhere.active(KEY) == old
    await ring.rotate(1)
    new = await ring.active(KEY)
    assert new != old
    assert await ring.find(KEY, old.id) == old
    assert await elsewhere.find(KEY, new.id) == new  # looked up at once, since it is needed
    clock.advance(TRUSTED_S)
    assert await elsewhere.active(KEY) == new
    assert [key.state for key in await ring.status()] == ["retired", "active"]


async def test_rotating_the_master_key_touches_no_object(database, master, clock):
    inner = MemoryStore()
    ring, elsewhere = KeyRing(database, master, clock), KeyRing(database, master, clock)
    await EncryptedStore(inner, ring).put(KEY, InMemory([b"slice"]))
    await ring.rotate(1)
    assert await EncryptedStore(inner, elsewhere).get(KEY) == b"slice"
    before = {info.key: await inner.get(info.key) async for info in inner.list()}
    new = MasterKey(os.urandom(32))
    assert await ring.rotate_master(new) == 2
    assert {info.key: await inner.get(info.key) async for info in inner.list()} == before
    with pytest.raises(WrongMasterKey):
        await KeyRing(database, master, clock).check()
    fresh = KeyRing(database, new, clock)
    assert await fresh.check() == 2
    assert await EncryptedStore(inner, fresh).get(KEY) == b"slice"
    clock.advance(TRUSTED_S)
    assert await EncryptedStore(inner, elsewhere).get(KEY) == b"slice"  # runs on with what it has opened
    with pytest.raises(Unavailable, match="exchanged"):
        await elsewhere.rotate(1)


async def test_a_server_goes_on_when_keys_and_master_key_are_exchanged_behind_its_back(
    database, master, clock
):
    inner = MemoryStore()
    ring, elsewhere = KeyRing(database, master, clock), KeyRing(database, master, clock)
    store = EncryptedStore(inner, elsewhere)
    await store.put(KEY, InMemory([b"slice"]))
    await ring.rotate(1)
    await ring.rotate_master(MasterKey(os.urandom(32)))
    await EncryptedStore(inner, ring).put("1/ab/newer", InMemory([b"newer"]))
    clock.advance(TRUSTED_S)
    assert await store.get(KEY) == b"slice"
    await store.put("1/ab/next", InMemory([b"next"]))
    assert await EncryptedStore(inner, ring).get("1/ab/next") == b"next"
    with pytest.raises(Unavailable, match="exchanged"):
        await store.get("1/ab/newer")
    await ring.destroy(1)
    clock.advance(TRUSTED_S)
    with pytest.raises(KeyDestroyed):
        await store.get(KEY)
    with pytest.raises(Conflict):
        await store.put("1/ab/last", InMemory([b"last"]))


async def test_a_failed_rotation_of_the_master_key_changes_nothing(database, master, clock):
    ring = KeyRing(database, master, clock)
    await ring.active(KEY)
    before = await ring.status()
    with pytest.raises(WrongMasterKey):
        await KeyRing(database, MasterKey(os.urandom(32)), clock).rotate_master(MasterKey(os.urandom(32)))
    assert await ring.status() == before


async def test_a_destroyed_key_takes_its_organisations_objects_and_no_others(database, master, clock):
    inner = MemoryStore()
    ring, elsewhere = KeyRing(database, master, clock), KeyRing(database, master, clock)
    store = EncryptedStore(inner, ring)
    await store.put(KEY, InMemory([b"his"]))
    await store.put(HERS, InMemory([b"hers"]))
    assert await EncryptedStore(inner, elsewhere).get(KEY) == b"his"
    await ring.rotate(1)
    assert await ring.destroy(1) == 2
    assert await store.get(HERS) == b"hers"
    for one in (store, EncryptedStore(inner, KeyRing(database, master, clock))):
        with pytest.raises(KeyDestroyed, match="nobody can read it"):
            await one.get(KEY)
        with pytest.raises(Conflict) as refusal:
            await one.put("1/ab/new", InMemory([b"new"]))
        assert refusal.value.code == "data-keys-destroyed"
    clock.advance(TRUSTED_S)
    with pytest.raises(KeyDestroyed):
        await EncryptedStore(inner, elsewhere).get(KEY)
    await ring.rotate(1)
    await store.put(KEY, InMemory([b"his"]))
    assert await store.get(KEY) == b"his"


def test_a_key_belongs_to_the_organisation_that_its_object_names():
    assert organization_of("12/ab/x") == organization_of("damaged/12/ab/x.1234") == 12
    for key in ("default/ab/x", "x", "damaged/x", "-1/x"):
        with pytest.raises(InvalidInput):
            organization_of(key)


class TestMasterKeySources:
    def test_a_file_is_made_once_and_read_by_its_owner_only(self, tmp_path: Path):
        file = tmp_path / "secrets" / "master.key"
        made = make_master_key_file(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert load_master_key(file=file) == made
        assert not open_to_others(file)
        with pytest.raises(Conflict):
            make_master_key_file(file)
        file.chmod(0o640)
        assert open_to_others(file)

    def test_value_and_command(self, tmp_path: Path):
        text = base64.b64encode(bytes(range(32))).decode()
        (tmp_path / "k").write_text(text + "\n")
        assert load_master_key(value=text) == load_master_key(command=f"cat {tmp_path / 'k'}")
        assert load_master_key() is None

    @pytest.mark.parametrize("text", ["", "secret", base64.b64encode(bytes(31)).decode(), "é" * 44])
    def test_what_is_no_key_is_refused_and_not_quoted(self, tmp_path: Path, text: str):
        (tmp_path / "k").write_text(text)
        for source in ({"file": tmp_path / "k"}, {"command": f"cat {tmp_path / 'k'}"}):
            with pytest.raises(InvalidInput) as refusal:
                load_master_key(**source)
            assert not text or text not in refusal.value.detail + refusal.value.remedy

    def test_a_source_that_is_silent_is_told_in_words(self, tmp_path: Path):
        sources = ({"file": tmp_path / "none"}, {"command": "false"}, {"command": "/none"}, {"command": "'"})
        for source in sources:
            with pytest.raises(Unavailable) as refusal:
                load_master_key(**source)
            assert refusal.value.code == "master-key-missing"
            assert refusal.value.remedy

    def test_a_master_key_shows_nothing_of_itself(self, master: MasterKey):
        assert master.secret.hex() not in repr(master) + master.id
