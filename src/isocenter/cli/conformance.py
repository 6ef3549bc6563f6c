"""``isocenter conformance``: the DICOM conformance statement (PS3.2), made of what the code accepts.

``docs/conformance/statement.md`` is its output; a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_SCU = (
    ("1.2.840.10008.1.1", "isocenter scu echo"),
    ("1.2.840.10008.5.1.4.1.2.1.1", "isocenter scu find"),
    ("1.2.840.10008.5.1.4.1.2.2.1", "isocenter scu find"),
    ("1.2.840.10008.5.1.4.1.2.2.2", "isocenter scu move"),
    ("1.2.840.10008.5.1.4.1.2.2.3", "isocenter scu get"),
    ("1.2.840.10008.1.20.1", "isocenter commitment ask"),
    ("1.2.840.10008.5.1.4.33", "destinations with availability_after_s"),
)


@app.command()
def conformance() -> None:
    """Print the conformance statement as Markdown."""
    typer.echo(statement(), nl=False)


def statement() -> str:
    """The same for the same code: no setting of this installation is in it but the defaults."""
    parts = (
        _head(),
        _identifiers(),
        _served(),
        _storage(),
        _used(),
        _association(),
        _negotiation(),
        _worklists(),
        _dicomweb(),
        _security(),
        _character_sets(),
    )
    return "\n".join(line for part in parts for line in part)


def _head() -> Iterator[str]:
    yield "# DICOM conformance statement"
    yield ""
    yield "Made by `isocenter conformance` of the code itself; edit the code, not this page."
    yield "Rows with clause and test are in the other pages of this folder."
    yield "Figures are defaults; `isocenter config show` has those of an installation."


def _identifiers() -> Iterator[str]:
    from isocenter import __version__
    from isocenter.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    from isocenter.dicom.sop_classes import APPLICATION_CONTEXT

    yield from _section("Implementation")
    yield from _table(
        ("what", "value"),
        (
            ("product", f"Isocenter {__version__}"),
            ("application context", f"`{APPLICATION_CONTEXT}`"),
            ("implementation class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            ("implementation version name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
        ),
    )


def _served() -> Iterator[str]:
    from isocenter.dicom.sop_classes import sop_class_name
    from isocenter.doors.scp.contexts import query_transfer_syntaxes, served_sop_classes

    yield from _section("SOP classes as SCP, beside Storage")
    yield "A caller needs the service that stands with the class; `isocenter ae add --services` grants it."
    yield ""
    yield from _table(
        ("SOP class", "UID", "service"),
        (
            (sop_class_name(uid), f"`{uid}`", f"`{service}`" if service else "whoever may call")
            for uid, service in served_sop_classes()
        ),
    )
    yield ""
    yield "Transfer syntaxes, the first of these that is offered:"
    yield ""
    yield from _syntaxes(query_transfer_syntaxes())


def _storage() -> Iterator[str]:
    from isocenter.dicom.storage_sop_classes import STORAGE_SOP_CLASSES
    from isocenter.doors.scp.contexts import storage_transfer_syntaxes

    yield from _section("Storage as SCP and SCU, and as SCP of C-GET's requestor")
    yield "Level 2 (full): objects are kept as they come, private attributes too."
    yield "Of several transfer syntaxes in one context the first is taken, Explicit VR before Implicit VR."
    yield ""
    yield from _syntaxes(storage_transfer_syntaxes())
    yield ""
    yield from _table(
        ("SOP class", "UID"), ((name, f"`{uid}`") for uid, name in sorted(STORAGE_SOP_CLASSES.items()))
    )
    yield ""
    yield "Private and future classes are taken where `accept_unknown_sop_classes` says so."


def _used() -> Iterator[str]:
    from isocenter.dicom.sop_classes import sop_class_name

    yield from _section("SOP classes as SCU, beside Storage")
    yield from _table(
        ("SOP class", "UID", "by"), ((sop_class_name(uid), f"`{uid}`", f"`{by}`") for uid, by in _SCU)
    )


def _association() -> Iterator[str]:
    from isocenter.dimse.protocol.limits import DEFAULT_LIMITS
    from isocenter.doors.scp.server import DicomSettings
    from isocenter.platform.settings import Settings

    settings, door = Settings(), DicomSettings()
    yield from _section("Associations")
    yield from _table(
        ("what", "value"),
        (
            ("AE title", f"`{settings.ae_title}` (setting `ae_title`)"),
            ("port", f"{settings.dicom_port} (`dicom_port`)"),
            ("callers", f"{settings.calling_ae_titles} (`calling_ae_titles`)"),
            ("associations at once", f"{settings.dimse_max_associations} (`dimse_max_associations`)"),
            ("maximum PDU length", f"{settings.dimse_max_pdu} bytes (`dimse_max_pdu`)"),
            ("operations at once in an association", f"{door.operations_max}"),
            ("presentation contexts", f"{DEFAULT_LIMITS.presentation_contexts_max}"),
            ("ARTIM time-out", f"{settings.dimse_artim_timeout_s:.0f} s (`dimse_artim_timeout_s`)"),
            ("silence until abort", f"{settings.dimse_idle_timeout_s:.0f} s (`dimse_idle_timeout_s`)"),
            (
                "answers of others awaited",
                f"{settings.dimse_response_timeout_s:.0f} s (`dimse_response_timeout_s`)",
            ),
            ("associations of one C-MOVE", f"{settings.dimse_move_associations} (`dimse_move_associations`)"),
        ),
    )


def _negotiation() -> Iterator[str]:
    yield from _section("Extended negotiation")
    yield from _table(
        ("item", "behaviour"),
        (
            ("asynchronous operations window", "granted up to the number above, as performer and invoker"),
            ("SCP/SCU role selection", "Storage for C-GET, Storage Commitment for reports"),
            ("SOP class extended negotiation", "relational queries; combined date-time matching in C-FIND"),
            (
                "user identity",
                "user name and passcode, JSON Web Token, where `dimse_user_identity` is `verify`",
            ),
        ),
    )


def _worklists() -> Iterator[str]:
    from isocenter.features.worklist.item_rules import ON_THE_WORKLIST, ItemState
    from isocenter.features.worklist.performed import PerformedState
    from isocenter.features.worklist.telling import EVENTS_KEPT
    from isocenter.features.worklist.workitem_rules import State
    from isocenter.features.worklist.workitems import EXAMINED_MAX

    yield from _section("Worklists")
    yield from _table(
        ("what", "value"),
        (
            ("matching", "every attribute but binary ones, inside sequences too"),
            ("states of scheduled steps", ", ".join(ItemState)),
            ("shown without a status key", ", ".join(ON_THE_WORKLIST)),
            ("states of performed steps", ", ".join(PerformedState)),
            ("a step that is over is changed", "0110H, error ID A710H"),
            ("states of workitems", ", ".join(State)),
            ("workitems examined by one search", f"{EXAMINED_MAX}"),
            ("event reports kept for a subscriber that is away", f"{EVENTS_KEPT}"),
        ),
    )


def _dicomweb() -> Iterator[str]:
    from isocenter.doors.dicomweb.capabilities import operations_of
    from isocenter.doors.dicomweb.routes import MOUNT, dicomweb_door
    from isocenter.doors.http.gate import Gate
    from isocenter.doors.http.services import HttpServices

    nothing = cast(Any, None)  # routes are made of it, none is called
    door = dicomweb_door(HttpServices(nothing, nothing, nothing, Gate(None)))
    yield from _section("DICOMweb")
    yield f"Below `{MOUNT}`; `OPTIONS {MOUNT}/` says the same to programs (PS3.18 §8.9)."
    yield ""
    yield from _table(
        ("method", "path", "transaction", "takes", "gives", "permission"),
        (
            (
                one.method,
                f"`{one.path}`",
                one.transaction.name,
                _listed(one.transaction.takes),
                _listed(one.transaction.gives),
                f"`{one.permission}`",
            )
            for one in operations_of(door.routes)
        ),
    )


def _security() -> Iterator[str]:
    from isocenter.platform.settings import Settings
    from isocenter.platform.tls import DicomProfile

    settings = Settings()
    profiles = ", ".join(f"`{one}`" for one in DicomProfile)
    yield from _section("Security profiles")
    yield from _table(
        ("what", "value"),
        (
            ("DICOM TLS (PS3.15 B.9-B.12)", f"{profiles}; default `{settings.dicom_tls_profile}`"),
            ("HTTPS", f"TLS {settings.http_tls_min} at least (`http_tls_min`)"),
            ("certificates of callers", "asked for where `dicom_tls_ca`, `http_tls_ca` are set"),
            ("audit trail (PS3.15 A.5)", "kept; sent by syslog over TLS where `audit_syslog` says where"),
            ("user identity (PS3.7 D.3.3.7)", f"{settings.dimse_user_identity} (`dimse_user_identity`)"),
        ),
    )


def _character_sets() -> Iterator[str]:
    from isocenter.dicom.character_sets import ALL

    yield from _section("Character sets")
    yield "Text is read in all of these, and answered in the requester's where they hold it, else in UTF-8."
    yield ""
    yield from _table(
        ("defined term", "with code extensions"),
        ((f"`{one.term}`", f"`{one.extension_term}`" if one.extension_term else "") for one in ALL),
    )
    yield ""


def _syntaxes(uids: Iterable[str]) -> Iterator[str]:
    from isocenter.dicom.transfer_syntaxes import TRANSFER_SYNTAXES

    yield from _table(("transfer syntax", "UID"), ((TRANSFER_SYNTAXES[uid].name, f"`{uid}`") for uid in uids))


def _section(title: str) -> tuple[str, ...]:
    return "", f"## {title}", ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _listed(media_types: Iterable[str]) -> str:
    return "<br>".join(f"`{one}`" for one in media_types)
