"""``/ohif``: the viewer OHIF over our own DICOMweb, and the page on which people log in for it.

Nothing here holds patient data, so everything is public. What the pages show they ask of the API and of
DICOMweb, with an access token that they get for the refresh cookie (assets/session.js).
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from isocenter.doors.http.gate import public
from isocenter.doors.http.refusals import NoSuchPage
from isocenter.doors.web import policy
from isocenter.doors.web.prepared import PreparedViewer, ViewerFile, ViewerNotInstalled
from isocenter.doors.web.preparing import INDEX, TYPES
from isocenter.doors.web.release import FILES, MOUNT

_OURS = ("start.js", "sign-in.js", "login.js", "login.css")
_HTML = "text/html"


def viewer_routes(folder: Path, *, dicom_web: str, sign_in: bool) -> list[Route]:
    """``folder``: see `preparing.prepare`; it may be empty. ``dicom_web``: the path of DICOMweb.
    ``sign_in``: whether people have to."""
    viewer = _Viewer(folder, dicom_web=dicom_web, sign_in=sign_in)
    return [
        public(Route(MOUNT, viewer.to_start)),
        public(Route(f"{MOUNT}/login", viewer.login)),
        public(Route(f"{MOUNT}/app-config.js", viewer.config)),
        public(Route(f"{MOUNT}/isocenter/{{name}}", viewer.own_file)),
        public(Route(f"{MOUNT}/{{path:path}}", viewer.page_or_file)),
    ]


class _Viewer:
    def __init__(self, folder: Path, *, dicom_web: str, sign_in: bool) -> None:
        self._prepared = PreparedViewer(folder)
        settings = orjson.dumps({"dicomWeb": dicom_web, "mount": MOUNT, "signIn": sign_in}).decode()
        self._settings = f"window.isocenter = {settings};\n"

    async def to_start(self, _: Request) -> Response:
        return RedirectResponse(f"{MOUNT}/", status_code=308)

    async def login(self, _: Request) -> Response:
        return _ours("login.html", policy.LOGIN)

    async def config(self, _: Request) -> Response:
        """OHIF's configuration, in front of it what it needs to get access tokens."""
        body = self._settings + asset("session.js") + asset("config.js")
        return _script(body)

    async def own_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "session.js":
            return _script(self._settings + asset(name))
        if name not in _OURS:
            raise NoSuchPage
        return _ours(name, policy.SCRIPT)

    async def page_or_file(self, request: Request) -> Response:
        """A file of the release; every other address without an extension is OHIF's own to read."""
        path = request.url.path
        name = path.removeprefix(FILES) if path.startswith(FILES) else INDEX
        if name == INDEX and "." in path.rpartition("/")[2]:
            raise NoSuchPage
        try:
            found = await asyncio.to_thread(self._prepared.find, name, accepted_codings(request))
        except ViewerNotInstalled:
            if _HTML not in request.headers.get("accept", ""):
                raise
            return _ours("not-installed.html", policy.LOGIN, status=404)
        if found is None:
            raise NoSuchPage
        return _sent(found, is_page=name == INDEX)


def accepted_codings(request: Request) -> frozenset[str]:
    """Of ``Accept-Encoding`` (RFC 9110 §12.5.3), those that are not refused by ``q=0``."""
    taken = set()
    for coding in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = coding.partition(";")
        if not quality.replace(" ", "").startswith("q=0") or any(digit in quality for digit in "123456789"):
            taken.add(name.strip())
    return frozenset(taken)


def _sent(file: ViewerFile, *, is_page: bool) -> Response:
    headers = {
        "content-security-policy": policy.PAGE if is_page else policy.SCRIPT,
        "cache-control": policy.EVERY_TIME if is_page else policy.FOR_EVER,
        "vary": "accept-encoding",
    }
    if file.coding:
        headers["content-encoding"] = file.coding
    return FileResponse(file.path, headers=headers, media_type=file.media_type, stat_result=file.status)


def _ours(name: str, security_policy: str, status: int = 200) -> Response:
    headers = {"content-security-policy": security_policy, "cache-control": policy.EVERY_TIME}
    return Response(asset(name), status, headers, media_type=TYPES[Path(name).suffix])


def _script(body: str) -> Response:
    headers = {"content-security-policy": policy.SCRIPT, "cache-control": policy.EVERY_TIME}
    return Response(body, headers=headers, media_type=TYPES[".js"])


@cache
def asset(name: str) -> str:
    """A file of this package's ``assets``; ``name`` is never a client's unless it is one of those listed."""
    return (files("isocenter.doors.web") / "assets" / name).read_text(encoding="utf-8")
