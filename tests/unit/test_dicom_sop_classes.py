"""The SOP class tables against pydicom's and against the standard's own list."""

from __future__ import annotations

import json

import pytest
from pydicom.uid import UID_dictionary

from isocenter.dicom import sop_classes
from isocenter.dicom.sop_classes import SERVICE_SOP_CLASSES, is_storage_sop_class, sop_class_name
from isocenter.dicom.storage_sop_classes import STORAGE_SOP_CLASSES
from isocenter.dicom.uids import is_valid_uid
from services.dicom_files import shared_data_folder

NOT_STORED = ("1.2.840.10008.1.3.10", "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2")


def test_storage_classes_are_those_of_pydicom() -> None:
    theirs = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class"
        and uid not in NOT_STORED
        and ("Storage" in name or (not name and uid.startswith("1.2.840.10008.5.1.4.1.1.")))
    }
    assert theirs == set(STORAGE_SOP_CLASSES)
    for uid, name in STORAGE_SOP_CLASSES.items():
        their_name, _, _, retired, _ = UID_dictionary[uid]
        assert name.removesuffix(" (Retired)") == their_name.removesuffix(" SOP Class") or not their_name
        assert name.endswith(" (Retired)") is (retired == "Retired")
        assert is_valid_uid(uid)


def test_storage_classes_hold_those_of_the_standard() -> None:
    folder = shared_data_folder()
    if folder is None or not (folder / "standard" / "sops.json").exists():
        pytest.skip("no shared copy of the standard's tables here")
    listed = {entry["id"] for entry in json.loads((folder / "standard" / "sops.json").read_text())}
    assert listed - {sop_classes.MEDIA_STORAGE_DIRECTORY} <= set(STORAGE_SOP_CLASSES)


def test_services_are_named_as_in_pydicom() -> None:
    for uid, name in SERVICE_SOP_CLASSES.items():
        their_name, kind, _, retired, _ = UID_dictionary[uid]
        assert kind == "SOP Class"
        assert name.removesuffix(" (Retired)") == their_name.removesuffix(" SOP Class")
        assert name.endswith(" (Retired)") is (retired == "Retired")


def test_constants_are_in_one_table_or_the_other() -> None:
    named = {
        name: value
        for name, value in vars(sop_classes).items()
        if isinstance(value, str) and value.startswith("1.2.840") and "INSTANCE" not in name.split("_")[-1]
    }
    del named["APPLICATION_CONTEXT"]
    assert len(named) > 40
    for uid in named.values():
        assert (uid in STORAGE_SOP_CLASSES) is not (uid in SERVICE_SOP_CLASSES)


def test_questions_that_doors_ask() -> None:
    assert is_storage_sop_class(sop_classes.CT_IMAGE_STORAGE)
    assert not is_storage_sop_class(sop_classes.VERIFICATION)
    assert not is_storage_sop_class(sop_classes.MEDIA_STORAGE_DIRECTORY)
    assert not is_storage_sop_class("1.2.3")
    assert sop_class_name(sop_classes.CT_IMAGE_STORAGE) == "CT Image Storage"
    assert sop_class_name(sop_classes.STUDY_ROOT_FIND) == "Study Root Query/Retrieve Information Model - FIND"
    assert sop_class_name("1.2.3") == "1.2.3"
