"""``isocenter source``, ``spanner`` and ``span`` beside a running server; Orthanc is the other archive."""

from __future__ import annotations

import orjson
import pytest

from services.isocenter import Isocenter
from services.orthanc import Orthanc
from services.processes import free_ports
from services.series import new_series


def run(server: Isocenter, *words: str | int, status: int = 0, given: str | None = None) -> str:
    done = server.run(*words, input_text=given)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def archives(isocenter: Isocenter, orthanc_server: Orthanc) -> str:
    """A configuration of our own archive and Orthanc."""
    [number] = free_ports(1)
    name = f"all{number}"
    run(isocenter, "source", "add", f"own{number}", "--type", "local")
    place = ("--called", orthanc_server.ae_title, "--host", "127.0.0.1", "--port", orthanc_server.dicom_port)
    added = run(isocenter, "source", "add", f"orthanc{number}", "--type", "dimse", *place, "--json")
    assert orjson.loads(added)["ae_title"] == orthanc_server.ae_title
    run(isocenter, "spanner", "add", name, "--timeout", 5)
    run(isocenter, "spanner", "add-source", name, f"own{number}", "--priority", 1)
    told = run(isocenter, "spanner", "add-source", name, f"orthanc{number}")
    assert "asks 2 sources" in told
    return name


def test_from_nothing_to_an_answer(isocenter: Isocenter, orthanc: Orthanc, archives: str) -> None:
    orthanc.add_modality("iso", ae_title=isocenter.ae_title, port=isocenter.dicom_port)
    here, there = new_series(1, name="SPAN^HERE"), new_series(2, name="SPAN^THERE")
    isocenter.store(here)
    for image in there:
        orthanc.request("POST", "/instances", image.file)
    number = archives.removeprefix("all")

    checked = run(isocenter, "source", "check", f"orthanc{number}")
    assert "find-study-root" in checked

    told = run(isocenter, "span", "PatientName=SPAN*", "--spanner", archives)
    assert here[0].study in told
    assert there[0].study in told
    assert "2 answers" in told
    assert f"orthanc{number}: answered" in told

    body = orjson.loads(run(isocenter, "span", "PatientName=SPAN*", "--spanner", archives, "--json"))
    assert body["complete"]
    assert len(body["results"]) == 2
    series = run(
        isocenter, "span", f"StudyInstanceUID={there[0].study}", "--level", "series", "--spanner", archives
    )
    assert there[0].series in series


def test_what_is_missing_is_said_and_is_an_exit_code(
    isocenter: Isocenter, orthanc: Orthanc, archives: str
) -> None:
    orthanc.add_modality("iso", ae_title=isocenter.ae_title, port=isocenter.dicom_port)
    number, [port] = archives.removeprefix("all"), free_ports(1)
    nobody = f"nobody{number}"
    place = ("--called", "NOBODY", "--host", "127.0.0.1", "--port", port)
    run(isocenter, "source", "add", nobody, "--type", "dimse", *place)
    run(isocenter, "spanner", "add-source", archives, nobody)

    told = run(isocenter, "span", "PatientID=NONE", "--spanner", archives, status=3)
    assert f"{nobody}: failed" in told
    assert "cannot be asked" in run(isocenter, "source", "check", nobody, status=1)

    in_use = run(isocenter, "source", "remove", nobody, status=1)
    assert archives in in_use
    run(isocenter, "spanner", "remove-source", archives, nobody)
    run(isocenter, "source", "remove", nobody)
    assert nobody not in run(isocenter, "source", "list")
    run(isocenter, "spanner", "add", f"short{number}")
    run(isocenter, "spanner", "remove", f"short{number}")
    assert f"short{number}" not in run(isocenter, "spanner", "list")


def test_a_token_is_read_from_standard_input_and_never_shown(isocenter: Isocenter, orthanc: Orthanc) -> None:
    [number] = free_ports(1)
    words = ("source", "add", f"web{number}", "--type", "dicomweb", "--url", orthanc.dicom_web_url)
    added = run(isocenter, *words, "--secret-stdin", "--json", given="s3cret-token\n")
    assert orjson.loads(added)["authentication"] == "bearer"
    assert orjson.loads(added)["has_secret"]
    assert "s3cret" not in added + run(isocenter, "source", "list", "--json")
    assert "A secret is missing" in run(
        isocenter, *words[:2], f"x{number}", *words[3:], "--user", "me", status=1
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("PatientName",), "has no value"),
        (("NoSuchKeyword=1",), "No attribute"),
        (("PatientID=1", "--level", "planet"), "is no level"),
        (("PatientID=1", "--spanner", "nowhere"), "There is no configuration nowhere"),
    ],
)
def test_what_cannot_be_asked(isocenter: Isocenter, archives: str, words: tuple[str, ...], says: str) -> None:
    assert says in run(isocenter, "span", *words, status=1)
