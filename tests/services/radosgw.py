"""An S3 server that checks signatures: Ceph's gateway on one memory-backed OSD; ten seconds to start."""

from __future__ import annotations

import itertools
import secrets
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from services.packages import find_program
from services.processes import Process, ServiceFailed, can_connect, free_ports, run_to_end

PACKAGES = "radosgw ceph-mon ceph-osd ceph-mgr ceph-common"

# The manager is not optional (placement groups wait for it) and cephx cannot be turned off for the gateway.
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}/0]
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
public addr = 127.0.0.1
ms bind ipv6 = false
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
crash dir = {folder}
keyring = {folder}/keyring
mon data = {folder}/mon
mgr data = {folder}/mgr
mgr module path = {folder}/modules
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw run sync thread = false
rgw enable gc threads = false
rgw enable lc threads = false
"""

_CAPABILITIES = {
    "mon.": ["mon", "allow *"],
    "client.admin": ["mon", "allow *", "osd", "allow *", "mgr", "allow *"],
    "mgr.x": ["mon", "allow profile mgr", "osd", "allow *"],
    "osd.0": ["mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"],
}


@dataclass(frozen=True)
class S3Account:
    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"


class RadosGateway:
    def __init__(self, folder: Path) -> None:
        for program in ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool"):
            find_program(program, PACKAGES)
        self._folder = folder
        self._processes: list[Process] = []
        self._bucket_numbers = itertools.count(1)
        for part in ("mon", "mgr", "osd", "modules"):
            (folder / part).mkdir(parents=True)
        monitor_port, self.port = free_ports(2)
        fsid = str(uuid.uuid4())
        self._configuration = folder / "ceph.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(fsid=fsid, folder=folder, monitor_port=monitor_port, gateway_port=self.port)
        )
        self.account = S3Account(f"http://127.0.0.1:{self.port}", "ISOCENTERTEST", secrets.token_hex(20))
        try:
            self._start_cluster(fsid, monitor_port)
        except ServiceFailed:
            self.stop()
            raise

    def _start_cluster(self, fsid: str, monitor_port: int) -> None:
        keyring, monitor_map = self._folder / "keyring", self._folder / "monmap"
        run_to_end(["ceph-authtool", "--create-keyring", keyring])
        for name, capabilities in _CAPABILITIES.items():
            pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
            caps = [word for service, rule in pairs for word in ("--cap", service, rule)]
            run_to_end(["ceph-authtool", keyring, "--gen-key", "-n", name, *caps])
        address = f"[v2:127.0.0.1:{monitor_port}/0]"
        run_to_end(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monitor_map])
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitor_map, "--keyring", keyring)
        self._serve("ceph-mon", "-i", "a")
        self._serve("ceph-mgr", "-i", "x")
        osd_uuid = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd_uuid)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
        self._serve("ceph-osd", "-i", "0")
        gateway = self._serve("radosgw", "-n", "client.admin")
        names = ["--uid=isocenter", "--display-name=isocenter", "--max-buckets=0"]
        keys = [
            f"--access-key={self.account.access_key_id}",
            f"--secret-key={self.account.secret_access_key}",
        ]
        self._run("radosgw-admin", "user", "create", *names, *keys)
        gateway.wait_until(lambda: can_connect(self.port), "listening port", timeout_s=60)

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{next(self._bucket_numbers)}"
        self._signed_put(name)
        return name

    def _signed_put(self, bucket: str) -> None:
        """Object stores do not make buckets (obstore neither), so this one request is signed by hand."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        url = f"{self.account.endpoint}/{bucket}"
        request = AWSRequest("PUT", url, data=b"")
        credentials = Credentials(self.account.access_key_id, self.account.secret_access_key)
        S3SigV4Auth(credentials, "s3", self.account.region).add_auth(request)
        with urllib.request.urlopen(
            urllib.request.Request(url, data=b"", method="PUT", headers=dict(request.headers.items())),
            timeout=30,
        ) as response:
            response.read()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop(timeout_s=0)  # nothing in it outlives the session

    def _serve(self, program: str, *args: str) -> Process:
        process = Process(
            [program, "-c", self._configuration, "-f", *args], log=self._folder / f"{program}.out"
        )
        self._processes.append(process)
        return process

    def _run(self, program: str, *args: str | Path) -> str:
        return run_to_end([program, "-c", self._configuration, *args])
