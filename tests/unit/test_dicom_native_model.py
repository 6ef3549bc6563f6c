"""Data sets as XML (PS3.19 A.1), compared with what DCMTK writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset

from isocenter.dicom.native_model import NAMESPACE, native_xml
from isocenter.kit.errors import InvalidInput
from services.dcmtk import Dcmtk


def canonical(node: ElementTree.Element) -> tuple[Any, ...]:
    """Without namespace and without the blanks that DCMTK writes between elements."""
    attributes = {name: value for name, value in node.attrib.items() if "space" not in name}
    return (
        node.tag.removeprefix(f"{{{NAMESPACE}}}"),
        attributes,
        (node.text or "").strip(),
        [canonical(child) for child in node],
    )


def some_data_set() -> Dataset:
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    data_set.ImageType = ["ORIGINAL", "", "AXIAL"]
    data_set.StudyDescription = "A<&>\"'"
    data_set.PatientName = "Yamada^Tarou^^Dr.=山田^太郎"
    data_set.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "private")
    item = Dataset()
    item.ScheduledProcedureStepID = "S1"
    data_set.RequestAttributesSequence = [item, Dataset()]
    data_set.Rows = 512
    return data_set


def test_the_same_as_dcmtk(dcmtk: Dcmtk, tmp_path: Path) -> None:
    data_set = some_data_set()
    data_set.save_as(tmp_path / "some.dcm", enforce_file_format=True)
    theirs = ElementTree.fromstring(dcmtk.run("dcm2xml", "-nat", tmp_path / "some.dcm").stdout)
    ours = ElementTree.fromstring(native_xml(orjson.loads(data_set.to_json())))
    assert ours.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    # DCMTK sorts private elements by the number that it gives them.
    assert sorted(map(repr, canonical(ours)[3])) == sorted(map(repr, canonical(theirs)[3]))


def test_values_that_lie_elsewhere_and_bytes() -> None:
    document = native_xml(
        {
            "7FE00010": {"vr": "OW", "BulkDataURI": "http://host/a?b=1&c=2"},
            "00091001": {"vr": "UN", "InlineBinary": "AAE="},
            "00100010": {"vr": "PN"},
        }
    ).decode()
    assert '<BulkData uri="http://host/a?b=1&amp;c=2"/>' in document
    assert '<DicomAttribute tag="00091001" vr="UN"><InlineBinary>AAE=</InlineBinary>' in document
    assert '<DicomAttribute tag="00100010" vr="PN" keyword="PatientName"></DicomAttribute>' in document
    assert document.index("00091001") < document.index("00100010") < document.index("7FE00010")


def test_sequences_without_end_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"00081140": {"vr": "SQ", "Value": [deep]}}
    with pytest.raises(InvalidInput):
        native_xml(deep)


@given(st.text(), st.text())
def test_any_text_is_well_formed(value: str, name: str) -> None:
    attributes = {
        "00081030": {"vr": "LO", "Value": [value]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
        "00090010": {"vr": "LO", "Value": [value]},
        "00091001": {"vr": "LO", "Value": [name]},
    }
    root = ElementTree.fromstring(native_xml(attributes))
    assert len(root) == 4


def test_what_the_index_holds_of_real_files(pydicom_test_files: list[Path]) -> None:
    written = 0
    for path in pydicom_test_files[:60]:
        try:
            attributes = orjson.loads(pydicom.dcmread(path, stop_before_pixels=True).to_json())
        except Exception:  # what pydicom cannot write as JSON is not our concern here
            continue
        assert len(ElementTree.fromstring(native_xml(attributes))) == len(attributes)
        written += 1
    assert written > 20
