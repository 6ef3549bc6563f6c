"""Headers of every answer, pages of other origins, forged addresses and hosts, file names in headers."""

from __future__ import annotations

import email.message
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from isocenter.doors.http.filenames import attachment
from isocenter.doors.http.guards import HttpPolicy, host_name
from isocenter.platform.settings import Settings
from services.archive import Image
from services.dicomweb import HttpServer, http_server

VIEWER = "https://viewer.example"
POLICY = HttpPolicy(origins=frozenset({VIEWER}), hosts=frozenset({"archive.example", "[::1]", "127.0.0.1"}))
ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def looked_at(response: httpx2.Response) -> None:
    assert {name: response.headers[name] for name in ALWAYS} == ALWAYS
    policy = response.headers["content-security-policy"]
    for directive in ("default-src", "frame-ancestors", "base-uri", "form-action"):
        assert f"{directive} 'none'" in policy
    assert "camera=()" in response.headers["permissions-policy"]
    assert "strict-transport-security" not in response.headers, "HTTP alone"
    assert "server" not in response.headers


async def test_every_answer_has_every_header(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        image = Image()
        await server.store(image)
        study = f"/dicom-web/studies/{image.study}"
        for path in (
            "/",
            "/nowhere",
            "/dicom-web/studies",
            study,
            f"{study}/metadata",
            "/dicom-web/studies?x=y",
        ):
            response = await server.client.get(server.url + path)
            looked_at(response)
            assert response.headers["cache-control"] == "no-store"
        looked_at(await server.client.get(server.url + "/problems/internal"))
        looked_at(await server.client.post(server.url + "/health/live"))


async def test_pages_of_listed_origins_may_read_with_credentials(tmp_path: Path) -> None:
    async with http_server(tmp_path, policy=HttpPolicy(origins=frozenset({VIEWER}))) as server:
        for path in ("/dicom-web/studies", "/nowhere", "/dicom-web/studies?limit=x"):
            response = await server.client.get(server.url + path, headers={"Origin": VIEWER})
            assert response.headers["access-control-allow-origin"] == VIEWER
            assert response.headers["access-control-allow-credentials"] == "true"
            exposed = response.headers["access-control-expose-headers"]
            for name in ("WWW-Authenticate", "ETag", "Content-Range", "Warning"):
                assert name in exposed
            assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://viewer.example.evil.example",
        "http://viewer.example",
        "https://viewer.example:444",
        "https://VIEWER.example",
        "https://viewer.example/",
        "null",
        "*",
        "",
    ],
)
async def test_pages_of_other_origins_may_not(tmp_path: Path, origin: str) -> None:
    async with http_server(tmp_path, policy=HttpPolicy(origins=frozenset({VIEWER}))) as server:
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        for method in ("GET", "OPTIONS"):
            response = await server.client.request(method, server.dicomweb + "/studies", headers=asked)
            assert not [name for name in response.headers if name.startswith("access-control")]
            assert "Origin" in response.headers["vary"], "caches must not mix them up"


async def test_preflight_needs_no_credential_and_reaches_no_route(tmp_path: Path) -> None:
    async with http_server(tmp_path, policy=HttpPolicy(origins=frozenset({VIEWER}))) as server:
        asked = {"Origin": VIEWER, "Access-Control-Request-Method": "DELETE"}
        response = await server.client.options(server.dicomweb + "/studies/1.2", headers=asked)
        assert (response.status_code, response.content) == (204, b"")
        assert "DELETE" in response.headers["access-control-allow-methods"]
        assert "Authorization" in response.headers["access-control-allow-headers"]
        looked_at(response)
        plain = await server.client.options(server.dicomweb + "/studies/1.2", headers={"Origin": VIEWER})
        assert plain.status_code == 405, "no preflight, no exception"


async def test_without_the_setting_there_is_no_cors(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        response = await server.client.get(server.dicomweb + "/studies", headers={"Origin": VIEWER})
        assert not [name for name in response.headers if name.startswith("access-control")]


async def test_hosts_that_are_not_ours(tmp_path: Path) -> None:
    async with http_server(tmp_path, policy=POLICY) as server:
        for good in ("archive.example", "ARCHIVE.example:8080", "archive.example.", "[::1]:80", "127.0.0.1"):
            response = await server.client.get(server.dicomweb + "/studies", headers={"Host": good})
            assert response.status_code == 200, good
        for bad in ("evil.example", "archive.example.evil.example", "xarchive.example", "a b", "<script>"):
            response = await server.client.get(server.dicomweb + "/studies", headers={"Host": bad})
            assert (response.status_code, response.json()["code"]) == (400, "unknown-host"), bad
            assert bad not in response.text
        probe = await server.client.get(server.url + "/health/live", headers={"Host": "10.1.2.3"})
        assert probe.status_code == 200


def test_host_names() -> None:
    assert host_name("A.example:8080") == "a.example"
    assert host_name("[2001:db8::1]:443") == host_name("[2001:db8::1]") == "[2001:db8::1]"
    assert host_name("a.example:evil") == "a.example:evil"


async def test_addresses_that_are_too_long(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        long = await server.client.get(server.url + "/" + "a" * 17_000)
        assert (long.status_code, long.json()["code"]) == (414, "url-too-long")
        many = await server.client.get(server.url + "/?" + "&".join(["a=1"] * 1_001))
        assert (many.status_code, many.json()["code"]) == (400, "too-many-parameters")


# --- who is asking, where proxies stand in between

CHAINS: list[tuple[Sequence[str], dict[str, str], str]] = [
    ((), {"X-Forwarded-For": "203.0.113.9"}, "127.0.0.1"),  # a stranger says it: not believed
    (["10.0.0.0/8"], {"X-Forwarded-For": "203.0.113.9"}, "127.0.0.1"),
    (["127.0.0.1"], {"X-Forwarded-For": "203.0.113.9"}, "203.0.113.9"),
    (
        ["127.0.0.1"],
        {"X-Forwarded-For": "6.6.6.6, 203.0.113.9"},
        "203.0.113.9",
    ),  # the left is anybody's
    (["127.0.0.1", "10.0.0.0/8"], {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.7"}, "203.0.113.9"),
    (["127.0.0.1"], {"X-Forwarded-For": "203.0.113.9:4711"}, "203.0.113.9"),
    (["127.0.0.1"], {"X-Forwarded-For": "[2001:db8::1]:4711"}, "2001:db8::1"),
    (["127.0.0.1"], {"X-Forwarded-For": "::ffff:203.0.113.9"}, "203.0.113.9"),
    (["127.0.0.1"], {"X-Forwarded-For": "203.0.113.9, nonsense"}, "127.0.0.1"),
    (["127.0.0.1"], {"X-Forwarded-For": "<script>"}, "127.0.0.1"),
    (["127.0.0.1"], {"X-Forwarded-For": ""}, "127.0.0.1"),
    (["127.0.0.1"], {"Forwarded": "for=203.0.113.9;proto=https"}, "203.0.113.9"),
    (["127.0.0.1"], {"Forwarded": 'for=6.6.6.6, for="[2001:db8::1]:4711"'}, "2001:db8::1"),
    (["127.0.0.1"], {"Forwarded": "for=_hidden"}, "127.0.0.1"),
    (["127.0.0.1"], {"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "203.0.113.9"}, "127.0.0.1"),
    (["127.0.0.1"], {"Forwarded": "for=203.0.113.9", "X-Forwarded-For": "203.0.113.9"}, "203.0.113.9"),
]


@pytest.mark.parametrize(("proxies", "headers", "client"), CHAINS, ids=range(len(CHAINS)))
async def test_the_clients_address(
    tmp_path: Path, proxies: Sequence[str], headers: dict[str, str], client: str
) -> None:
    async with http_server(tmp_path, trusted_proxies=proxies) as server:
        with capture_logs() as logs:
            await server.client.get(server.url + "/health/live", headers=headers)
        (line,) = (one for one in logs if one["event"] == "http.request")
        assert line["client"] == client


async def hsts(server: HttpServer, headers: dict[str, str]) -> bool:
    response = await server.client.get(server.url + "/health/live", headers=headers)
    return "strict-transport-security" in response.headers


async def test_https_is_what_a_trusted_proxy_says_it_is(tmp_path: Path) -> None:
    async with http_server(tmp_path) as server:
        assert not await hsts(server, {"X-Forwarded-Proto": "https"})
    async with http_server(tmp_path / "behind", trusted_proxies=["127.0.0.1"]) as server:
        assert await hsts(server, {"X-Forwarded-Proto": "https"})
        assert await hsts(server, {"Forwarded": "for=203.0.113.9;proto=https"})
        assert not await hsts(server, {"X-Forwarded-Proto": "javascript"})
        assert not await hsts(server, {"X-Forwarded-Proto": "https, http"})
        assert not await hsts(server, {"X-Forwarded-Proto": "https", "Forwarded": "proto=http"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cors_origins", "*"),
        ("cors_origins", "https://*.example"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "https://user@a.example"),
        ("cors_origins", "null"),
        ("cors_origins", "javascript:alert(1)"),
        ("trusted_proxies", "everybody"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("allowed_hosts", "*"),
        ("allowed_hosts", "a.example:80"),
        ("allowed_hosts", "http://a.example"),
    ],
)
def test_settings_that_would_open_too_much(name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({name: value})


def test_settings_that_take_several() -> None:
    settings = Settings(
        cors_origins="https://a.example, http://b.example:8080",
        trusted_proxies="127.0.0.1,10.0.0.0/8",
        allowed_hosts="a.example",
        public_url="https://pacs.example/",
    )
    assert settings.cors_origin_list == ("https://a.example", "http://b.example:8080")
    assert [str(one) for one in settings.trusted_proxy_networks] == ["127.0.0.1/32", "10.0.0.0/8"]
    assert settings.allowed_host_list == ("a.example", "pacs.example")
    assert Settings(public_url="https://pacs.example").allowed_host_list == ()


# --- file names in headers

NAMES = {
    "quarantine-7.dcm": 'attachment; filename="quarantine-7.dcm"',
    "../../etc/passwd": 'attachment; filename="_.._etc_passwd"',
    "photo\u202egnp.exe": 'attachment; filename="photognp.exe"',
    "\0\x7f": 'attachment; filename="download"',
    "...": 'attachment; filename="download"',
    "": 'attachment; filename="download"',
    "Müller.dcm": "attachment; filename=\"M_ller.dcm\"; filename*=UTF-8''M%C3%BCller.dcm",
}


@pytest.mark.parametrize(("name", "told"), NAMES.items(), ids=range(len(NAMES)))
def test_file_names(name: str, told: str) -> None:
    assert attachment(name) == told


@pytest.mark.parametrize("name", ['a"; filename="evil.exe', "a\r\nSet-Cookie: b=c", "a\\b", "a;b"])
def test_hostile_file_names(name: str) -> None:
    parsed = email.message.Message()
    parsed["content-disposition"] = attachment(name)
    assert parsed.get_content_disposition() == "attachment"
    assert len(parsed.get_params(header="content-disposition") or []) <= 3
    assert not set(str(parsed.get_filename())) & set('"\\/\r\n')


@given(st.text(max_size=400))
def test_no_name_leaves_its_header(name: str) -> None:
    told = attachment(name)
    assert told.isascii() and told.isprintable()
    assert told.count('"') == 2
    assert len(told) < 2_500


def test_a_long_name_keeps_its_extension() -> None:
    assert attachment("a" * 500 + ".dcm").endswith('.dcm"')


def test_one_function_writes_the_header() -> None:
    source = Path(__file__).resolve().parents[2] / "src" / "isocenter"
    writers = [path for path in source.rglob("*.py") if "attachment;" in path.read_text(encoding="utf-8")]
    assert [path.name for path in writers] == ["filenames.py"]
