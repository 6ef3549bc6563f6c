"""``/ohif``: what is sent with which headers, what is not there, and how the files are made ready."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from isocenter.doors.http.application import create_app
from isocenter.doors.http.gate import Gate
from isocenter.doors.http.services import HttpServices
from isocenter.doors.web import preparing
from isocenter.doors.web.preparing import prepare
from isocenter.doors.web.release import FILES, RELEASE, VERSION, release_folder
from isocenter.doors.web.viewer import viewer_routes
from isocenter.kit.errors import InvalidInput, Unavailable

PAGE = b"""<!doctype html><html><head><meta content="/assets/a.xml"><script>window.PUBLIC_URL="/"</script>
<link rel="icon" href="/assets/icon.png"><script rel="preload" as="script" src="/app-config.js"></script>
<script rel="preload" as="script" type="module" src="/init-service-worker.js"></script>
<script>function browserImportFunction(n){return import(n)}</script>
<script defer src="/app.bundle.1.js"></script></head></html>"""
BUNDLE = b'__webpack_require__.p = "/";\n' + b"viewer();\n" * 500
BUILD: Mapping[str, bytes] = {
    "package/package.json": b"{}",
    "package/dist/index.html": PAGE,
    "package/dist/app.bundle.1.js": BUNDLE,
    "package/dist/app.bundle.1.js.map": b"{}",
    "package/dist/app.css": b"a { src: url(/font.woff2) }",
    "package/dist/sw.js": b"",
    "package/dist/init-service-worker.js": b"",
    "package/dist/app-config.js": b"theirs",
    "package/dist/ort/model.js": b"",
    "package/dist/assets/icon.png": b"\x89PNG",
    "package/dist/../../escaped.js": b"",
    "/package/dist/absolute.js": b"",
}

Pack = Callable[[Mapping[str, bytes]], Path]


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """A tarball that counts as the genuine one."""

    def packed(contents: Mapping[str, bytes]) -> Path:
        path = tmp_path / "build.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("package/dist/link.js")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
        monkeypatch.setattr(preparing, "INTEGRITY", f"sha512-{digest}")
        return path

    return packed


def application(folder: Path, *, sign_in: bool = True) -> FastAPI:
    services = HttpServices(None, None, None, Gate(None))  # type: ignore[arg-type]
    return create_app(services, pages=viewer_routes(folder, dicom_web="/dicom-web", sign_in=sign_in))


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://isocenter")


def test_only_what_is_served_is_unpacked(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "viewers"
    (folder / "ohif-1.0.0-1").mkdir(parents=True)
    made = prepare(pack(BUILD), folder)
    assert made.folder == release_folder(folder)
    assert [path.name for path in folder.iterdir()] == [made.folder.name]
    names = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()}
    plain = {name for name in names if not name.endswith((".br", ".gzip"))}
    assert plain == {"index.html", "app.bundle.1.js", "app.css", "assets/icon.png", "manifest.json"}
    assert not list(tmp_path.rglob("escaped.js"))
    script = gzip.decompress((made.folder / "app.bundle.1.js.gzip").read_bytes())
    assert script == BUNDLE.replace(b'"/"', f'"{FILES}"'.encode())
    page = (made.folder / "index.html").read_text()
    assert "<script>" not in page and "service-worker" not in page
    assert f'src="{FILES}app.bundle.1.js"' in page and f'href="{FILES}assets/icon.png"' in page
    assert 'src="/ohif/app-config.js"' in page
    assert (made.folder / "app.css").read_text() == f"a {{ src: url({FILES}font.woff2) }}"


def test_another_file_than_the_genuine_one_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(b"not it")
    with pytest.raises(InvalidInput) as refused:
        prepare(other, tmp_path / "viewers")
    assert refused.value.code == "viewer-not-genuine"
    with pytest.raises(Unavailable):
        prepare(tmp_path / "missing.tgz", tmp_path / "viewers")
    assert not (tmp_path / "viewers").exists()


def test_a_page_that_is_not_known_leaves_what_was_there(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "viewers"
    prepare(pack(BUILD), folder)
    changed = dict(BUILD) | {"package/dist/index.html": PAGE + b"<script>more()</script>"}
    with pytest.raises(InvalidInput):
        prepare(pack(changed), folder)
    assert [path.name for path in folder.iterdir()] == [release_folder(folder).name]


async def test_files_are_sent_compressed_and_kept_for_ever(pack: Pack, tmp_path: Path) -> None:
    prepare(pack(BUILD), tmp_path / "viewers")
    async with client_of(application(tmp_path / "viewers")) as client:
        for asked, coding in (("br, gzip", "br"), ("gzip;q=0.5", "gzip"), ("br;q=0", None), ("", None)):
            answer = await client.get(f"{FILES}app.bundle.1.js", headers={"Accept-Encoding": asked})
            assert (answer.status_code, answer.headers.get("content-encoding")) == (200, coding)
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["content-type"].startswith("text/javascript")
            assert answer.headers["vary"] == "accept-encoding"
            assert int(answer.headers["content-length"]) <= len(BUNDLE) + 20
        head = await client.head(f"{FILES}assets/icon.png")
        assert (head.status_code, head.headers["content-type"], head.content) == (200, "image/png", b"")


async def test_pages_may_run_scripts_of_this_server_and_nothing_else(pack: Pack, tmp_path: Path) -> None:
    prepare(pack(BUILD), tmp_path / "viewers")
    async with client_of(application(tmp_path / "viewers")) as client:
        for path in ("/ohif/", "/ohif/viewer", "/ohif/viewer/isocenter", "/ohif/a/b/c"):
            page = await client.get(path, params={"StudyInstanceUIDs": "1.2.3"})
            assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
            policy = page.headers["content-security-policy"]
            assert "script-src 'self' 'wasm-unsafe-eval';" in policy and "'unsafe-eval'" not in policy
            assert "frame-ancestors 'none'" in policy and "http" not in policy
            assert page.headers["cache-control"] == "no-cache"
        login = await client.get("/ohif/login")
        assert "unsafe" not in login.headers["content-security-policy"]
        assert "<script>" not in login.text and 'method="post"' in login.text
        assert (
            (await client.get("/health/live"))
            .headers["content-security-policy"]
            .startswith("default-src 'none'")
        )
        assert "worker-src" not in (await client.get("/health/live")).headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        f"{FILES}nothing.js",
        f"{FILES}../../../../etc/passwd",
        f"{FILES}..%2f..%2fisocenter.db",
        f"{FILES}%2e%2e/manifest.json",
        f"{FILES}/etc/passwd",
        f"{FILES}app.bundle.1.js%00.png",
        f"{FILES}app.bundle.1.js.br",
        f"{FILES}manifest.json/",
        "/ohif/isocenter/config.js",
        "/ohif/isocenter/..%2fviewer.py",
        "/ohif/isocenter/login.html",
        "/ohif/sw.js",
        "/ohif/../app.py",
        "/ohif/3.0.0-1/app.bundle.1.js",
    ],
)
async def test_nothing_else_is_there(pack: Pack, tmp_path: Path, path: str) -> None:
    prepare(pack(BUILD), tmp_path / "viewers")
    (tmp_path / "isocenter.db").write_bytes(b"secret")
    async with client_of(application(tmp_path / "viewers")) as client:
        answer = await client.get(path)
    assert answer.status_code == 404, answer.text
    assert answer.json()["code"] == "no-such-page"


async def test_methods_that_change_things_are_refused(tmp_path: Path) -> None:
    async with client_of(application(tmp_path)) as client:
        for path in ("/ohif", "/ohif/", "/ohif/login", "/ohif/app-config.js"):
            answer = await client.post(path, content=b"login=a&password=b")
            assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
        moved = await client.get("/ohif")
        assert (moved.status_code, moved.headers["location"]) == (308, "/ohif/")


async def test_without_the_viewer_it_is_said_how_to_get_it(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "viewers"
    async with client_of(application(folder)) as client:
        document = (await client.get("/ohif/")).json()
        assert (document["status"], document["code"]) == (404, "viewer-not-installed")
        assert "isocenter viewer install" in document["remedy"]
        page = await client.get("/ohif/", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.status_code == 404 and "isocenter viewer install" in page.text
        prepare(pack(BUILD), folder)  # while the server runs
        assert (await client.get("/ohif/")).status_code == 200
        (release_folder(folder) / "index.html").unlink()
        (release_folder(folder) / "index.html.br").unlink(missing_ok=True)
        (release_folder(folder) / "index.html.gzip").unlink(missing_ok=True)
        assert (await client.get("/ohif/")).json()["code"] == "viewer-not-installed"


async def test_the_configuration_says_whether_people_log_in(tmp_path: Path) -> None:
    for sign_in, said in ((True, '"signIn":true'), (False, '"signIn":false')):
        async with client_of(application(tmp_path, sign_in=sign_in)) as client:
            for path in ("/ohif/app-config.js", "/ohif/isocenter/session.js"):
                answer = await client.get(path)
                assert said in answer.text and '"dicomWeb":"/dicom-web"' in answer.text
                assert answer.headers["cache-control"] == "no-cache"


def test_the_release_names_its_version() -> None:
    assert RELEASE.startswith(f"{VERSION}-")
