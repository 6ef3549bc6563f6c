"""What tells a command which system it speaks to, and as whom."""

from __future__ import annotations

import functools
import inspect
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from isocenter.cli.flags import with_settings
from isocenter.dimse.scu.peers import Peer
from isocenter.kit.errors import InvalidInput, IsocenterError
from isocenter.platform.settings import LoadedSettings, Settings

R = TypeVar("R")

Host = Annotated[str, typer.Argument(metavar="HOST", help="Name or address of the other system.")]
Port = Annotated[int, typer.Argument(metavar="PORT", help="Its DICOM port.", min=1, max=65535)]
Called = Annotated[str, typer.Option("--called", "-aec", help="Its AE title.")]
Calling = Annotated[
    str, typer.Option("--calling", "-aet", help="The AE title we call with; without it our own (--ae-title).")
]
Tls = Annotated[bool, typer.Option("--tls", help="Speak TLS; implied by the options below.")]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", help="Authorities (PEM) its certificate is to be of.", exists=True)
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", help="Certificate chain (PEM) that we show.", exists=True)
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", help="Private key of that certificate (PEM).", exists=True)
]
TlsName = Annotated[
    str, typer.Option("--tls-name", help="Name in its certificate, where that is not the HOST given.")
]
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "called": (Called, "ANY-SCP"),
    "calling": (Calling, ""),
    "tls": (Tls, False),
    "tls_ca": (TlsCa, None),
    "tls_cert": (TlsCert, None),
    "tls_key": (TlsKey, None),
    "tls_name": (TlsName, ""),
}
_AE_TITLE_CHARACTERS_MAX = 16


def with_peer(command: Callable[..., R]) -> Callable[..., R]:
    """Give a typer command HOST, PORT and the options above; it gets LoadedSettings, then the Peer.

    What goes wrong with a peer ends as a sentence that is safe to print.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[2:]

    @functools.wraps(command)
    def run(loaded: LoadedSettings, /, *, host: str, port: int, **given: Any) -> R:
        chosen = {name: given.pop(name) for name in _OPTIONS}
        try:
            return command(loaded, _peer(loaded.settings, host, port, **chosen), **given)
        except IsocenterError as error:
            detail = plain(error.detail)
            error.detail = detail[:1].upper() + detail[1:]
            raise

    places = [_keyword("host", Host), _keyword("port", Port)]
    options = [_keyword(name, kind, default) for name, (kind, default) in _OPTIONS.items()]
    loaded = inspect.Parameter("loaded", inspect.Parameter.POSITIONAL_ONLY, annotation=LoadedSettings)
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([loaded, *places, *keywords, *options])  # type: ignore[attr-defined]
    return with_settings(run)


def _keyword(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _peer(
    settings: Settings,
    host: str,
    port: int,
    *,
    called: str,
    calling: str,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_name: str,
) -> Peer:
    """Raises InvalidInput for an AE title that breaks PS3.5 §6.2 and for TLS files that cannot be used."""
    speak_tls = tls or tls_name != "" or any((tls_ca, tls_cert, tls_key))
    return Peer(
        host=host,
        port=port,
        called_ae_title=_ae_title("--called", called),
        calling_ae_title=_ae_title("--calling", calling or settings.ae_title),
        tls=_tls_context(tls_ca, tls_cert, tls_key) if speak_tls else None,
        tls_name=tls_name,
    )


def _ae_title(flag: str, title: str) -> str:
    title = title.strip(" ")
    plain = title.isascii() and title.isprintable() and "\\" not in title
    if not plain or not 1 <= len(title) <= _AE_TITLE_CHARACTERS_MAX:
        raise InvalidInput(f"{flag}: an AE title has 1 to 16 printable ASCII characters and no backslash.")
    return title


def _tls_context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, the other's certificate checked (BCP 195, PS3.15 B.9)."""
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"The TLS files cannot be used ({getattr(error, 'reason', '') or error.strerror or error}).",
            remedy="Give PEM files; --tls-cert and --tls-key belong together.",
        ) from error
    return context


def plain(text: str) -> str:
    """What a peer wrote must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
