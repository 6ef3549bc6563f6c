"""``isocenter scu echo``: is that system there, and does it let us in?"""

from __future__ import annotations

import time
from typing import Annotated

import orjson
import typer

from isocenter.cli.scu.peers import with_peer
from isocenter.dimse.scu.peers import Peer
from isocenter.platform.settings import LoadedSettings


@with_peer
def echo(
    loaded: LoadedSettings,
    peer: Peer,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask whether a system answers (C-ECHO). Exit code 1 when it does not, with the reason on stderr.

    With --json: {"answered", "milliseconds"}, stable.
    """
    import uvloop

    from isocenter.dimse.scu.echo import echo as remote_echo
    from isocenter.dimse.scu.peers import Remotes

    async def run() -> float:
        began_s = time.monotonic()
        async with Remotes() as remotes:
            await remote_echo(remotes, peer)
            return (time.monotonic() - began_s) * 1000

    milliseconds = uvloop.run(run())
    if as_json:
        typer.echo(orjson.dumps({"answered": True, "milliseconds": round(milliseconds, 1)}))
    else:
        typer.echo(f"{peer} answers to {peer.calling_ae_title} ({milliseconds:.0f} ms).")
