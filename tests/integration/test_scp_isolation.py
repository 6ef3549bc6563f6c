"""Two organisations behind one DIMSE door: no service shows one to the other, nor that it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isocenter.dicom.dataset import read_dataset
from isocenter.dicom.sop_classes import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    VERIFICATION,
)
from isocenter.dimse.net.client import ClientAssociation, Proposal
from isocenter.dimse.net.errors import AssociationRejected, ContextNotAccepted, DimseFailure
from isocenter.dimse.protocol.pdu import ContextResult
from isocenter.dimse.protocol.user_information import UserIdentity, UserIdentityType
from isocenter.platform.security import Permission, Subject, SubjectKind
from services.archive import CT, Image
from services.retrieving import Receiver, get, move, receiving
from services.schema import fresh_url
from services.scp import EXPLICIT, ScpDoor, identifier, scp_door, store_status

OURS, THEIRS = 1, 7
NOT_AUTHORIZED = 0x0124
OUR_IMAGE = Image(name="OURS^JANE", pixels=b"\1\2\3\4")
THEIR_IMAGE = Image(name="THEIRS^JOHN", pixels=b"\5\6\7\x08")
"""Of the same patient ID and with the same UIDs, with other bytes."""
SECOND = Image(sop="1.2.3.1.1.2", name="THEIRS^JOHN")
ONLY_THEIRS = Image(sop="1.7.1.1.1", series="1.7.1.1", study="1.7.1", patient_id="P7", name="THEIRS^ANN")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with fresh_url(request, request.param, tmp_path) as found:
        yield found


@asynccontextmanager
async def two_organisations(url: str, folder: Path, **more: object) -> AsyncIterator[ScpDoor]:
    async with scp_door(folder, database_url=url, loopback_exempt=False, **more) as door:  # type: ignore[arg-type]
        await door.archive.execute("INSERT INTO organization (id, slug, created_at_us) VALUES (7, 'x', 0)")
        await door.ae_titles.register(OURS, "OURS", host="127.0.0.0/8")
        await door.ae_titles.register(THEIRS, "THEIRS", host="127.0.0.1")
        yield door


@pytest.fixture
async def door(url: str, tmp_path: Path) -> AsyncIterator[ScpDoor]:
    async with two_organisations(url, tmp_path) as opened:
        yield opened


async def store(door: ScpDoor, calling: str, *images: Image) -> list[int]:
    async with await door.connect(Proposal(CT, (EXPLICIT,)), calling=calling) as association:
        return [await store_status(association, image) for image in images]


async def found(association: ClientAssociation, level: str, model: str, **keys: bytes) -> list[bytes]:
    """The patients' names in the answers."""
    query = identifier(level, t00100010=b"", **keys)
    return [
        one.value.rstrip()
        async for answer in association.find(model, query)
        for one in read_dataset(answer, EXPLICIT)
        if one.tag == 0x00100010 and isinstance(one.value, bytes)
    ]


async def names(door: ScpDoor, calling: str) -> dict[str, list[bytes]]:
    """What each kind of query tells a caller, asked for what is there and for what is not."""
    study = b"1.2.3.1\0"
    queries = {
        "study": ("STUDY", STUDY_ROOT_FIND, {"t0020000D": study}),
        "series": ("SERIES", STUDY_ROOT_FIND, {"t0020000D": study, "t0020000E": b""}),
        "image": ("IMAGE", STUDY_ROOT_FIND, {"t0020000D": study, "t00080018": b""}),
        "patient": ("PATIENT", PATIENT_ROOT_FIND, {"t00100020": b"P1"}),
        "everybody": ("PATIENT", PATIENT_ROOT_FIND, {"t00100020": b""}),
        "only theirs": ("STUDY", STUDY_ROOT_FIND, {"t0020000D": b"1.7.1\0"}),
        "nowhere": ("STUDY", STUDY_ROOT_FIND, {"t0020000D": b"9.9.9\0"}),
    }
    contexts = (Proposal(STUDY_ROOT_FIND, (EXPLICIT,)), Proposal(PATIENT_ROOT_FIND, (EXPLICIT,)))
    async with await door.connect(*contexts, calling=calling) as association:
        return {
            name: await found(association, level, model, **keys)
            for name, (level, model, keys) in queries.items()
        }


async def test_the_same_uids_live_in_two_organisations(door: ScpDoor) -> None:
    assert await store(door, "OURS", OUR_IMAGE) == [0]
    assert await store(door, "THEIRS", THEIR_IMAGE, SECOND, ONLY_THEIRS) == [0, 0, 0]
    kept = await door.archive.rows("SELECT organization_id, sha256, object_key FROM instance ORDER BY id")
    assert [row["organization_id"] for row in kept] == [OURS, THEIRS, THEIRS, THEIRS]
    assert all(row["object_key"].startswith(f"{row['organization_id']}/") for row in kept)
    assert [row["sha256"] for row in kept[:2]] == [OUR_IMAGE.sha256, THEIR_IMAGE.sha256]

    ours, theirs = await names(door, "OURS"), await names(door, "THEIRS")
    for name in ("study", "series", "image", "patient", "everybody"):
        assert set(ours[name]) == {b"OURS^JANE"}, name
        assert set(theirs[name]) <= {b"THEIRS^JOHN", b"THEIRS^ANN"} and theirs[name], name
    assert (len(ours["image"]), len(theirs["image"])) == (1, 2)
    assert ours["only theirs"] == ours["nowhere"] == [], "what is theirs is not there"
    assert theirs["only theirs"] == [b"THEIRS^ANN"]


async def test_nobody_retrieves_what_is_anothers_nor_to_where_another_sends(door: ScpDoor) -> None:
    await store(door, "OURS", OUR_IMAGE)
    await store(door, "THEIRS", THEIR_IMAGE, SECOND, ONLY_THEIRS)
    ours, theirs = Receiver(), Receiver()
    patient = {"model_uid": PATIENT_ROOT_MOVE, "level": "PATIENT", "t00100020": b"P1"}
    asked: list[dict[str, Any]] = [
        {"t0020000D": b"1.2.3.1\0"},
        {"t0020000D": b"1.7.1\0"},
        {"level": "SERIES", "t0020000E": b"1.2.3.1.1\0"},
        {"level": "IMAGE", "t00080018": b"1.2.3.1.1.2\\1.2.3.1.1.1\\1.7.1.1.1"},
        patient,
    ]
    async with receiving(ours) as our_server, receiving(theirs) as their_server:
        await door.destination("STORE", our_server.port, to=OURS)
        await door.destination("STORE", their_server.port, to=THEIRS)
        await door.destination("ONLYTHEIRS", their_server.port, to=THEIRS)
        moved = [(await move(door, "STORE", calling="OURS", **one)).counts for one in asked]
        assert moved == [(0, 1, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0)]
        said = await move(door, "ONLYTHEIRS", calling="OURS", t0020000D=b"1.2.3.1\0")
        nowhere = await move(door, "NOWHERE", calling="OURS", t0020000D=b"1.2.3.1\0")
        assert said.final == nowhere.final and said.final.status == 0xA801
        assert theirs.requests == []
        assert (await move(door, "STORE", calling="THEIRS", t0020000D=b"1.2.3.1\0")).counts == (0, 2, 0, 0)
    assert {stored.data for stored in ours.stored} == {OUR_IMAGE.data_set}
    assert {stored.data for stored in theirs.stored} == {THEIR_IMAGE.data_set, SECOND.data_set}

    got = Receiver()
    patient["model_uid"] = PATIENT_ROOT_GET
    counts = [(await get(door, got, calling="OURS", **one)).counts for one in asked]
    assert counts == [(0, 1, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0)]
    assert {stored.data for stored in got.stored} == {OUR_IMAGE.data_set}


async def test_an_unregistered_title_and_one_at_another_place_get_the_same_no(door: ScpDoor) -> None:
    await store(door, "THEIRS", ONLY_THEIRS)
    await door.ae_titles.register(THEIRS, "ELSEWHERE", host="10.0.0.0/8")
    await door.ae_titles.register(THEIRS, "SEALED", certificate="ct1")
    said = set()
    for calling in ("NOBODY", "ELSEWHERE", "SEALED", "theirs"):
        with pytest.raises(AssociationRejected) as refused:
            await door.connect(calling=calling)
        reject = refused.value.reject
        said.add((reject.result, reject.source, reject.reason))
    assert said == {(1, 1, 3)}


@dataclass(frozen=True)
class Lacking:
    """A caller without one service, and how it tries it all the same: over a context of the other."""

    service: str
    allowed: str
    refused_class: str
    accepted_class: str


WITHOUT_FIND = Lacking("find", "store", STUDY_ROOT_FIND, CT)
WITHOUT_STORE = Lacking("store", "find", CT, STUDY_ROOT_FIND)


@pytest.mark.parametrize("lacking", [WITHOUT_FIND, WITHOUT_STORE], ids=lambda one: f"without {one.service}")
async def test_without_a_service_its_contexts_are_rejected_and_the_operation_is(
    door: ScpDoor, lacking: Lacking
) -> None:
    await store(door, "OURS", OUR_IMAGE)
    await door.ae_titles.register(OURS, "LACKING", services=[lacking.allowed])
    contexts = [Proposal(one, (EXPLICIT,)) for one in (VERIFICATION, CT, STUDY_ROOT_FIND)]
    async with await door.connect(*contexts, calling="LACKING") as association:
        results = {
            proposed.abstract_syntax: answered.result
            for proposed, answered in zip(
                association.request.contexts, association.accept.contexts, strict=True
            )
        }
        assert results[lacking.refused_class] == ContextResult.USER_REJECTION
        assert results[lacking.accepted_class] == results[VERIFICATION] == ContextResult.ACCEPTANCE
        await association.echo()
        with pytest.raises(ContextNotAccepted):
            association.context_for(lacking.refused_class)
        smuggled = association._contexts_by_syntax[lacking.accepted_class]
        association._contexts_by_syntax[lacking.refused_class] = smuggled
        if lacking is WITHOUT_STORE:
            assert await store_status(association, SECOND) == NOT_AUTHORIZED
        else:
            for uid in (b"1.2.3.1\0", b"9.9.9\0"):  # there, and not there
                with pytest.raises(DimseFailure) as refused:
                    await found(association, "STUDY", STUDY_ROOT_FIND, t0020000D=uid)
                assert refused.value.status == NOT_AUTHORIZED
        await association.echo()
    assert await door.archive.one("SELECT count(*) FROM instance") == 1


async def test_a_title_taken_back_meanwhile_ends_what_it_may(door: ScpDoor) -> None:
    contexts = [Proposal(one, (EXPLICIT,)) for one in (VERIFICATION, CT, STUDY_ROOT_FIND)]
    async with await door.connect(*contexts, calling="THEIRS") as association:
        assert await store_status(association, THEIR_IMAGE) == 0
        await door.ae_titles.remove(THEIRS, "THEIRS")
        assert await store_status(association, SECOND) == NOT_AUTHORIZED
        for ask in (association.echo(), found(association, "STUDY", STUDY_ROOT_FIND, t0020000D=b"1.2.3.1\0")):
            with pytest.raises(DimseFailure) as refused:
                await ask
            assert refused.value.status == NOT_AUTHORIZED
        # The same title at the same place now is another organisation's: not this association's, though.
        await door.ae_titles.register(OURS, "THEIRS", host="127.0.0.1")
        assert await store_status(association, SECOND) == NOT_AUTHORIZED
    kept = await door.archive.rows("SELECT organization_id, sop_instance_uid FROM instance")
    assert [tuple(row.values()) for row in kept] == [(THEIRS, THEIR_IMAGE.sop)]
    assert await door.archive.one("SELECT count(*) FROM quarantine") == 0


# --- user identity (PS3.7 D.3.3.7)


class Directory:
    """Knows one user of each organisation, and who asked from where."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    async def by_passcode(self, user_name: str, passcode: str, *, address: str) -> Subject | None:
        self.addresses.append(address)
        return USERS.get((user_name, passcode))

    async def by_token(self, token: str, *, address: str) -> Subject | None:
        return await self.by_passcode("token", token, address=address)


def user(organization_id: int, *permissions: Permission) -> Subject:
    return Subject(SubjectKind.USER, "7", organization_id, frozenset(permissions))


USERS = {
    ("anna", "right"): user(OURS, Permission.STUDIES_SEARCH, Permission.STUDIES_STORE),
    ("reader", "right"): user(OURS, Permission.STUDIES_SEARCH),
    ("bert", "right"): user(THEIRS, Permission.STUDIES_SEARCH, Permission.STUDIES_STORE),
    ("token", "ey.J.w"): user(OURS, Permission.STUDIES_SEARCH, Permission.STUDIES_STORE),
}
PASSCODE, TOKEN = UserIdentityType.USERNAME_AND_PASSCODE, UserIdentityType.JSON_WEB_TOKEN


@pytest.mark.parametrize(
    ("identity", "accepted"),
    [
        (UserIdentity(PASSCODE, b"anna", b"right"), {VERIFICATION, CT, STUDY_ROOT_FIND}),
        (UserIdentity(PASSCODE, b"reader", b"right"), {VERIFICATION, STUDY_ROOT_FIND}),
        (UserIdentity(TOKEN, b"ey.J.w", response_requested=True), {VERIFICATION, CT, STUDY_ROOT_FIND}),
        (UserIdentity(UserIdentityType.USERNAME, b"anybody"), {VERIFICATION, CT, STUDY_ROOT_FIND}),
        (None, {VERIFICATION, CT, STUDY_ROOT_FIND}),
        (UserIdentity(PASSCODE, b"anna", b"wrong"), None),
        (UserIdentity(PASSCODE, b"nobody", b"right"), None),
        (UserIdentity(PASSCODE, b"", b""), None),
        (UserIdentity(PASSCODE, b"\xff\xfe", b"right"), None),
        (UserIdentity(PASSCODE, b"a" * 20_000, b"right"), None),
        (UserIdentity(PASSCODE, b"bert", b"right"), None),  # of another organisation than the AE title
        (UserIdentity(TOKEN, b"stale"), None),
    ],
    ids=str,
)
async def test_user_identities(
    tmp_path: Path, identity: UserIdentity | None, accepted: set[str] | None
) -> None:
    directory = Directory()
    contexts = [Proposal(one, (EXPLICIT,)) for one in (VERIFICATION, CT, STUDY_ROOT_FIND)]
    async with scp_door(tmp_path, loopback_exempt=False, verifier=directory) as door:
        await door.ae_titles.register(OURS, "OURS")
        if accepted is not None:
            async with await door.connect(*contexts, calling="OURS", user_identity=identity) as association:
                assert {one.abstract_syntax for one in association.contexts.values()} == accepted
                answer = association.accept.user_information.user_identity_response
                assert answer == (b"" if identity and identity.response_requested else None)
        else:
            with pytest.raises(AssociationRejected) as refused:
                await door.connect(*contexts, calling="OURS", user_identity=identity)
            assert refused.value.reject.result == 1
            await door.ae_titles.admission.notes.flush()
            [peer] = await door.ae_titles.refused(OURS)
            assert (peer.reason, peer.command) == ("user-identity-not-accepted", "")
        assert set(directory.addresses) <= {"127.0.0.1"}
        # Whoever is not let in by its title learns nothing of users.
        asked = len(directory.addresses)
        with pytest.raises(AssociationRejected):
            await door.connect(*contexts, calling="NOBODY", user_identity=identity)
        assert len(directory.addresses) == asked


async def test_without_a_verifier_identities_are_not_looked_at(tmp_path: Path) -> None:
    wrong = UserIdentity(PASSCODE, b"anna", b"wrong")
    async with scp_door(tmp_path) as door, await door.connect(user_identity=wrong) as association:
        await association.echo()
