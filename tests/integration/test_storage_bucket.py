"""What only a bucket has: signatures that are checked, links that work, addresses that do not answer."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

from isocenter.kit.clock import SystemClock
from isocenter.kit.errors import InvalidInput, Unavailable
from isocenter.platform.storage.interface import InMemory, OnDisk, PutOutcome
from isocenter.platform.storage.local import LocalStore
from isocenter.platform.storage.memory import MemoryStore
from isocenter.platform.storage.object_store import BucketStore
from isocenter.platform.storage.open import open_store


def connect(server, bucket: str, **changes: str) -> BucketStore:
    account = server.account
    given = {
        "endpoint": account.endpoint,
        "region": account.region,
        "access_key": account.access_key_id,
        "secret_key": account.secret_access_key,
    }
    return open_store(f"s3://{bucket}/archive", **{**given, **changes})


async def test_a_wrong_secret_is_refused(radosgw):
    bucket = radosgw.bucket()
    await connect(radosgw, bucket).put("there", InMemory([b"x"]))
    intruder = connect(radosgw, bucket, secret_key="wrong")
    for call in (intruder.get("there"), intruder.put("new", InMemory([b"x"])), intruder.delete("there")):
        with pytest.raises(Unavailable) as refusal:
            await call
        assert refusal.value.code == "storage-refused"
        assert "wrong" not in refusal.value.detail
    health = await intruder.health()
    assert not health.ok
    assert "access key" in health.problem
    assert await connect(radosgw, bucket).get("there") == b"x"


async def test_a_bucket_that_does_not_exist_is_named_as_such(radosgw):
    store = connect(radosgw, "no-such-bucket")
    with pytest.raises(Unavailable) as refusal:
        await store.put("key", InMemory([b"x"]))
    assert "bucket does not exist" in refusal.value.remedy
    with pytest.raises(Unavailable):
        await store.get("key")
    with pytest.raises(Unavailable):
        await anext(store.list())
    assert "bucket does not exist" in (await store.health()).problem


async def test_a_signed_link_reads_without_credentials_and_for_that_object_only(radosgw):
    store = connect(radosgw, radosgw.bucket())
    await store.put("a/one", InMemory([b"contents"]))
    await store.put("a/two", InMemory([b"others"]))
    link = await store.signed_url("a/one", expires_s=60)
    assert await asyncio.to_thread(fetch, link) == b"contents"
    with pytest.raises(urllib.error.HTTPError) as refusal:
        await asyncio.to_thread(fetch, link.replace("/a/one?", "/a/two?"))
    assert refusal.value.code == 403
    refusal.value.close()


async def test_links_are_signed_for_the_public_address(radosgw):
    store = connect(radosgw, radosgw.bucket(), public_endpoint="https://images.example")
    await store.put("a/one", InMemory([b"contents"]))
    assert (await store.signed_url("a/one")).startswith("https://images.example/")


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read()


async def test_an_old_object_is_renewed_when_it_is_put_again(radosgw):
    bucket = radosgw.bucket()
    await connect(radosgw, bucket).put("old", InMemory([b"contents"]))
    store = connect(radosgw, bucket)
    before = (await store.stat("old")).modified_at

    class LaterClock(SystemClock):
        def now(self):
            return super().now() + timedelta(days=2)

    later = BucketStore(store._bucket, clock=LaterClock())
    while (
        await store.stat("old")
    ).modified_at == before:  # radosgw's times have whole seconds in some answers
        assert await later.put("old", InMemory([b"contents"])) is PutOutcome.EXISTED
    assert await store.get("old") == b"contents"
    assert [info.key async for info in store.list()] == ["old"]


async def test_an_address_where_nobody_listens_is_told_within_seconds(free_port):
    store = open_store(
        "s3://bucket", endpoint=f"http://127.0.0.1:{free_port}", region="x", access_key="a", secret_key="b"
    )
    begin = time.monotonic()
    with pytest.raises(Unavailable) as refusal:
        await store.put("key", InMemory([b"x"]))
    assert refusal.value.retry_after_s
    assert time.monotonic() - begin < 10
    assert not (await store.health()).ok


async def test_a_large_file_is_uploaded_in_bounded_memory(radosgw, tmp_path):
    store = connect(radosgw, radosgw.bucket())
    spooled = tmp_path / "large"
    size = 200 << 20
    with spooled.open("wb") as file:
        file.truncate(size)
        file.write(os.urandom(1 << 20))
    peak_before = peak_resident_bytes()
    tracemalloc.start()
    try:
        assert await store.put("large", OnDisk(spooled)) is PutOutcome.CREATED
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert peak_resident_bytes() - peak_before < 100 << 20
    assert (await store.stat("large")).size == size


def peak_resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x", "s3://", "s3:///prefix", "s3://key:secret@bucket", "s3://bucket?secret=x",
        "file://elsewhere/srv", "file:", "file:///srv?x=1",
    ],
)  # fmt: skip
def test_a_wrong_storage_url_is_refused(url):
    with pytest.raises(InvalidInput) as refusal:
        open_store(url)
    assert refusal.value.code == "invalid-storage-url"


async def test_each_kind_of_url_opens_its_store(tmp_path):
    for url in (str(tmp_path / "plain"), f"file://{tmp_path}/with%20space"):
        local = open_store(url)
        assert isinstance(local, LocalStore)
        await local.close()
    assert (tmp_path / "with space").is_dir()
    assert isinstance(open_store("memory://"), MemoryStore)
    assert isinstance(open_store("s3://bucket?endpoint=http://127.0.0.1:1&region=r"), BucketStore)
    assert isinstance(
        open_store("az://container/prefix", access_key="account", secret_key="a2V5"), BucketStore
    )
