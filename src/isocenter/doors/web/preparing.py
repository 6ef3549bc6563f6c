"""From npm's tarball of OHIF to a folder that `viewer.py` serves. Done once, by ``isocenter viewer install``.

The build in the tarball expects to be at ``/``: its addresses are rewritten to `release.FILES`. Inline
scripts go (our policy forbids them), so do source maps, the service worker (and the script that would
unregister every other service worker of this origin), and what only runs with services elsewhere. What is
text or WebAssembly is compressed here, so that no request has to.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import orjson

from isocenter.doors.web.release import FILES, INTEGRITY, MOUNT, PACKAGE, RELEASE, VERSION, release_folder
from isocenter.kit.errors import InvalidInput, Unavailable

MANIFEST = "manifest.json"
INDEX = "index.html"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".jsonc": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webapp": "application/json",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
_COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".jsonc", ".svg", ".wasm", ".webapp", ".xml"})
_FILE_BYTES_MAX = 64 << 20
_BROTLI_LEVEL, _GZIP_LEVEL = 9, 9
# app-config.js: ours comes from the settings. ort/: 136 MB for a model that would be fetched from elsewhere.
# google.js, oidc-client: other ways to log in.
_LEFT_OUT = re.compile(
    r".*\.map|_.*|serve\.json|sw\.js|init-service-worker\.js|app-config\.js|google\.js|oidc-client\.min\.js"
    r"|ort/.*|customizations/.*"
)
_INLINE = re.compile(r"<script>.*?</script>", re.DOTALL)
_SERVICE_WORKER = re.compile(r"<script[^>]*init-service-worker\.js[^>]*></script>")
_CONFIG = re.compile(r'<script[^>]*src="/app-config\.js"[^>]*></script>')
_OURS = f'<script src="{MOUNT}/isocenter/start.js"></script><script src="{MOUNT}/app-config.js"></script>'


@dataclass(frozen=True, slots=True)
class Prepared:
    """How many files there are, and bytes on disk with their compressed forms."""

    folder: Path
    files: int
    size: int


def prepare(tarball: Path, folder: Path) -> Prepared:
    """Put the release into ``folder``, whole or not at all; older releases go.

    Raises InvalidInput for any other file than the one that `release.py` names, Unavailable where the folder
    cannot be written.
    """
    try:
        check_integrity(tarball)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".preparing-", dir=folder) as place:
            made = _write(tarball, Path(place) / "release")
            target = release_folder(folder)
            shutil.rmtree(target, ignore_errors=True)
            made.folder.rename(target)
        for old in folder.glob("ohif-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise Unavailable(
            f"The viewer cannot be put into {folder} ({error.strerror}).",
            code="viewer-not-written",
            remedy="Make the folder writable or choose another with --viewer-dir.",
        ) from error
    return Prepared(target, made.files, made.size)


def check_integrity(tarball: Path) -> None:
    """Raises InvalidInput, OSError."""
    with tarball.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise InvalidInput(
            f"{tarball.name} is not the tarball of {PACKAGE} {VERSION}: its SHA-512 is another.",
            code="viewer-not-genuine",
            remedy=f"Fetch it with 'npm pack {PACKAGE}@{VERSION}'.",
        )


def _write(tarball: Path, folder: Path) -> Prepared:
    files = {}
    size = 0
    for name, content in _contents(tarball):
        rewritten = rewrite(name, content)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rewritten)
        forms = {"": len(rewritten)}
        for coding, compressed in _compressed_forms(path.suffix, rewritten):
            path.with_name(f"{path.name}.{coding}").write_bytes(compressed)
            forms[coding] = len(compressed)
        files[name] = {"type": TYPES[path.suffix], "forms": forms}
        size += sum(forms.values())
    if INDEX not in files:
        raise InvalidInput("The tarball holds no page.", code="viewer-not-genuine")
    (folder / MANIFEST).write_bytes(orjson.dumps({"release": RELEASE, "files": files}))
    return Prepared(folder, len(files), size)


def _contents(tarball: Path) -> Iterator[tuple[str, bytes]]:
    """Plain files below ``dist``, by names that stay there."""
    with tarfile.open(tarball, "r:gz") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if not member.isfile() or path.parts[:2] != ("package", "dist") or ".." in path.parts:
                continue
            name = "/".join(path.parts[2:])
            if _LEFT_OUT.fullmatch(name) or path.suffix not in TYPES or member.size > _FILE_BYTES_MAX:
                continue
            file = archive.extractfile(member)
            if file is not None:
                yield name, file.read()


def rewrite(name: str, content: bytes) -> bytes:
    """With addresses below `release.FILES`. Raises InvalidInput for a page that is not as it was known."""
    if name == INDEX:
        return _page(content.decode()).encode()
    if name.endswith(".css"):
        return content.replace(b"url(/", f"url({FILES}".encode())
    if name.endswith(".js"):
        content = content.replace(
            b'__webpack_require__.p = "/"', f'__webpack_require__.p = "{FILES}"'.encode()
        )
        return content.replace(b"'/dicom-microscopy-viewer/", f"'{FILES}dicom-microscopy-viewer/".encode())
    if name == "manifest.json":
        content = content.replace(b'"/assets/', f'"{FILES}assets/'.encode())
        return content.replace(b'"./index.html"', f'"{MOUNT}/"'.encode())
    return content


def _page(page: str) -> str:
    page, inline = _INLINE.subn("", page)
    page, workers = _SERVICE_WORKER.subn("", page)
    page, configs = _CONFIG.subn(_OURS.replace(f"{MOUNT}/", "\0"), page)
    if (inline, workers, configs) != (2, 1, 1):
        raise InvalidInput("OHIF's page is not as it is known.", code="viewer-not-genuine")
    page = re.sub(r'\b(href|src|content)="/', rf'\1="{FILES}', page)
    return page.replace("\0", f"{MOUNT}/")


def _compressed_forms(suffix: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if suffix not in _COMPRESSED:
        return
    import imagecodecs

    for coding, compressed in (
        ("br", bytes(imagecodecs.brotli_encode(content, level=_BROTLI_LEVEL))),
        ("gzip", gzip.compress(content, _GZIP_LEVEL, mtime=0)),
    ):
        if len(compressed) < len(content):
            yield coding, compressed
