"""Nothing of a patient reaches a log: objects full of marked values come by every door, in success and in
failure, at log level debug, and then everything that the processes wrote is searched for the marks."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from services.archive import Image
from services.dcmtk import Dcmtk
from services.dicomweb import BOUNDARY, multipart
from services.isocenter import Isocenter
from services.postgres import Postgres
from services.schema import fresh_url

MARK = "ZZQX7"
BORN = "19010203"
MARKS = re.compile(rf"{MARK}|{BORN}|1901-02-03", re.IGNORECASE)
TEXTS = (
    (0x00080050, "SH", f"{MARK}ACC"),
    (0x00080080, "LO", f"{MARK}HOSPITAL"),
    (0x00080090, "PN", f"{MARK}REFERRER"),
    (0x0008103E, "LO", f"{MARK}SERIES"),
    (0x00081048, "PN", f"{MARK}PHYSICIAN"),
    (0x00101000, "LO", f"{MARK}OTHERID"),
    (0x00101001, "PN", f"{MARK}OTHER^NAME"),
    (0x00101040, "LO", f"{MARK} STREET 1"),
    (0x00102160, "SH", f"{MARK}ETHNIC"),
    (0x00104000, "LT", f"{MARK} comments"),
    (0x00110010, "LO", f"{MARK}CREATOR"),
    (0x00111001, "LO", f"{MARK}PRIVATE"),
    (0x00200010, "SH", f"{MARK}STUDYID"),
    (0x00204000, "LT", f"{MARK} image comments"),
)
GOOD = Image(
    patient_id=f"{MARK}ID",
    name=f"{MARK}^JANE",
    issuer=f"{MARK}ISSUER",
    birth_date=BORN,
    description=f"{MARK}STUDY",
    more=TEXTS,
)
OTHER_BYTES = GOOD.but(pixels=b"\5\6\7\10")
RENAMED = GOOD.but(sop="1.2.3.1.1.3", name=f"{MARK}^JOHN", birth_date="19010204")
OTHER_PATIENT = GOOD.but(sop="1.2.3.1.1.4", patient_id=f"{MARK}HERS")
NO_MODALITY = GOOD.but(sop="1.2.3.1.1.5", modality=None)
BAD_VALUES = GOOD.but(
    sop="1.2.3.1.1.6", modality=f"{MARK} too long for any modality", birth_date=f"{MARK}", sex=MARK
)
BAD_UID = GOOD.but(sop=f"{MARK}.1.2")
BAD_CHARACTERS = GOOD.but(sop="1.2.3.1.1.7", name=f"{MARK}^\udcff".encode("utf-8", "surrogateescape"))
ALL = [GOOD, GOOD, OTHER_BYTES, RENAMED, OTHER_PATIENT, NO_MODALITY, BAD_VALUES, BAD_UID, BAD_CHARACTERS]
TRUNCATED = GOOD.but(sop="1.2.3.1.1.8").file[:-300]
NAMED = quote(f"{MARK}^JANE")
QUERIES = (
    f"PatientName={NAMED}",
    f"PatientID={MARK}ID&includefield=all",
    f"StudyDate={MARK}",
    f"PatientBirthDate={BORN}",
    f"{MARK}=1",
    f"StudyInstanceUID={MARK}",
    f"limit={MARK}",
    f"fuzzymatching={MARK}",
    f"includefield={MARK}",
    f"00100020={MARK}&00100020={MARK}2",
    f"PatientName={MARK}%ff%00",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Isocenter]:
    with fresh_url(request, request.param, tmp_path) as url:
        started = Isocenter(tmp_path / "server", "--log-level", "debug", "--database-url", url)
        yield started
        started.ask_to_end()
        started.ended()


def leaks(text: str) -> list[str]:
    """Each kind of line once."""
    found = [line for line in text.splitlines() if MARKS.search(line)]
    return [*{re.sub(r"[0-9]+", "#", line)[:60]: line for line in found}.values()]


def send_by_http(server: Isocenter) -> None:
    for content in (*(image.file for image in ALL), TRUNCATED, MARK.encode() * 100, b""):
        body, headers = multipart([content])
        server.request("POST", "/dicom-web/studies", body, headers)
        server.request("POST", f"/dicom-web/studies/{GOOD.study}9", body, headers)
        server.request("POST", f"/dicom-web/studies/{NAMED}", body, headers)
    named = (
        f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n"
        f'Content-Disposition: attachment; filename="{MARK}.dcm"\r\n\r\n'
    ).encode()
    parted = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}
    server.request("POST", "/dicom-web/studies", named + GOOD.file[:200], parted)
    server.request("POST", "/dicom-web/studies", b"x", {"Content-Type": f"text/{MARK}; name={MARK}"})
    server.request("POST", "/dicom-web/studies", f"{MARK}".encode(), parted)


def ask_by_http(server: Isocenter) -> None:
    study = f"/dicom-web/studies/{GOOD.study}"
    for query in QUERIES:
        server.request("GET", f"/dicom-web/studies?{query}")
        server.request("GET", f"{study}/instances?{query}")
        server.request("GET", f"/api/v1/changes?{query}")
        server.request("GET", f"/api/v1/quarantine?{query}")
    for path in (
        f"{study}/metadata",
        study,
        f"/dicom-web/studies/{NAMED}",
        f"/dicom-web/studies/{NAMED}/metadata",
        f"/dicom-web/studies/{NAMED}/series/{MARK}/instances/{MARK}",
        f"/{NAMED}/{MARK}",
        f"/api/v1/quarantine/{MARK}",
        f"/api/v1/ae-titles/{MARK}",
    ):
        server.request("GET", path, headers={"Accept": "*/*"})
        server.request("GET", path, headers={"Accept": f"text/{MARK}"})
    for path in (f"/dicom-web/studies/{NAMED}", f"/{MARK}", f"{study}/series/{MARK}"):
        server.request("DELETE", path)


def ask_many_archives(server: Isocenter, dcmtk: Dcmtk) -> None:
    """This one and one that is not there; the second time all of it is there already."""

    def post(path: str, **body: object) -> None:
        server.request("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})

    post("/api/v1/sources", name="own", type="local")
    post("/api/v1/sources", name="nobody", type="dimse", ae_title="NOBODY", host="127.0.0.1", port=1)
    for title, strategy in (("SOME", "partial_results"), ("EVERY", "all_required")):
        post("/api/v1/config/spanner/", name=title, ae_title=title, failure_strategy=strategy)
    for config in (1, 2):
        for source in (1, 2):
            post(f"/api/v1/config/spanner/{config}/sources/", source_id=source)
        base = f"/api/v1/spanner/{config}/dicom-web/studies"
        for query in QUERIES:
            server.request("GET", f"{base}?{query}", headers={"Cache-Control": "no-cache"})
            server.request("GET", f"{base}/{GOOD.study}/instances?{query}")
            server.request(
                "GET", f"/api/v1/spanner/qido/studies?spanner_config_id={config}&async=true&{query}"
            )
        for study in (GOOD.study, NAMED):
            for part in ("", "/metadata", "/rendered", "/thumbnail", f"/series/{MARK}"):
                server.request("GET", f"{base}/{study}{part}", headers={"Accept": "*/*"})
    for title in ("SOME", "EVERY"):
        called = ("-aec", title, "127.0.0.1", str(server.dicom_port))
        for key in (f"PatientName={MARK}*", f"StudyDate={MARK}", f"StudyInstanceUID={MARK}"):
            dcmtk.run("findscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", key, *called)
            dcmtk.run("movescu", "-S", "-aem", "NOBODY", "-k", "QueryRetrieveLevel=STUDY", "-k", key, *called)
    server.run("span", f"PatientName={MARK}*", "--spanner", "SOME", "--log-level", "debug")


def settle_quarantine(server: Isocenter) -> None:
    for entry in server.quarantine():
        path = f"/api/v1/quarantine/{entry['id']}"
        server.request("GET", path)
        server.request("GET", f"{path}/object")
        for corrections in (
            {"PatientName": f"{MARK}^NEW", "00100020": f"{MARK}NEW", "Modality": "CT"},
            {MARK: "1"},
            {"PatientBirthDate": MARK},
            {"StudyInstanceUID": MARK},
            {"Modality": f"{MARK} and more than sixteen characters"},
        ):
            body = orjson.dumps({"corrections": corrections})
            server.request("POST", f"{path}/accept", body, {"Content-Type": "application/json"})
        broken = f'{{"corrections": {{"PatientName": "{MARK}'.encode()
        server.request("POST", f"{path}/accept", broken, {"Content-Type": "application/json"})
        wrong = orjson.dumps({"corrections": [MARK], MARK: MARK})
        server.request("POST", f"{path}/accept", wrong, {"Content-Type": "application/json"})


def manage_patients(server: Isocenter) -> None:
    def who(patient_id: str, issuer: str = f"{MARK}ISSUER") -> dict[str, str]:
        return {"patient_id": patient_id, "issuer": issuer}

    here, new = who(f"{MARK}ID"), who(f"{MARK}NEW", MARK)
    why = f"{MARK} said so"
    for path, asked in (
        ("correct", {"patient": here, "name": f"{MARK}^ANN", "birth_date": BORN, "note": why}),
        ("correct", {"patient": here, "birth_date": MARK}),
        ("correct", {"patient": here, MARK: MARK}),
        ("change-id", {"patient": here, "to": new, "reason": why}),
        ("change-id", {"patient": here, "to": new}),
        ("change-id", {"patient": new, "to": who(f"{MARK}\\")}),
        ("merge", {"source": new, "target": here}),
        ("merge", {"source": who(MARK * 30), "target": new}),
        ("link", {"patient": here, "other": new}),
        ("unlink", {"patient": here, "other": new}),
        ("unmerge", {"patient": here}),
        ("unmerge", {"patient": here}),
        (f"conflicts/{MARK}/settle", {"decision": MARK, "note": why}),
    ):
        body = orjson.dumps(asked)
        server.request("POST", f"/api/v1/patients/{path}", body, {"Content-Type": "application/json"})
    for query in (f"?patient_id={MARK}ID&issuer={MARK}ISSUER", f"?patient_id={NAMED}", f"?{MARK}=1"):
        server.request("GET", f"/api/v1/patients{query}")
        server.request("GET", f"/api/v1/patients/conflicts{query}")
    server.run("patient", "show", f"{MARK}ID", "--issuer", f"{MARK}ISSUER", "--log-level", "debug")


def send_and_ask_by_dimse(server: Isocenter, dcmtk: Dcmtk, folder: Path) -> None:
    files = write(folder)
    for file in files:
        dcmtk.run("storescu", *server.called, file)
    for level, *keys in (
        ("PATIENT", f"PatientName={MARK}*", f"PatientID={MARK}ID"),
        ("STUDY", f"PatientName={MARK}*", f"StudyDate={MARK}", "StudyInstanceUID"),
        ("STUDY", f"StudyInstanceUID={MARK}", f"StudyTime={MARK}"),
        (MARK, f"PatientName={MARK}"),
        ("IMAGE", f"PatientID={MARK}", f"SOPInstanceUID={MARK}"),
    ):
        wanted = [part for key in (f"QueryRetrieveLevel={level}", *keys) for part in ("-k", key)]
        for root in ("-P", "-S"):
            dcmtk.run("findscu", root, *wanted, *server.called)


def write(folder: Path) -> list[Path]:
    """Files and folders that are named after the patient, as exported CDs are."""
    target = folder / f"{MARK}^JANE" / f"born {BORN}"
    target.mkdir(parents=True, exist_ok=True)
    files = []
    for number, content in enumerate([*(image.file for image in ALL), TRUNCATED, MARK.encode() * 50]):
        files.append(target / f"{MARK}{number}.dcm")
        files[-1].write_bytes(content)
    return files


@contextlib.contextmanager
def store_away(server: Isocenter) -> Iterator[None]:
    objects = server.data_folder / "objects"
    aside = objects.rename(objects.with_name("aside"))
    yield
    aside.rename(objects)


@contextlib.contextmanager
def index_broken(server: Isocenter, postgres: Postgres | None) -> Iterator[None]:
    """A table is missing: every statement on patients fails inside the database."""

    url = server._places[server._places.index("--database-url") + 1]

    def rename(old: str, new: str) -> None:
        statement = f"ALTER TABLE {old} RENAME TO {new}"
        if postgres is not None:
            postgres.sql(statement, database=url.rpartition("/")[2])
        else:
            with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
                database.execute(statement)

    rename("patient", "patient_away")
    yield
    rename("patient_away", "patient")


def test_no_mark_is_in_anything_that_was_written(
    server: Isocenter, dcmtk: Dcmtk, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "cd"
    send_and_ask_by_dimse(server, dcmtk, folder)
    send_by_http(server)
    imported = server.run("import", folder, "--log-level", "debug")
    ask_by_http(server)
    ask_many_archives(server, dcmtk)
    settle_quarantine(server)
    manage_patients(server)
    with store_away(server):
        dcmtk.run("storescu", *server.called, folder / f"{MARK}^JANE" / f"born {BORN}" / f"{MARK}0.dcm")
        body, headers = multipart([GOOD.but(sop="1.2.3.1.1.9").file])
        server.request("POST", "/dicom-web/studies", body, headers)
        server.request("GET", f"/dicom-web/studies/{GOOD.study}", headers={"Accept": "*/*"})
    on_postgres = "postgresql" in request.node.name
    with index_broken(server, request.getfixturevalue("postgres") if on_postgres else None):
        send_and_ask_by_dimse(server, dcmtk, folder)
        send_by_http(server)
        ask_by_http(server)
        ask_many_archives(server, dcmtk)
        settle_quarantine(server)
        manage_patients(server)
        broken = server.run("import", folder)
    for lost in server.objects():
        lost.unlink()
    server.request("GET", f"/dicom-web/studies/{GOOD.study}", headers={"Accept": "*/*"})
    server.request("DELETE", f"/dicom-web/studies/{GOOD.study}")
    written = server.log.read_text()
    assert written.count("http.request") > 100  # it did write
    assert "Object not archived" in written
    assert "http.fault" in written
    tokens = set(re.findall(r"pt-[0-9a-f]{16}", written))
    assert tokens
    assert leaks(written) == []
    assert leaks(imported.stderr) == []
    assert leaks(broken.stderr) == []


def test_a_token_of_the_log_is_resolved_where_its_key_is(
    server: Isocenter, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    server.store([GOOD])
    (tmp_path / "other.dcm").write_bytes(OTHER_BYTES.file)
    dcmtk.run("storescu", *server.called, tmp_path / "other.dcm")
    [token] = set(re.findall(r"patient_token=(pt-[0-9a-f]{16})", server.log.read_text()))
    found = server.run("logs", "resolve", token, "--org", "default")
    assert found.stdout == f"{MARK}ID (issuer {MARK}ISSUER)\n", found
    told = server.run("logs", "resolve", token, "--org", "default", "--json")
    assert orjson.loads(told.stdout) == {"patient_id": f"{MARK}ID", "issuer": f"{MARK}ISSUER"}
    for words in (
        ("pt-" + "0" * 16, "--org", "default"),
        (token, "--org", "other"),
        ("x", "--org", "default"),
    ):
        assert server.run("logs", "resolve", *words).returncode == 1
    (server.data_folder / "secrets" / "log-tokens.key").unlink()
    assert server.run("logs", "resolve", token, "--org", "default").returncode == 1
