"""Audit messages at a real receiver over TLS: whole, in order, and none lost while it was away."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from isocenter.features.audit.delivery import Delivery
from isocenter.features.audit.syslog import SyslogReceiver, client_tls
from isocenter.features.audit.trail import AuditTrail
from isocenter.kit.clock import ManualClock
from isocenter.kit.errors import Unavailable
from isocenter.platform.db import Database, open_database
from services.audit import event, execute
from services.schema import fresh_url
from services.syslog import SyslogServer, make_certificate

_HEADER = re.compile(
    rb"<85>1 2026-01-01T00:00:00\.000000Z [!-~]+ ISOCENTER \d+ DICOM\+RFC3881 - "
    rb"\xef\xbb\xbf(<AuditMessage>.*)",
    re.DOTALL,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = await open_database(url, migrate=False)
    yield opened
    await opened.close()


@pytest.fixture
async def trail(database: Database) -> AsyncIterator[AuditTrail]:
    made = AuditTrail(database, ManualClock())
    yield made
    await made.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def server(certificate: tuple[Path, Path]) -> AsyncIterator[SyslogServer]:
    made = SyslogServer(*certificate)
    await made.start()
    yield made
    await made.stop()
    assert made.faults == []


def delivery(database: Database, server: SyslogServer, tls: ssl.SSLContext) -> Delivery:
    receiver = SyslogReceiver("localhost", server.port, tls, source="ISOCENTER", timeout_s=10)
    return Delivery(database, receiver, poll_s=0.01, pause_s=0.01)


async def record(trail: AuditTrail, *numbers: int) -> None:
    for number in numbers:
        trail.record(
            event(
                number,
                address="2001:db8::7",
                subject_name="Frau M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller",
            )
        )
    await trail.settled()


def uid(message: bytes) -> int:
    """The number of the event that a message tells of."""
    found = _HEADER.fullmatch(message)
    assert found is not None, message
    about = fromstring(found[1].decode()).find("ParticipantObjectIdentification")
    assert about is not None
    return int((about.get("ParticipantObjectID") or "").rpartition(".")[2])


async def test_each_entry_arrives_once_and_in_order(
    trail: AuditTrail, database: Database, server: SyslogServer, certificate: tuple[Path, Path]
) -> None:
    await record(trail, *range(1, 451))
    sending = delivery(database, server, client_tls(str(certificate[0])))
    sending.start()
    await server.received(450)
    await record(trail, 451, 452)
    assert [uid(message) for message in await server.received(452)] == list(range(1, 453))
    await sending.stop()
    assert server.connections == 1

    later = delivery(database, server, client_tls(str(certificate[0])))  # the cursor is in the database
    later.start()
    await record(trail, 453)
    await server.received(453)
    await later.stop()
    assert [uid(message) for message in server.messages] == list(range(1, 454))


async def test_nothing_is_lost_while_it_is_away(
    trail: AuditTrail, database: Database, server: SyslogServer, certificate: tuple[Path, Path]
) -> None:
    sending = delivery(database, server, client_tls(str(certificate[0])))
    sending.start()
    await record(trail, 1, 2, 3)
    await server.received(3)
    await server.stop()
    await record(trail, *range(4, 11))
    await server.start()
    await server.received(10)
    while {uid(message) for message in server.messages} != set(range(1, 11)):
        await server.received(len(server.messages) + 1)
    await sending.stop()


async def test_a_connection_that_breaks_in_the_middle_of_a_batch_loses_nothing(
    trail: AuditTrail, database: Database, server: SyslogServer, certificate: tuple[Path, Path]
) -> None:
    server.hang_up_after = 137
    await record(trail, *range(1, 401))
    sending = delivery(database, server, client_tls(str(certificate[0])))
    sending.start()
    await record(trail, 401)
    while {uid(message) for message in await server.received(len(server.messages) + 1)} != set(range(1, 402)):
        pass
    await sending.stop()
    first = list(dict.fromkeys(uid(message) for message in server.messages))
    assert first == list(range(1, 402))
    assert server.connections >= 2


async def test_every_organisation_is_told_of(
    trail: AuditTrail, database: Database, server: SyslogServer, certificate: tuple[Path, Path]
) -> None:
    await execute(database, "INSERT INTO organization (id, slug, created_at_us) VALUES (2, 'other', 0)")
    trail.record(event(1))
    trail.record(event(2, organization_id=2))
    await trail.settled()
    sending = delivery(database, server, client_tls(str(certificate[0])))
    sending.start()
    messages = await server.received(2)
    await sending.stop()
    assert sorted(re.findall(rb'AuditEnterpriseSiteID="(\d)"', b"".join(messages))) == [b"1", b"2"]


async def test_a_receiver_that_nobody_vouches_for_gets_nothing(
    trail: AuditTrail, server: SyslogServer, tmp_path: Path
) -> None:
    other, _ = make_certificate(tmp_path)
    receiver = SyslogReceiver("localhost", server.port, client_tls(str(other)), source="ISOCENTER")
    with pytest.raises(Unavailable) as refused:
        await receiver.send([])
    assert "audit_syslog_ca" in refused.value.remedy
    assert server.messages == []


async def test_a_client_certificate_is_shown_where_it_is_asked_for(
    trail: AuditTrail, database: Database, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    client = make_certificate(tmp_path, "isocenter.test")
    server = SyslogServer(*certificate, client_ca=client[0])
    await server.start()
    await record(trail, 1)
    sending = delivery(database, server, client_tls(str(certificate[0]), *map(str, client)))
    sending.start()
    await server.received(1)
    await sending.stop()
    await server.stop()
