"""``isocenter viewer``: fetch OHIF's build and make it ready to be served at ``/ohif``."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import orjson
import typer

from isocenter.cli.flags import with_settings
from isocenter.doors.web.preparing import prepare
from isocenter.doors.web.release import MOUNT, PACKAGE, RELEASE, VERSION, release_folder
from isocenter.kit.errors import Unavailable
from isocenter.kit.sizes import format_bytes
from isocenter.platform.settings import LoadedSettings

app = typer.Typer(
    help=f"Install the viewer OHIF, which is then at {MOUNT}.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_FETCH_TIMEOUT_S = 600
_WITH_FILE = "isocenter viewer install FILE"


@app.callback()
def _group() -> None:
    pass


@app.command()
@with_settings
def install(
    loaded: LoadedSettings,
    *,
    tarball: Annotated[
        Path | None, typer.Argument(help=f"{PACKAGE} {VERSION} as npm gives it; without it npm fetches it.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also where it is installed already.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch the one version that this program serves, check it against its hash, make it ready.

    A running server shows it with the next request. With --json: {"release", "folder", "installed": whether
    something was done}, stable.
    """
    folder = loaded.settings.viewer_folder
    target = release_folder(folder)
    needed = again or not target.is_dir()
    if needed:
        with tempfile.TemporaryDirectory() as place:
            made = prepare(tarball or _fetched(Path(place)), folder)
    if as_json:
        typer.echo(orjson.dumps({"release": RELEASE, "folder": str(target), "installed": needed}))
    elif needed:
        typer.echo(f"OHIF {VERSION}: {made.files} files, {format_bytes(made.size)}, in {made.folder}")
        typer.echo(f"It is at {loaded.settings.public_url_or_default}{MOUNT}/ while the server runs.")
    else:
        typer.echo(f"OHIF {VERSION} is installed already, in {target}")


def _fetched(folder: Path) -> Path:
    """npm's tarball, from whichever registry npm is set up for. Raises Unavailable."""
    wanted = f"{PACKAGE}@{VERSION}"
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(
            "npm, which fetches the viewer, is not installed.",
            code="viewer-not-fetched",
            remedy=f"Install npm, or run 'npm pack {wanted}' elsewhere, then '{_WITH_FILE}' here.",
        )
    command = [npm, "pack", wanted, "--silent", "--pack-destination", str(folder)]
    try:
        ran = subprocess.run(  # noqa: S603 - npm itself, without a shell
            command, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S, cwd=folder
        )
        reason = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
    except subprocess.TimeoutExpired:
        reason = ["it took too long"]
    found = list(folder.glob("*.tgz"))
    if len(found) != 1:
        raise Unavailable(
            f"npm could not fetch {wanted}: {reason[0]}",
            code="viewer-not-fetched",
            remedy=f"Run 'npm pack {wanted}' where there is a network, then '{_WITH_FILE}' here.",
        )
    return found[0]
