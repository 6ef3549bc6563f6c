"""Objects leave with the patient that the index says, and are otherwise what they were (ADR 0021)."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset

from isocenter.features.archive.entry import OutcomeKind
from isocenter.features.archive.object_elements import read_elements
from isocenter.features.archive.patients.identity import PatientIdentity
from isocenter.features.archive.patients.merges import PatientMerges
from isocenter.features.archive.presented import PresentingStore, find_instances, presented
from isocenter.features.archive.retrieve import StoredInstance, find_stored
from isocenter.kit.errors import Conflict, InternalError, InvalidInput
from isocenter.platform.storage.interface import ObjectStore
from services.archive import CT, ORGANIZATION, Image, TestArchive, element, opened, part10
from services.dicom_files import pydicom_files
from services.schema import fresh_url
from services.sequences import items

SURVIVOR = Image(
    study="2.25.1",
    series="2.25.1.1",
    sop="2.25.1.1.1",
    patient_id="SURVIVOR",
    issuer="HOSPITAL",
    name="Buc^J\xe9r\xf4me",
    birth_date="19501231",
    sex="M",
    more=((0x00080005, "CS", "ISO_IR 100"),),
)
UTF_8 = ((0x00080005, "CS", "ISO_IR 192"),)
WHO = PatientIdentity("SURVIVOR", "HOSPITAL")
FILES = {path.name: path for path in pydicom_files()}
KINDS = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm"),
    *("JPEG2000.dcm", "emri_small_RLE.dcm", "emri_small_jpeg_ls_lossless.dcm", "test-SR.dcm"),
    *("rtplan.dcm", "rtdose.dcm", "SC_rgb_rle_2frame.dcm", "waveform_ecg.dcm", "reportsi.dcm"),
    *("chrH31.dcm", "chrH32.dcm", "chrKoreanMulti.dcm", "chrX1.dcm", "chrGerm.dcm", "chrSQEncoding.dcm"),
)
DEFLATED = "1.2.840.10008.1.2.1.99"
HAS = [kind for kind in KINDS if kind in FILES]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # what the files are like


@pytest.fixture(params=["sqlite", "postgresql"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TestArchive]:
    with fresh_url(request, request.param, tmp_path) as url:
        async with opened(url, tmp_path, accept_unknown_sop_classes=True) as one:
            yield one


@pytest.fixture
def store(archive: TestArchive) -> PresentingStore:
    return archive.leaving


def read(content: bytes) -> FileDataset:
    return pydicom.dcmread(BytesIO(content), force=True)


async def merge(archive: TestArchive, patient_id: str, issuer: str = "") -> PatientMerges:
    merges = PatientMerges(archive.database, archive.clock)
    await archive.send(SURVIVOR)
    await merges.merge(ORGANIZATION, PatientIdentity(patient_id, issuer), WHO)
    return merges


async def leaving(archive: TestArchive, store: ObjectStore, study: str) -> StoredInstance:
    [instance] = await find_instances(archive.database, store, ORGANIZATION, study)
    return instance


OF_THE_STUDY = {
    *("PatientAge", "PatientSize", "PatientSizeCodeSequence", "PatientBodyMassIndex", "PatientWeight"),
    *("MeasuredAPDimension", "MeasuredLateralDimension", "MedicalAlerts", "Allergies", "Occupation"),
    *("SmokingStatus", "AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientSexNeutered"),
    *("PatientBreedDescription", "PatientBreedCodeSequence", "ExaminedBodyThickness"),
}
"""Of group 0010, what is true of whoever was examined."""
SAID_BY_US = {"OriginalAttributesSequence", "SpecificCharacterSet", "ReferencedPatientSequence"}


def texts(dataset: Dataset) -> dict[str, object]:
    """All but the patient, as values."""
    return {
        str(element.tag): element.value if element.VR != "SQ" else [texts(item) for item in element.value]
        for element in dataset
        if element.tag.group != 0x0010 or element.keyword in OF_THE_STUDY
        if element.keyword not in SAID_BY_US and element.tag.element != 0
    }


@pytest.mark.parametrize("name", HAS)
async def test_the_patient_is_the_survivor_and_all_else_is_as_it_was(
    archive: TestArchive, store: PresentingStore, name: str
) -> None:
    original = FILES[name].read_bytes()
    before = read(original)
    outcome = await archive.send_one(original)
    if not outcome.kind.accepted or not before.get("PatientID"):
        pytest.skip("not for the archive")
    merges = await merge(archive, str(before.PatientID), str(before.get("IssuerOfPatientID", "")))
    instance = await leaving(archive, store, outcome.study_instance_uid)
    content = await store.get(instance.object_key)
    assert len(content) == instance.size
    after = read(content)
    assert (after.PatientID, after.IssuerOfPatientID) == ("SURVIVOR", "HOSPITAL")
    assert str(after.PatientName) == "Buc^J\xe9r\xf4me"
    assert (after.PatientBirthDate, after.PatientSex) == ("19501231", "M")
    assert after.file_meta == before.file_meta
    assert texts(after) == texts(before)
    item = after.OriginalAttributesSequence[-1]
    assert (item.ModifyingSystem, item.ReasonForTheAttributeModification) == ("Isocenter", "COERCE")
    [told] = item.ModifiedAttributesSequence
    assert told.PatientID == before.PatientID
    assert str(told.get("PatientName", before.PatientName)) == str(before.PatientName)
    if instance.pixel_offset is not None:
        length = instance.pixel_length or 0
        [stored] = await find_stored(archive.database, ORGANIZATION, outcome.study_instance_uid)
        assert stored.pixel_offset is not None
        assert (
            content[instance.pixel_offset : instance.pixel_offset + length]
            == original[stored.pixel_offset : stored.pixel_offset + length]
        )
    elements = {one.tag for one in await read_elements(store, instance)}
    assert 0x04000561 in elements
    await merges.unmerge(
        ORGANIZATION, PatientIdentity(str(before.PatientID), str(before.get("IssuerOfPatientID", "")))
    )
    again = await leaving(archive, store, outcome.study_instance_uid)
    assert again.object_key != instance.object_key
    assert await store.get(again.object_key) == original, "an undo is an undo"


async def test_ranges_are_those_of_the_whole(archive: TestArchive, store: PresentingStore) -> None:
    image = Image(pixels=bytes(range(256)) * 40)
    await archive.send(image)
    await merge(archive, "P1")
    instance = await leaving(archive, store, image.study)
    whole = await store.get(instance.object_key)
    assert instance.pixel_offset is not None
    for start in (
        0,
        1,
        131,
        instance.pixel_offset - 3,
        instance.pixel_offset,
        instance.size - 1,
        instance.size,
    ):
        for length in (0, 1, 7, 5000, 1 << 20):
            assert await store.read_range(instance.object_key, start, length) == whole[start : start + length]
        pieces = [piece async for piece in store.stream(instance.object_key, start, None, 100)]
        assert b"".join(pieces) == whole[start:] and all(len(piece) <= 100 for piece in pieces)


MODEL = bytes(range(256)) * (3 << 12)
LARGE = Image(
    sop_class="1.2.840.10008.5.1.4.1.1.104.3",
    modality="M3D",
    more=(
        (0x00080005, "CS", "ISO_IR 100"),
        (0x00104000, "LT", "of whom it was"),
        (0x0040A160, "UT", "J\xe9r\xf4me ".encode("latin-1") * 200_000),
        (0x00420011, "OB", MODEL),
        (0x00420012, "LO", "model/stl"),
        (0x7FE00010, "OW", None),
    ),  # type: ignore[arg-type]
)
"""Larger than what is read whole, without Pixel Data."""


async def test_what_is_large_stays_where_it_is(archive: TestArchive, store: PresentingStore) -> None:
    """But for texts, which change with the character set."""
    await archive.send(LARGE, SURVIVOR.but(name="\u5c71\u7530^\u592a\u90ce".encode(), more=UTF_8))
    merges = PatientMerges(archive.database, archive.clock)
    await merges.merge(ORGANIZATION, PatientIdentity("P1"), WHO)
    instance = await leaving(archive, store, LARGE.study)
    whole = await store.get(instance.object_key)
    after = read(whole)
    assert (after.PatientID, str(after.PatientName)) == ("SURVIVOR", "\u5c71\u7530^\u592a\u90ce")
    assert (after.SpecificCharacterSet, after.EncapsulatedDocument) == ("ISO_IR 192", MODEL)
    assert after.TextValue == ("J\xe9r\xf4me " * 200_000).rstrip()
    assert len(whole) == instance.size
    at, end = whole.index(MODEL), len(whole)
    for start, length in ((0, 300), (at - 9, 20), (at + 5, 9000), (at + len(MODEL) - 3, 9), (end, 1)):
        assert await store.read_range(instance.object_key, start, length) == whole[start : start + length]


async def test_what_is_large_and_damaged_is_refused(archive: TestArchive, store: PresentingStore) -> None:
    await archive.send(LARGE)
    await archive.damage(LARGE)
    await merge(archive, "P1")
    with pytest.raises(Conflict):
        await leaving(archive, store, LARGE.study)


async def test_nothing_of_the_other_patient_stays(archive: TestArchive, store: PresentingStore) -> None:
    """Whom it was merged from told more than the survivor does."""
    image = Image(
        issuer="OLD",
        more=(
            *((0x00101000, "LO", "X\\Y"), (0x00102160, "SH", "group"), (0x00101005, "PN", "MAIDEN^ANN")),
            *((0x00101040, "LO", "Old Street"), (0x00101060, "PN", "M^O"), (0x00102154, "SH", "555")),
            *((0x00101010, "AS", "050Y"), (0x00104000, "LT", "a comment"), (0x00102110, "LO", "nuts")),
            (0x00100026, "SQ", items(element(0x00100020, "LO", "OTHER-ID"))),
            (0x0010F021, "LO", "of a later edition"),
        ),
    )
    other = SURVIVOR.but(birth_date=None, sex=None, issuer=None)
    await archive.send(image, other)
    await PatientMerges(archive.database, archive.clock).merge(
        ORGANIZATION, PatientIdentity("P1", "OLD"), PatientIdentity("SURVIVOR")
    )
    instance = await leaving(archive, store, image.study)
    after = read(await store.get(instance.object_key))
    assert (after.PatientID, after.PatientBirthDate, after.PatientSex) == ("SURVIVOR", "", "")
    gone = ("IssuerOfPatientID", "OtherPatientIDs", "EthnicGroup", "PatientComments")
    gone += ("PatientBirthName", "PatientAddress", "PatientMotherBirthName", "PatientTelephoneNumbers")
    gone += ("SourcePatientGroupIdentificationSequence",)
    assert (after.PatientAge, after.Allergies) == ("050Y", "nuts"), "as it was when it was taken"
    assert 0x0010F021 not in after
    assert not [name for name in gone if name in after]
    [told] = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert (told.IssuerOfPatientID, told.PatientComments) == ("OLD", "a comment")
    assert told.SourcePatientGroupIdentificationSequence[0].PatientID == "OTHER-ID"


async def test_corrected_values_are_told_and_what_is_not_known_stays(
    archive: TestArchive, store: PresentingStore
) -> None:
    image = Image(birth_date="19700101", name="DOE^JANE")
    await archive.send(image)
    assert (await leaving(archive, store, image.study)).patient == ""
    await archive.execute("""
        UPDATE patient SET corrected = 1,
            fragments = replace(fragments, 'DOE^JANE', 'ROE^JANE')
    """)
    instance = await leaving(archive, store, image.study)
    after = read(await store.get(instance.object_key))
    assert (str(after.PatientName), after.PatientBirthDate, after.PatientID) == ("ROE^JANE", "19700101", "P1")
    [told] = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert str(told.PatientName) == "DOE^JANE" and len(told) == 1


async def test_a_header_that_cannot_be_rewritten_gives_an_error_and_never_the_wrong_patient(
    archive: TestArchive, store: PresentingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Image(sop_class="1.2.840.10008.5.1.4.1.1.88.11", modality="SR")
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(report.data_set) + compressor.flush()
    await archive.send(part10(deflated + b"\0" * (len(deflated) % 2), report.sop, CT, DEFLATED))
    await merge(archive, "P1")
    monkeypatch.setattr("isocenter.features.archive.presented._COPIED_BYTES_MAX", 10)
    with pytest.raises(Conflict):
        await leaving(archive, store, report.study)
    stored = await find_stored(archive.database, ORGANIZATION, report.study)
    [instance] = await presented(store, stored)
    with pytest.raises(Conflict):
        await store.get(instance.object_key)
    monkeypatch.undo()

    def cannot(*_: object, **__: object) -> None:
        raise InvalidInput("broken")

    monkeypatch.setattr("isocenter.features.archive.presented.reconciled", cannot)
    with pytest.raises(Conflict):
        await store.get(instance.object_key)


async def test_a_store_that_cannot_present_gives_nothing(archive: TestArchive) -> None:
    await archive.send(Image())
    await merge(archive, "P1")
    with pytest.raises(InternalError):
        await find_instances(archive.database, archive.store, ORGANIZATION, Image().study)
    [stored] = await find_stored(archive.database, ORGANIZATION, SURVIVOR.study)
    assert await presented(archive.store, [stored]) == [stored], "whose patient is whom it names"


async def test_what_is_sent_back_is_another_object(archive: TestArchive, store: PresentingStore) -> None:
    """It has our item in it, and says so: the archive keeps the original."""
    image = Image()
    await archive.send(image)
    await merge(archive, "P1")
    instance = await leaving(archive, store, image.study)
    outcome = await archive.send_one(await store.get(instance.object_key))
    assert outcome.kind in {OutcomeKind.REJECTED, OutcomeKind.QUARANTINED}
    [stored] = await find_stored(archive.database, ORGANIZATION, image.study)
    assert stored.sha256 == image.sha256
