"""A disk that is full, read-only, broken or gone: typed errors, nothing half-stored, and back to work."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Conflict, InternalError, OutOfSpace, Unavailable
from isocenter.platform.storage import folder as folder_module
from isocenter.platform.storage.interface import InMemory, OnDisk, PutOutcome
from isocenter.platform.storage.local import LocalStore


@pytest.fixture(params=["nameless", "named"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalStore]:
    """On a file system with files that have no name, and on one without."""
    with monkeypatch.context() as older:
        if request.param == "named":
            older.delattr(os, "O_TMPFILE")
        opened = LocalStore(tmp_path / "objects")
    yield opened
    await opened.close()


def break_call(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def fails(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder_module.os, call, fails)


@pytest.mark.parametrize("call", ["writev", "fdatasync", "mkdir", "link", "fsync"])
@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, OutOfSpace),
        (errno.EDQUOT, OutOfSpace),
        (errno.EROFS, Unavailable),
        (errno.EACCES, Unavailable),
        (errno.EIO, Unavailable),
        (errno.EPERM, Unavailable),
        (errno.ESTALE, Unavailable),
    ],
)
async def test_each_step_of_a_put_may_fail(store, tmp_path, monkeypatch, call, number, error):
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"x" * 1000)
    with monkeypatch.context() as broken:
        break_call(broken, call, number)
        with pytest.raises(error) as refusal:
            await store.put("a/b/memory", InMemory([b"x" * 1000]))
        assert refusal.value.remedy
        if call != "writev":
            with pytest.raises(error):
                await store.put("a/b/disk", OnDisk(spooled))
    assert not list(store.incoming.iterdir())
    if call != "writev":
        assert spooled.exists()
        await store.put("a/b/disk", OnDisk(spooled))
    await store.put("a/b/memory", InMemory([b"x" * 1000]))  # back to work by itself
    assert await store.get("a/b/memory") == b"x" * 1000


async def test_short_writes_are_continued(store, monkeypatch):
    original = os.writev

    def writes_a_little(descriptor, views):
        return original(descriptor, [views[0][:777]])

    monkeypatch.setattr(folder_module.os, "writev", writes_a_little)
    data = os.urandom(10_000)
    await store.put("pieces", InMemory([data[:5000], data[5000:]]))
    assert await store.get("pieces") == data


async def test_contents_are_durable_before_their_name_and_the_name_before_the_answer(
    store, request, monkeypatch
):
    cleared = ["unlink"] if "named" in request.node.callspec.params.values() else []
    calls: list[str] = []

    def record(name: str) -> None:
        original = getattr(os, name)

        def recorded(*args, **kwargs):
            calls.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(folder_module.os, name, recorded)

    for name in ("writev", "fdatasync", "mkdir", "link", "fsync", "unlink"):
        record(name)
    await store.put("a/b/new", InMemory([b"x"]))
    assert calls == ["writev", "fdatasync", "mkdir", "fsync", "mkdir", "fsync", "link", "fsync", *cleared]
    calls.clear()
    await store.put("a/b/second", InMemory([b"x"]))
    assert calls == ["writev", "fdatasync", "link", "fsync", *cleared]
    calls.clear()
    assert await store.put("a/b/second", InMemory([b"x"])) is PutOutcome.EXISTED
    assert calls == ["fsync"]


async def test_a_file_of_another_file_system_is_copied(store, tmp_path, monkeypatch):
    original, refused = os.link, []

    spooled = tmp_path / "spooled"

    def link(source, target, **how):
        if source == str(spooled):
            refused.append(source)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        original(source, target, **how)

    monkeypatch.setattr(folder_module.os, "link", link)
    data = os.urandom(3_000_000)
    spooled.write_bytes(data)
    assert await store.put("from/elsewhere", OnDisk(spooled)) is PutOutcome.CREATED
    assert refused
    assert not spooled.exists()
    assert await store.get("from/elsewhere") == data


async def test_a_folder_that_was_replaced_gets_the_object(store, tmp_path):
    """What is open is not what the path leads to any more: somebody restored a backup, say."""
    await store.put("a/b/first", InMemory([b"x"]))
    (tmp_path / "objects/a/b").rename(tmp_path / "aside")
    (tmp_path / "aside/first").unlink()
    (tmp_path / "aside").rmdir()
    (tmp_path / "objects/a/b").mkdir()
    await store.put("a/b/second", InMemory([b"y"]))
    assert await store.get("a/b/second") == b"y"


async def test_a_spooled_file_that_is_gone_is_our_own_fault(store, tmp_path):
    with pytest.raises(InternalError):
        await store.put("a/b", OnDisk(tmp_path / "gone"))


async def test_a_disk_that_is_unmounted_is_not_mistaken_for_an_empty_archive(store, tmp_path):
    await store.put("a/b", InMemory([b"x"]))
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    (tmp_path / "objects").mkdir()
    for call in (
        store.get("a/b"),
        store.stat("a/b"),
        store.delete("a/b"),
        store.put("a/c", InMemory([b"x"])),
    ):
        with pytest.raises(Unavailable) as refusal:
            await call
        assert "mount" in refusal.value.remedy
    with pytest.raises(Unavailable):
        await anext(store.list())
    health = await store.health()
    assert not health.ok
    assert "mount" in health.problem
    (tmp_path / "objects").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "objects")
    assert await store.get("a/b") == b"x"
    assert (await store.health()).free_bytes > 0


async def test_folders_that_somebody_removed_are_made_again(store, tmp_path):
    await store.put("a/b/c/one", InMemory([b"x"]))
    await store.delete("a/b/c/one")
    (tmp_path / "objects/a/b/c").rmdir()
    (tmp_path / "objects/a/b").rmdir()
    assert await store.put("a/b/c/two", InMemory([b"x"])) is PutOutcome.CREATED


async def test_a_key_cannot_be_inside_of_an_object(store):
    await store.put("a/b", InMemory([b"x"]))
    for key in ("a/b/c", "a/b/c/d", "a"):
        with pytest.raises(Conflict) as refusal:
            await store.put(key, InMemory([b"x"]))
        assert refusal.value.code == "object-key-is-folder"
        assert await store.stat(key) is None
        assert await store.delete(key) is False


async def test_links_and_strangers_in_the_folder_are_not_objects(store, tmp_path):
    await store.put("a/b", InMemory([b"x"]))
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "objects/a/link").symlink_to(secret)
    (tmp_path / "objects/a/folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "objects/a/pipe")
    assert [info.key async for info in store.list()] == ["a/b"]
    assert await store.stat("a/link") is None
    assert await store.stat("a/pipe") is None


async def test_recover_removes_what_a_crash_left_and_nothing_newer(store):
    old, new = store.incoming / "old", store.incoming / "new"
    for file in (old, new):
        file.write_bytes(b"half")
    before = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
    os.utime(old, (before, before))
    assert await store.recover() == 1
    assert [path.name for path in store.incoming.iterdir()] == ["new"]
    assert await store.recover(older_than=datetime.now(UTC) + timedelta(seconds=1)) == 1


async def test_putting_again_makes_an_old_object_new_for_the_sweep(store):
    await store.put("a/b", InMemory([b"x"]))
    before = datetime.now(UTC) - timedelta(days=3)
    os.utime(store.local_path("a/b"), (before.timestamp(), before.timestamp()))
    sweep_before = datetime.now(UTC) - timedelta(days=1)
    assert await store.put("a/b", InMemory([b"x"])) is PutOutcome.EXISTED
    assert await store.delete("a/b", unmodified_since=sweep_before) is False
    assert await store.get("a/b") == b"x"


async def test_a_file_that_waited_in_a_batch_is_new_when_it_becomes_an_object(store, tmp_path):
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"x")
    os.utime(spooled, (0, 0))
    await store.put("a/b", OnDisk(spooled))
    assert datetime.now(UTC) - (await store.stat("a/b")).modified_at < timedelta(minutes=1)


async def test_a_sweep_never_wins_against_a_put_of_the_same_object(store):
    """Whoever hears EXISTED or CREATED finds the object afterwards, whatever a sweep does meanwhile."""
    data = [b"x" * 1000]
    for number in range(150):
        key = f"raced/{number}"
        await store.put(key, InMemory(data))
        os.utime(store.local_path(key), (0, 0))
        a_day_ago = datetime.now(UTC) - timedelta(days=1)
        await asyncio.gather(
            store.put(key, InMemory(data)),
            store.delete(key, unmodified_since=a_day_ago),
            store.put(key, InMemory(data)),
            store.delete(key, unmodified_since=a_day_ago),
        )
        assert await store.get(key) == data[0]


async def test_a_renewal_waits_for_a_deletion_that_has_looked_already(store, monkeypatch):
    await store.put("a/b", InMemory([b"x"]))
    os.utime(store.local_path("a/b"), (0, 0))
    looked, put_is_there = threading.Event(), threading.Event()
    flock, utime, unlink = fcntl.flock, os.utime, os.unlink

    def shared_lock(descriptor, mode):
        if mode == fcntl.LOCK_SH:
            put_is_there.set()
        flock(descriptor, mode)

    def renew(path):
        utime(path)
        put_is_there.set()  # what a put without a lock would come to

    def delete(path):
        if str(path).endswith("a/b"):
            looked.set()
            assert put_is_there.wait(30)
        unlink(path)

    monkeypatch.setattr(folder_module.fcntl, "flock", shared_lock)
    monkeypatch.setattr(folder_module.os, "utime", renew)
    monkeypatch.setattr(folder_module.os, "unlink", delete)
    sweeping = asyncio.create_task(
        store.delete("a/b", unmodified_since=datetime.now(UTC) - timedelta(days=1))
    )
    await asyncio.to_thread(looked.wait, 30)
    assert await store.put("a/b", InMemory([b"x"])) is PutOutcome.CREATED
    assert await sweeping is True
    assert await store.get("a/b") == b"x"


async def test_a_cancelled_put_ends_before_its_buffers_are_used_again(store, monkeypatch):
    started, proceed = threading.Event(), threading.Event()
    original = os.fdatasync

    def waits(descriptor):
        started.set()
        assert proceed.wait(30)
        original(descriptor)

    monkeypatch.setattr(folder_module.os, "fdatasync", waits)
    putting = asyncio.create_task(store.put("a/b", InMemory([b"x"])))
    await asyncio.to_thread(started.wait, 30)
    putting.cancel()
    done, _ = await asyncio.wait([putting], timeout=0)
    assert not done
    putting.cancel()
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await store.get("a/b") == b"x"


async def test_a_closed_store_says_so(tmp_path):
    store = LocalStore(tmp_path / "objects")
    await store.close()
    with pytest.raises(Unavailable) as refusal:
        await store.get("a")
    assert refusal.value.code == "storage-closed"


def test_a_folder_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable) as refusal:
        LocalStore(tmp_path / "file" / "objects")
    assert refusal.value.remedy


async def test_a_signed_link_holds_for_its_object_and_its_time(tmp_path):
    clock = ManualClock()
    store = LocalStore(
        tmp_path, url_base="https://archive.example/", signing_key=b"0123456789abcdef", clock=clock
    )
    url = urlsplit(await store.signed_url("a/b", expires_s=60))
    assert (url.netloc, url.path) == ("archive.example", "/objects/a/b")
    query = parse_qs(url.query)
    expires, signature = int(query["expires"][0]), query["signature"][0]
    assert store.verify_signature("a/b", expires, signature, clock.now())
    assert not store.verify_signature("a/c", expires, signature, clock.now())
    assert not store.verify_signature("a/b", expires + 1, signature, clock.now())
    assert not store.verify_signature("a/b", expires, signature[:-1] + "ä", clock.now())
    clock.advance(60)
    assert not store.verify_signature("a/b", expires, signature, clock.now())
    await store.close()
