"""Any sequence of objects against a model in plain Python: rows, versions, whose study it is."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.patients.finding import generated_patient_id
from isocenter.features.archive.policies import ConflictPolicy
from isocenter.platform.storage.memory import MemoryStore
from services.archive import Image, TestArchive, broken_promises, opened
from services.schema import fresh_url

KIND = OutcomeKind

images = st.builds(
    Image,
    sop=st.sampled_from([f"1.3.{n}" for n in range(5)]),
    series=st.sampled_from(["1.2.1", "1.2.2"]),
    study=st.sampled_from(["1.1.1", "1.1.2"]),
    patient_id=st.sampled_from(["P1", "P2", None, ""]),
    issuer=st.sampled_from([None, "NORTH", "SOUTH"]),
    name=st.sampled_from(["DOE^JANE", "ROE^RICHARD", None]),
    modality=st.sampled_from(["CT", "MR", "CT", None]),
    pixels=st.sampled_from([b"\1\1", b"\2\2", b"\3\3"]),
)
batches = st.lists(st.lists(images, min_size=1, max_size=4), min_size=1, max_size=8)


@dataclass
class ModelPatient:
    patient_id: str
    issuer: str
    generated: bool
    name: str


@dataclass
class Model:
    """What the archive should hold. ``current``: by SOP Instance UID, the image and its version."""

    policy: ConflictPolicy
    patients: dict[tuple[str, str], ModelPatient] = field(default_factory=dict)
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    current: dict[str, tuple[Image, int]] = field(default_factory=dict)
    retired: list[tuple[Image, int]] = field(default_factory=list)
    quarantined: set[str] = field(default_factory=set)
    duplicates: Counter[str] = field(default_factory=Counter)

    def file(self, image: Image) -> OutcomeKind:
        if not image.modality:
            self.quarantined.add(image.file.hex())
            return KIND.QUARANTINED
        found = self.current.get(image.sop)
        known = [found, *(one for one in self.retired if one[0].sop == image.sop)]
        if any(one and one[0].data_set == image.data_set for one in known):
            self.duplicates[image.sop] += 1
            return KIND.DUPLICATE
        if found and self.policy is ConflictPolicy.REJECT:
            return KIND.REJECTED
        if found and self.policy is ConflictPolicy.KEEP_FIRST:
            return KIND.KEPT_FIRST
        if not self.claim(image):
            self.quarantined.add(image.file.hex())
            return KIND.QUARANTINED
        if not found:
            self.current[image.sop] = image, 1
            return KIND.STORED
        self.current[image.sop] = image, found[1] + 1
        if self.policy is ConflictPolicy.KEEP_BOTH:
            self.retired.append(found)
            return KIND.KEPT_BOTH
        return KIND.REPLACED

    def claim(self, image: Image) -> bool:
        """Whose study it is, by the rules of MISSION A1."""
        told_id, told_issuer, told_name = image.patient_id or "", image.issuer or "", str(image.name or "")
        key = self.owners.get(image.study)
        if key is None:
            generated = not told_id
            key = (told_issuer, told_id or generated_patient_id(image.study))
            self.owners[image.study] = key
            self.meet(key, generated, told_name)
            return True
        owner = self.patients[key]
        same_id = told_id == owner.patient_id and (
            not told_issuer or not owner.issuer or told_issuer == owner.issuer
        )
        if not same_id:
            if told_name and owner.name and told_name != owner.name:
                return False
            if told_id and not owner.generated:
                return False
        if owner.generated and told_id:
            new = (told_issuer, told_id)
            self.owners[image.study] = new
            self.meet(new, False, told_name)
        else:
            owner.name = owner.name or told_name
        return True

    def meet(self, key: tuple[str, str], generated: bool, name: str) -> None:
        patient = self.patients.setdefault(key, ModelPatient(key[1], key[0], generated, ""))
        patient.name = patient.name or name

    def settle(self) -> None:
        """After each transaction: studies and patients that hold nothing are gone."""
        held = {image.study for image, _ in [*self.current.values(), *self.retired]}
        self.owners = {study: key for study, key in self.owners.items() if study in held}
        self.patients = {key: one for key, one in self.patients.items() if key in set(self.owners.values())}


async def told(archive: TestArchive) -> dict[str, Any]:
    """The index in the model's terms."""
    instances = await archive.rows(
        "SELECT sop_instance_uid, version, current, sha256, study_instance_uid, series_instance_uid "
        "FROM instance JOIN series ON series.id = series_pk JOIN study ON study.id = study_pk"
    )
    owners = await archive.rows(
        "SELECT study_instance_uid, issuer, patient_id, generated, name_key "
        "FROM study JOIN patient ON patient.id = patient_pk"
    )
    return {
        "instances": sorted(tuple(row.values()) for row in instances),
        "owners": sorted(tuple(row.values()) for row in owners),
        "quarantined": await archive.one("SELECT count(*) FROM quarantine"),
        "duplicates": await archive.one("SELECT coalesce(sum(duplicate_count), 0) FROM instance"),
        "patients": await archive.one("SELECT count(*) FROM patient"),
    }


def expected(model: Model) -> dict[str, Any]:
    rows = [(image, version, 1) for image, version in model.current.values()]
    rows += [(image, version, 0) for image, version in model.retired]
    return {
        "instances": sorted(
            (image.sop, version, current, image.sha256, image.study, image.series)
            for image, version, current in rows
        ),
        "owners": sorted(
            (study, key[0], key[1], int(model.patients[key].generated), model.patients[key].name.lower())
            for study, key in model.owners.items()
        ),
        "quarantined": len(model.quarantined),
        "duplicates": model.duplicates.total(),
        "patients": len(model.patients),
    }


@pytest.mark.parametrize("policy", list(ConflictPolicy))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=batches)
def test_any_sequence_leaves_what_the_model_says(
    request: pytest.FixtureRequest, policy: ConflictPolicy, sent: list[list[Image]]
):
    with tempfile.TemporaryDirectory() as folder, fresh_url(request, "sqlite", Path(folder)) as url:
        asyncio.run(play(url, Path(folder), policy, sent))


async def play(url: str, folder: Path, policy: ConflictPolicy, sent: list[list[Image]]) -> None:
    model = Model(policy)
    async with opened(url, folder, store=MemoryStore(), conflict=policy) as archive:
        for batch in sent:
            outcomes = await archive.send(*batch)
            assert [outcome.kind for outcome in outcomes] == [model.file(image) for image in batch]
            model.settle()
            actual, wanted = await told(archive), expected(model)
            if policy is ConflictPolicy.REPLACE:
                del actual["duplicates"], wanted["duplicates"]  # they go with the replaced row
            assert actual == wanted
            assert await broken_promises(archive) == []
