"""Whatever a search asks for: matches, or a problem that says what is wrong; never a 500, never another's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.routing import Router

from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
from isocenter.doors.http.application import create_app
from isocenter.doors.http.services import HttpLimits, HttpServices
from isocenter.features.archive.attributes import ATTRIBUTES
from services.archive import Image, opened
from services.dicomweb import open_gate
from services.schema import fresh_url
from services.sequences import code, items, request

Ask = Callable[[str, dict[str, str]], httpx2.Response]

LIMIT_MAX = 50
PATHS = (
    "/patients",
    "/studies",
    "/series",
    "/instances",
    "/studies/1.9.1/series",
    "/studies/1.9.1/instances",
    "/studies/1.9.1/series/1.9.1.1/instances",
    "/studies/7.7.7/instances",  # another organisation's
)
SECRET = Image(study="7.7.7", series="7.7.7.1", sop="7.7.7.1.1", patient_id="SECRET-1", name="SECRET^NAME")


def some_image(number: int) -> Image:
    return Image(
        study=f"1.9.{number}",
        series=f"1.9.{number}.1",
        sop=f"1.9.{number}.1.1",
        patient_id=f"P{number}",
        name="Smith^John=山田^太郎=ﾔﾏﾀﾞ^ﾀﾛｳ".encode(),
        more=(
            (0x00080005, "CS", "ISO_IR 192"),
            (0x00080201, "SH", "+0100"),
            (0x00080090, "PN", "Ref^Phys"),
            (0x00082218, "SQ", items(code("1", meaning="Head"))),
            (0x00400275, "SQ", items(request("S1", "R1"))),
        ),
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks DICOMweb's door of an archive that two organisations share."""
    folder = tmp_path_factory.mktemp("qido")
    with fresh_url(request, request.param, folder) as url, asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()

        async def open_client() -> httpx2.AsyncClient:
            archive = await stack.enter_async_context(opened(url, folder))
            other = await archive.add_organization("other")
            await archive.send(*map(some_image, range(1, 6)))
            await archive.send(SECRET, to=other)
            services = HttpServices(
                archive.database,
                archive.store,
                archive.ingest,
                open_gate(),
                retrieve_ae_title="ISOCENTER",
                limits=HttpLimits(search_results_max=LIMIT_MAX),
            )
            door: Router = dicomweb_door(services)
            transport = httpx2.ASGITransport(
                app=create_app(services, mounts={MOUNT: door}), raise_app_exceptions=False
            )
            client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")
            return await stack.enter_async_context(client)

        client = runner.run(open_client())

        def send(target: str, headers: dict[str, str]) -> httpx2.Response:
            return runner.run(client.get(MOUNT + target, headers=headers))

        yield send
        runner.run(stack.aclose())


KEYWORDS = st.sampled_from(
    [
        *(f"{tag:08X}" for tag in ATTRIBUTES),
        *("PatientName", "PatientID", "StudyDate", "StudyTime", "StudyInstanceUID", "ModalitiesInStudy"),
        *("SOPClassesInStudy", "SeriesNumber", "InstanceNumber", "Rows", "ImageType", "OperatorsName"),
        *(
            "TimezoneOffsetFromUTC",
            "PixelData",
            "00091001",
            "(0010,0020)",
            "AnatomicRegionsInStudyCodeSequence",
        ),
        *(
            "RequestAttributesSequence",
            "00400275.00400009",
            "00400275.00321064.00080100",
            "00082218.00080104",
        ),
        *(
            "RequestAttributesSequence.StudyInstanceUID",
            "00400275.00400275.00400275.00400009",
            "A.B",
            ".",
            "a.",
        ),
        *("NumberOfStudyRelatedInstances", "AcquisitionDate", "PatientBirthTime", "PatientAge"),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                "*",
                "?",
                "**",
                '""',
                "\\",
                "\\\\",
                "a\\*",
                "P1",
                "P*",
                "smith",
                "Smith^John",
                "=",
                "==",
                "^",
            ),
            *(
                "SECRET*",
                "*SECRET*",
                "7.7.7",
                "1.9.1",
                "1.9.1,1.9.2",
                "CT",
                "CT\\MR",
                "山田*",
                "ﾔﾏﾀﾞ",
                "유",
                "류^길동",
            ),
            *(
                "20240101",
                "-20240101",
                "20240101-",
                "20260101-20260102",
                "-",
                "2024",
                "20241301",
                "0800-1200",
            ),
            *("2359-0001", "1", "-1", "+1", "1e9", "9" * 30, "9223372036854775807", "512", "true", "false"),
            *(
                "+0100",
                "-0500",
                " 0100",
                "+9999",
                "Z",
                "%",
                "_",
                "'",
                '"',
                "' OR 1=1 --",
                "\0",
                "a\0b",
                "\r\nX: y",
            ),
            *("x" * 300, "*a" * 300, "\ud7ff", "\U0010ffff", "\ufffd", "A\\" * 300, "1.2\\" * 300, "é" * 200),
        ]
    ),
    st.text(max_size=40),
)
PLAIN = st.sampled_from(
    [
        *("limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"),
        *("orderby", "sort", "after", "count", "accept", "charset", "_", "Nonsense", "limit ", "LIMIT", ""),
    ]
)
PARAMETER_VALUES = {
    "includefield": st.one_of(st.just("all"), KEYWORDS, VALUES),
    "orderby": st.lists(st.builds(str.__add__, st.sampled_from(["", "-", "+"]), KEYWORDS), max_size=4).map(
        ",".join
    ),
    "after": st.sampled_from(["1.9.3", "1.9.3.1", "1.9.3.1.1", "7.7.7", "7.7.7.1.1", "x", ""]),
    "limit": st.sampled_from(["0", "1", "3", "50", "51", "-1", "x", "1.5", "9" * 9, "9" * 10]),
    "offset": st.sampled_from(["0", "1", "3", "100000", "100001", "-1", "x"]),
}
SWITCH = st.sampled_from(["true", "false", "TRUE", "maybe"])
PAIRS = st.one_of(
    st.tuples(KEYWORDS, VALUES),
    st.sampled_from(["fuzzymatching", "emptyvaluematching", "multiplevaluematching", "count"]).flatmap(
        lambda name: st.tuples(st.just(name), SWITCH)
    ),
    st.sampled_from(sorted(PARAMETER_VALUES)).flatmap(
        lambda name: st.tuples(st.just(name), PARAMETER_VALUES[name])
    ),
    st.tuples(st.one_of(PLAIN, st.text(max_size=12)), VALUES),
)
ACCEPTS = st.sampled_from(
    [
        *("*/*", "application/dicom+json", "application/json", "text/html", "", "a b", "application/*;q=x"),
        'multipart/related; type="application/dicom+xml"',
    ]
)


def query_of(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def looked_at(answer: httpx2.Response, target: str) -> None:
    assert answer.status_code in {200, 400, 406}, (target, answer.text)
    assert "7.7.7.1" not in answer.text and "SECRET" not in answer.text
    assert "\n" not in answer.headers.get("warning", "")
    if answer.status_code != 200:
        told = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert told["status"] == answer.status_code and told["code"] and told["trace_id"] and told["detail"]
        return
    kind = answer.headers["content-type"].split(";")[0]
    if "/count" in target.split("?", maxsplit=1)[0]:
        assert set(answer.json()) == {"count"} and answer.json()["count"] >= 0
    elif kind == "multipart/related":
        assert answer.content.endswith(b"--\r\n")
    else:
        found: list[dict[str, Any]] = answer.json()
        assert len(found) <= LIMIT_MAX
        assert all(list(one) == sorted(one) for one in found)


@given(path=st.sampled_from(PATHS), counts=st.booleans(), pairs=st.lists(PAIRS, max_size=5), accept=ACCEPTS)
@example(
    path="/studies", counts=False, pairs=[("PatientName", "a\0b"), ("fuzzymatching", "true")], accept="*/*"
)
@example(path="/series", counts=False, pairs=[("00400275.00400009", "A\\" * 300)], accept="*/*")
@example(path="/instances", counts=False, pairs=[("after", "7.7.7.1.1")], accept="*/*")
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_search_breaks_anything(
    ask: Ask, path: str, counts: bool, pairs: list[tuple[str, str]], accept: str
) -> None:
    target = f"{path}{'/count' if counts else ''}?{query_of(pairs)}"
    looked_at(ask(target, {"Accept": accept}), target)


@given(query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=80))
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nor_does_any_query_string(ask: Ask, query: str) -> None:
    looked_at(ask(f"/studies?{query}", {}), f"/studies?{query}")


BROKEN = [
    ("limit=x", "limit"),
    ("limit=-1", "limit"),
    ("offset=100001", "offset"),
    ("fuzzymatching=1", "fuzzymatching"),
    ("emptyvaluematching=", "emptyvaluematching"),
    ("multiplevaluematching=yes", "multiplevaluematching"),
    ("count=1", "count"),
    ("includefield=Nonsense", "includefield"),
    ("includefield=00100010.", "includefield"),
    ("orderby=RequestAttributesSequence.RequestedProcedureID", "orderby"),
    ("sort=Rows", "sort"),
    ("after=1.2.3.4.5", "after"),
    ("after=x", "after"),
    ("StudyDate=yesterday", "StudyDate"),
    ("StudyDate=20240102-20240101", "StudyDate"),
    ("StudyTime=2500", "StudyTime"),
    ("StudyInstanceUID=x", "StudyInstanceUID"),
    ("PatientID=a%00b", "PatientID"),
    ("TimezoneOffsetFromUTC=%2B0123", "TimezoneOffsetFromUTC"),
    ("ReferencedStudySequence.ReferencedSOPInstanceUID=x", "ReferencedSOPInstanceUID"),
    ("PatientName=" + "*x" * 600, "PatientName"),
]


@pytest.mark.parametrize(("query", "named"), BROKEN, ids=[query[:40] for query, _ in BROKEN])
def test_what_is_malformed_is_named(ask: Ask, query: str, named: str) -> None:
    for path in ("/studies", "/studies/count"):
        if path.endswith("count") and named == "after":
            continue  # a count has no pages
        answer = ask(f"{path}?{query}", {})
        assert answer.status_code == 400, answer.text
        assert named in answer.json()["detail"]
        looked_at(answer, path)


def test_another_organisation_is_not_there(ask: Ask) -> None:
    """The same as for what nobody has."""
    for ours in ("/studies", "/series", "/instances"):
        assert ask(f"{ours}?after=7.7.7", {}).json() | {"trace_id": ""} == ask(
            f"{ours}?after=7.7.8", {}
        ).json() | {"trace_id": ""}
    for query in ("PatientID=SECRET-1", "fuzzymatching=true&PatientName=secret", "StudyInstanceUID=7.7.7"):
        assert ask(f"/studies?{query}&count=true", {}).headers["x-total-count"] == "0"
        assert ask(f"/instances/count?{query}", {}).json() == {"count": 0}
    assert ask("/patients/count", {}).json() == {"count": 5}
    assert ask("/instances/count", {}).json() == {"count": 5}
