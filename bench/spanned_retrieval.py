"""A study of 500 slices of 525 KB that another archive has: through a spanner configuration, and directly.

Each time by a new configuration, so that nothing is at hand. What is archived on the way is there afterwards:
each of these cases has one round and a study of its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.retrieve import OBJECTS, STUDIES, Server, retrieve, servers_with_studies
from bench.rounds import Sample, alternate, write_results
from bench.servers import IsocenterServer, cpu_s
from bench.spanning import call
from bench.synthetic_ct import study_instance_uid
from bench.wado import AS_STORED, Reader

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Titled:
    """A configuration as a workstation sees it."""

    ae_title: str
    dicom_port: int
    pid: int


def run(rounds: int) -> None:
    with servers_with_studies() as (ours, orthanc, folder), _spanner(folder) as server:
        studies = iter(range(STUDIES))
        cases = []
        for name, source in (("Isocenter", ours), ("Orthanc", orthanc)):
            for way in (_Web(server, source), _Dimse(server, source)):
                cases += [
                    _case(f"objects of {name} by {way.name}, passed on", way, rounds),
                    _case(
                        f"objects of {name} by {way.name}, archived", way, 1, keep=True, study=next(studies)
                    ),
                ]
    write_results("spanned_retrieval", cases)


@contextmanager
def _spanner(folder: Path) -> Iterator[IsocenterServer]:
    server = IsocenterServer(folder / "spanner")
    try:
        yield server
    finally:
        server.stop()


def _case(
    name: str, way: _Web | _Dimse, rounds: int, *, keep: bool = False, study: int = 0
) -> dict[str, object]:
    return alternate(
        name,
        lambda _: way.through(study, keep=keep),
        lambda _: way.directly(study),
        rounds=rounds,
        peer_name="directly",
    )


@dataclass(frozen=True, slots=True)
class _Web:
    server: IsocenterServer
    source: Server
    name: str = "WADO-RS"

    def through(self, study: int, *, keep: bool) -> Sample:
        fields = {"type": "dicomweb", "url": self.source.dicom_web_url, "quirks": {"escapes": False}}
        config_id, _ = _configured(self.server, fields, keep=keep)
        return _read(f"{self.server.url}/api/v1/spanner/{config_id}/dicom-web", study, self.server.pid)

    def directly(self, study: int) -> Sample:
        return _read(self.source.dicom_web_url, study, self.source.pid)


@dataclass(frozen=True, slots=True)
class _Dimse:
    server: IsocenterServer
    source: Server
    name: str = "C-GET"

    def through(self, study: int, *, keep: bool) -> Sample:
        place = {"ae_title": self.source.ae_title, "host": "127.0.0.1", "port": self.source.dicom_port}
        _, title = _configured(self.server, {"type": "dimse", **place}, keep=keep)
        called = Titled(title, self.server.dicom_port, self.server.pid)
        return retrieve(called, "getscu", ("--ignore",), 1, first=study)

    def directly(self, study: int) -> Sample:
        return retrieve(self.source, "getscu", ("--ignore",), 1, first=study)


def _configured(server: IsocenterServer, source: dict[str, Any], *, keep: bool) -> tuple[int, str]:
    """Number and AE title of a new configuration with that source."""
    name = f"BENCH{next(_numbers)}"
    config = {"name": name, "ae_title": name, "keep_retrieved": keep}
    config_id = call(server, "/api/v1/config/spanner/", config)["id"]
    source_id = call(server, "/api/v1/sources", {"name": name, **source})["id"]
    call(server, f"/api/v1/config/spanner/{config_id}/sources/", {"source_id": source_id})
    return config_id, name


def _read(base: str, study: int, pid: int) -> Sample:
    reader = Reader(base)
    cpu, begun_s = cpu_s(pid), time.perf_counter()
    reader.get(f"/studies/{study_instance_uid(study)}", AS_STORED)
    took_s = time.perf_counter() - begun_s
    reader.close()
    return Sample(OBJECTS / took_s, (cpu_s(pid) - cpu) / OBJECTS * 1000)
