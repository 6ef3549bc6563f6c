"""OHIF in Chromium on the real server: the study list, images as we render them, measurements kept as SR."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pydicom
import pyotp
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from playwright.sync_api import Browser, expect

from services.accounts import PASSWORD
from services.dicomweb import multipart
from services.isocenter import Isocenter
from services.orthanc import Orthanc
from services.rendered_files import stored
from services.viewer import WAIT_MS, Workstation, chromium_with_webgl, installed_viewer

expect.set_options(timeout=WAIT_MS)

STUDY, SERIES = "1.2.3.79", "1.2.3.79.1"
SIZE = 96
SYNTAXES = (
    "1.2.840.10008.1.2.4.70",  # JPEG lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.90",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # HTJ2K
    "1.2.840.10008.1.2.5",  # RLE
)

Open = Callable[..., Workstation]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium_with_webgl() as started:
        yield started


@pytest.fixture
def workstation(browser: Browser) -> Iterator[Open]:
    with ExitStack() as opened:

        def open_at(server: Isocenter) -> Workstation:
            made = Workstation(browser, f"http://localhost:{server.http_port}")
            opened.callback(made.close)
            return made

        yield open_at


def generated(count: int = 5) -> list[Any]:
    """A CT of slices that differ: a bright square on a ramp, further right in each."""
    images = []
    for number in range(count):
        pixels = np.tile(np.linspace(0, 1200, SIZE, dtype=np.uint16), (SIZE, 1))
        pixels[30:60, 10 + 12 * number : 22 + 12 * number] = 2000
        more = (
            (0x0008103E, "LO", "Ramp"),
            (0x00200011, "IS", "1"),
            (0x00200013, "IS", str(number + 1)),
            (0x00200032, "DS", f"0\\0\\{3 * number}"),
            (0x00200037, "DS", "1\\0\\0\\0\\1\\0"),
            (0x00200052, "UI", "1.2.3.79.2"),
            (0x00280030, "DS", "0.5\\0.5"),
            (0x00281050, "DS", "1000"),
            (0x00281051, "DS", "2000"),
        )
        names = {"study": STUDY, "series": SERIES, "sop": f"{SERIES}.{number + 1}"}
        images.append(stored(pixels, *more, name="VIEWED^ANNA", description="Slices", **names))
    return images


def rendered(
    server: Isocenter, study: str, instance_number: int, base: str = "/dicom-web"
) -> NDArray[np.uint8]:
    """Our picture of the instance of that number."""
    [found] = server.found(f"/studies/{study}/instances?InstanceNumber={instance_number}", base)
    place = f"{base}/studies/{study}/series/{found['0020000E'][0]}/instances/{found['00080018'][0]}"
    status, body = server.request("GET", f"{place}/rendered", headers={"Accept": "image/png"})
    assert status == 200, body
    return np.asarray(Pillow.open(io.BytesIO(body)).convert("L"))


def scrolls_through(
    server: Isocenter, page: Workstation, study: str, images: int, base: str = "/dicom-web"
) -> None:
    """Each image that the viewer stops at is the one that we render."""
    seen = []
    for _ in range(3):
        number, _, _ = page.position()
        expected = rendered(server, study, number, base)
        page.wait_for_picture(expected)
        seen.append((number, expected))
        page.scroll(images)
    assert len({number for number, _ in seen}) == 3
    difference = np.abs(seen[0][1].astype(int) - seen[-1][1].astype(int)).mean()
    assert difference > 4.0, "these pictures are too alike to tell anything"


def nothing_went_wrong(page: Workstation) -> None:
    assert page.failed == []
    assert page.problems == []


def test_from_the_study_list_to_a_measurement_that_stays(
    start_isocenter: Callable[..., Isocenter], workstation: Open
) -> None:
    server = start_isocenter(*installed_viewer())
    server.store(generated())
    page = workstation(server)
    page.open("/ohif/")
    row = page.page.get_by_text("VIEWED", exact=False)
    expect(row).to_be_visible()
    page.open_study(STUDY)
    scrolls_through(server, page, STUDY, 1)

    page.measure()
    page.part("prompt-begin-tracking-yes-btn").click()
    measured = page.measurements()
    expect(measured).to_contain_text("mm")
    length = measured.inner_text()
    page.page.get_by_role("button", name="Create SR").click()
    page.page.get_by_role("button", name="Save").click()
    thumbnail = page.part("study-browser-thumbnail-no-image")
    expect(thumbnail).to_be_visible()
    stored_report(server)

    page.page.reload()
    thumbnail.dblclick()
    page.part("yes-hydrate-btn").click()
    expect(page.measurements()).to_have_text(length)
    nothing_went_wrong(page)


def stored_report(server: Isocenter) -> None:
    [found] = server.found("/instances?Modality=SR&includefield=SOPClassUID")
    place = f"/dicom-web/studies/{STUDY}/series/{found['0020000E'][0]}/instances/{found['00080018'][0]}"
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    status, body = server.request("GET", place, headers={"Accept": accept})
    assert status == 200
    report = pydicom.dcmread(io.BytesIO(body.split(b"\r\n\r\n", 1)[1]))
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.22"  # Enhanced SR
    assert report.StudyInstanceUID == STUDY and str(report.PatientName) == "VIEWED^ANNA"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence
    assert evidence.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES


def test_a_real_series_is_shown_as_it_is_rendered(
    start_isocenter: Callable[..., Isocenter], workstation: Open, shared_data: Path
) -> None:
    server = start_isocenter(*installed_viewer())
    assert server.run("import", shared_data / "mr-head").returncode == 0
    [study] = server.found("/studies")
    page = workstation(server)
    page.open_study(study["0020000D"][0])
    page.scroll(40)
    scrolls_through(server, page, study["0020000D"][0], 20)
    nothing_went_wrong(page)


@pytest.mark.parametrize("way", ["dicomweb", "dimse"])
def test_what_only_another_archive_has(
    start_isocenter: Callable[..., Isocenter], workstation: Open, orthanc: Orthanc, way: str
) -> None:
    server = start_isocenter(*installed_viewer())
    for image in generated():
        orthanc.request("POST", "/instances", image if isinstance(image, bytes) else image.file)
    place = (
        {"url": orthanc.dicom_web_url, "quirks": {"escapes": False}}
        if way == "dicomweb"
        else {"ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom_port}
    )
    for path, body in (
        ("sources", {"name": "there", "type": way, **place}),
        ("config/spanner/", {"name": "all"}),
        ("config/spanner/1/sources/", {"source_id": 1}),
    ):
        headers = {"Content-Type": "application/json"}
        status, answer = server.request("POST", f"/api/v1/{path}", orjson.dumps(body), headers)
        assert status == 201, answer
    page = workstation(server)
    page.open("/ohif/?spanner=1")
    expect(page.page.get_by_text("VIEWED", exact=False)).to_be_visible()
    page.open_study(STUDY)
    scrolls_through(server, page, STUDY, 1, "/api/v1/spanner/1/dicom-web")
    nothing_went_wrong(page)


def test_the_decoders_of_the_page_may_run(
    start_isocenter: Callable[..., Isocenter], workstation: Open
) -> None:
    """One slice in each transfer syntax: WebAssembly in workers, under our policy."""
    server = start_isocenter(*installed_viewer())
    server.store(generated(len(SYNTAXES)))
    files = []
    for number, syntax in enumerate(SYNTAXES, 1):
        place = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{SERIES}.{number}"
        accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        status, body = server.request("GET", place, headers={"Accept": accept})
        assert status == 200, body
        content = body.split(b"\r\n\r\n", 1)[1]
        files.append(content[: content.rindex(b"\r\n--")])
        assert pydicom.dcmread(io.BytesIO(files[-1])).file_meta.TransferSyntaxUID == syntax
    assert server.request("DELETE", f"/dicom-web/studies/{STUDY}")[0] in {200, 204}
    body, headers = multipart(files)
    assert server.request("POST", "/dicom-web/studies", body, headers)[0] == 200
    page = workstation(server)
    page.open_study(STUDY)
    seen = set()
    for number in range(len(SYNTAXES)):
        if number:
            page.scroll()
        instance_number = page.position()[0]
        page.wait_for_picture(rendered(server, STUDY, instance_number))
        seen.add(instance_number)
    assert len(seen) == len(SYNTAXES)
    nothing_went_wrong(page)


def test_people_log_in_with_their_second_factor_and_out_again(
    start_isocenter: Callable[..., Isocenter], workstation: Open
) -> None:
    server = start_isocenter(*installed_viewer(), auth="required")
    made = server.run("admin", "create", "chief", "--password-stdin", input_text=PASSWORD + "\n")
    assert made.returncode == 0, made.stderr
    code = with_second_factor(server)
    page = workstation(server)
    page.open(f"/ohif/viewer?StudyInstanceUIDs={STUDY}")
    page.page.wait_for_url("**/ohif/login")
    field = page.page.get_by_label
    field("Login").fill("chief")
    field("Password").fill("not the password")
    page.page.get_by_role("button", name="Log in").click()
    expect(page.page.get_by_role("alert")).to_be_visible()
    field("Password").fill(PASSWORD)
    page.page.get_by_role("button", name="Log in").click()
    expect(field("Code of your app")).to_be_focused()
    field("Code of your app").fill(code)
    page.page.get_by_role("button", name="Log in").click()
    page.page.wait_for_url(f"**/ohif/viewer?StudyInstanceUIDs={STUDY}")
    assert [one.partition("?")[0] for one in page.failed] == [
        *["401 POST /api/v1/auth/refresh"] * 2,
        *["401 POST /api/v1/auth/login"] * 2,
    ]
    with page.page.expect_response("**/dicom-web/studies?**") as searched:
        page.open("/ohif/")
    assert searched.value.status == 200

    at_the_same_time(page)
    page.open("/ohif/login")
    expect(page.page.get_by_text("You are logged in as chief.")).to_be_visible()
    page.page.get_by_role("button", name="Log out").click()
    expect(field("Password")).to_be_visible()
    page.open("/ohif/")
    page.page.wait_for_url("**/ohif/login")
    assert "isocenter_refresh" not in {one["name"] for one in page.context.cookies()}


def at_the_same_time(page: Workstation) -> None:
    """Several tabs renew one login, each token of which counts once."""
    tabs = [page.context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(f"{page.url}/ohif/")
        expect(tab.get_by_text("Select a study")).to_be_visible()
    for tab in tabs:
        tab.evaluate("() => { window.renewed = Promise.all([1, 2, 3, 4].map(isocenterSession.renew)) }")
    for tab in tabs:
        assert tab.evaluate("window.renewed") == [True] * 4
        tab.close()


def with_second_factor(server: Isocenter) -> str:
    """Set up for the administrator; a recovery code, since the app's code has counted and the next one takes
    half a minute."""

    def ask(path: str, asked: dict[str, Any], authorization: str = "") -> Any:
        headers = {"Content-Type": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        status, body = server.request("POST", f"/api/v1/auth{path}", orjson.dumps(asked), headers)
        assert status == 200, body
        return orjson.loads(body)

    tokens = ask("/login", {"login": "chief", "password": PASSWORD})
    bearer = f"Bearer {tokens['access_token']}"
    code = pyotp.TOTP(ask("/totp/enrol", {}, bearer)["secret"]).now()
    recovery: list[str] = ask("/totp/confirm", {"code": code}, bearer)["recovery_codes"]
    return recovery[0]
