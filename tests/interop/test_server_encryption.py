"""A running server whose objects are encrypted, and the commands that work on its keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.archive import Image
from services.isocenter import Isocenter, s3_flags
from services.processes import ServiceFailed
from services.schema import fresh_url

IMAGE = Image(pixels=b"PIXELDATA!" * 20_000)
OTHER = IMAGE.but(sop="1.2.3.1.1.2")
Start = Callable[..., Isocenter]


on_both = pytest.mark.parametrize("start", ["sqlite", "postgresql"], indirect=True)
"""Where the keys are what it is about: objects do not know which database lists them."""


@pytest.fixture(params=["sqlite"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Servers over one data folder and one database, one after the other or beside one another."""
    with ExitStack() as running, fresh_url(request, request.param, tmp_path) as url:
        count = 0

        def begin(*flags: str, environ: dict[str, str] | None = None) -> Isocenter:
            nonlocal count
            count += 1
            server = Isocenter(
                tmp_path / f"server-{count}",
                *("--database-url", url, *flags),
                environ=environ,
                data_folder=tmp_path / "data",
            )
            running.callback(server.stop)
            return server

        yield begin


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.key"


def on(key_file: Path) -> tuple[str, ...]:
    return ("--encryption", "on", "--encryption-master-key-file", str(key_file))


@pytest.fixture
def master(start: Start, key_file: Path) -> Path:
    """A master key as ``isocenter encryption init`` makes it, for an archive that holds one plain object."""
    server = start()
    server.store([OTHER])
    made = server.run("encryption", "init", "--encryption-master-key-file", key_file)
    assert made.returncode == 0, made.stderr
    assert server.terminate() == 0
    return key_file


def sealed(server: Isocenter) -> list[bool]:
    return [path.name.endswith(".iso1") for path in server.objects()]


def test_objects_are_ciphertext_and_read_as_they_were_sent(start, master):
    server = start(*on(master))
    server.store([IMAGE])
    assert sorted(sealed(server)) == [False, True]
    [stored] = [path for path in server.objects() if path.name.endswith(".iso1")]
    assert b"PIXELDATA!" not in stored.read_bytes()
    assert b"DOE^JANE" not in stored.read_bytes()
    assert server.stored_file(IMAGE) == IMAGE.file
    assert server.stored_file(OTHER) == OTHER.file  # from before
    checked = server.run("storage", "check")
    assert (checked.returncode, "Index and store agree" in checked.stdout) == (0, True), checked

    encrypted = server.run("storage", "encrypt")
    assert encrypted.stdout == "1 objects encrypted.\n", encrypted
    assert sealed(server) == [True, True]
    assert server.stored_file(OTHER) == OTHER.file
    assert server.run("storage", "check").returncode == 0


def test_a_damaged_object_is_told_moved_aside_and_healed_by_sending_it_again(start, master):
    server = start(*on(master))
    server.store([IMAGE])
    [stored] = [path for path in server.objects() if path.name.endswith(".iso1")]
    raw = bytearray(stored.read_bytes())
    raw[len(raw) // 2] ^= 1
    stored.write_bytes(raw)
    checked = server.run("storage", "check")
    assert (checked.returncode, "1 objects whose bytes have changed" in checked.stdout) == (1, True), checked
    assert server.run("storage", "check", "--repair").returncode == 1
    [aside] = (server.data_folder / "objects" / "damaged").rglob("*.iso1.*")
    assert aside.read_bytes() == raw
    server.store([IMAGE])
    assert server.stored_file(IMAGE) == IMAGE.file
    assert server.run("storage", "check").returncode == 0


@on_both
def test_several_processes_share_the_keys(start, master, tmp_path):
    servers = [start(*on(master)), start(*on(master))]
    servers[0].store([IMAGE])
    folder = tmp_path / "cd"
    folder.mkdir()
    (folder / "one.dcm").write_bytes(IMAGE.but(sop="1.2.3.1.1.3").file)
    imported = servers[1].run("import", folder)
    assert imported.returncode == 0, imported.stderr
    assert servers[1].stored_file(IMAGE) == IMAGE.file
    assert servers[0].stored_file(IMAGE.but(sop="1.2.3.1.1.3")) == IMAGE.but(sop="1.2.3.1.1.3").file
    keys = json.loads(servers[0].run("encryption", "status", "--json").stdout)["keys"]
    assert [key["state"] for key in keys] == ["active"]


@on_both
def test_keys_rotate_and_are_destroyed(start, master, tmp_path):
    server = start(*on(master))
    server.store([IMAGE])
    assert server.run("encryption", "rotate-data", "--org", "default").returncode == 0
    assert server.run("encryption", "rotate-data", "--org", "nobody").returncode == 1
    new = tmp_path / "keys" / "new.key"
    rotated = server.run("encryption", "rotate-master", "--new-key-file", new)
    assert rotated.stdout.startswith("2 data keys"), rotated
    assert server.stored_file(IMAGE) == IMAGE.file
    assert server.terminate() == 0
    server = start(*on(new))
    assert server.stored_file(IMAGE) == IMAGE.file
    refused = server.run("encryption", "destroy-key", "--org", "default")  # nobody types the name
    assert refused.returncode == 1
    assert server.stored_file(IMAGE) == IMAGE.file
    assert server.run("encryption", "destroy-key", "--org", "default", "--yes").returncode == 0
    assert server.terminate() == 0
    server = start(*on(new))
    path = f"/dicom-web/studies/{IMAGE.study}/series/{IMAGE.series}/instances/{IMAGE.sop}"
    status, body = server.request("GET", path, headers={"Accept": "multipart/related; type=*/*"})
    assert (status, json.loads(body)["code"]) == (404, "data-key-destroyed")
    assert "nobody can read it" in json.loads(body)["detail"]
    assert server.stored_file(OTHER) == OTHER.file  # it was never encrypted


def refusal(start: Start, *flags: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ServiceFailed) as refused:
        start(*flags, environ=environ)
    return str(refused.value)


def test_a_start_with_the_wrong_or_no_key_is_refused_in_words(start, master, tmp_path):
    server = start(*on(master))
    server.store([IMAGE])
    assert server.terminate() == 0
    before = sorted((path, path.read_bytes()) for path in server.objects())
    wrong = tmp_path / "keys" / "wrong.key"
    assert server.run("encryption", "init", "--encryption-master-key-file", wrong).returncode == 1
    wrong.write_text("A" * 43 + "=\n")
    assert "does not open the data keys" in refusal(start, *on(wrong))
    assert "cannot be read (No such file or directory)" in refusal(start, *on(tmp_path / "none"))
    assert "encryption needs one master key" in refusal(start, "--encryption", "on")
    assert "no master key is set" in refusal(start)  # off, and its encrypted objects would look like orphans
    assert "rubbish" not in refusal(
        start, "--encryption", "on", environ={"ISOCENTER_ENCRYPTION_MASTER_KEY": "rubbish"}
    )
    assert sorted((path, path.read_bytes()) for path in server.objects()) == before


def test_switched_off_again_it_reads_on_with_the_key_from_elsewhere(start, master):
    server = start(*on(master))
    server.store([IMAGE])
    assert server.terminate() == 0
    server = start(environ={"ISOCENTER_ENCRYPTION_MASTER_KEY": master.read_text().strip()})
    server.store([IMAGE.but(sop="1.2.3.1.1.4")])
    assert server.stored_file(IMAGE) == IMAGE.file
    assert sorted(sealed(server)) == [False, False, True]
    assert server.terminate() == 0
    server = start("--encryption", "on", "--encryption-master-key-command", f"cat {master}")
    assert server.stored_file(IMAGE) == IMAGE.file


def test_a_key_file_that_others_may_read_is_warned_of(start, master):
    master.chmod(0o644)
    server = start(*on(master))
    assert f"chmod 600 {master}" in server.log.read_text()


def test_a_bucket_holds_ciphertext(start, master, radosgw):
    bucket = radosgw.bucket()
    flags, environ = s3_flags(radosgw.account, bucket)
    server = start(*on(master), *flags, environ=environ)
    server.store([IMAGE])
    assert server.stored_file(IMAGE) == IMAGE.file
    checked = server.run("storage", "check", "--no-hashes")
    assert "2 rows, 1 objects" in checked.stdout, checked


def test_a_large_object_passes_the_spool_and_leaves_nothing_in_it(start, master):
    server = start(*on(master), "--spool-threshold", "100KB")
    image = IMAGE.but(pixels=b"PIXELDATA!" * 300_000)
    server.store([image])
    assert server.stored_file(image) == image.file
    assert [path for path in (server.data_folder / "spool").iterdir() if path.is_file()] == []
