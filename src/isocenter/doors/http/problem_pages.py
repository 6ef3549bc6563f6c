"""``/problems/{code}``: what a problem's ``type`` leads to (RFC 9457 §3.1.1), one page per code.

The pages are docs/problems; a wheel carries them. Plain text: nothing of the request is in it, and a browser
runs nothing of it.
"""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isocenter.doors.http.gate import public
from isocenter.doors.http.refusals import NoSuchPage

_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CODE_CHARS_MAX = 64
_CACHED = {"Cache-Control": "public, max-age=3600"}


def pages_folder() -> Path:
    """Of the installed package; of the repository where the program runs from its source."""
    packaged = Path(str(files("isocenter"))) / "problem_pages"
    return packaged if packaged.is_dir() else Path(__file__).parents[4] / "docs" / "problems"


def problem_page_routes() -> list[Route]:
    folder = pages_folder()

    async def list_pages(_: Request) -> Response:
        names = await asyncio.to_thread(lambda: sorted(path.stem for path in folder.glob("*.md")))
        return _text("".join(f"/problems/{name}\n" for name in names))

    async def show_page(request: Request) -> Response:
        code = request.path_params["code"]
        if len(code) > _CODE_CHARS_MAX or not _CODE.fullmatch(code):
            raise NoSuchPage
        try:
            return _text(await asyncio.to_thread((folder / f"{code}.md").read_text, encoding="utf-8"))
        except OSError:
            raise NoSuchPage from None

    return [public(Route("/problems", list_pages)), public(Route("/problems/{code}", show_page))]


def _text(content: str) -> Response:
    return Response(content, media_type="text/plain; charset=utf-8", headers=_CACHED)
