"""SOP classes by name: the services (PS3.4), the storage classes that code speaks of, and who is one."""

from __future__ import annotations

from typing import Final

from isocenter.dicom.storage_sop_classes import STORAGE_SOP_CLASSES

VERIFICATION: Final = "1.2.840.10008.1.1"

STORAGE_COMMITMENT_PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PROCEDURAL_EVENT_LOGGING: Final = "1.2.840.10008.1.40"
MODALITY_PERFORMED_PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE: Final = "1.2.840.10008.3.1.2.3.4"
MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION: Final = "1.2.840.10008.3.1.2.3.5"
MODALITY_WORKLIST_FIND: Final = "1.2.840.10008.5.1.4.31"
INSTANCE_AVAILABILITY_NOTIFICATION: Final = "1.2.840.10008.5.1.4.33"

PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_STUDY_ONLY_FIND: Final = "1.2.840.10008.5.1.4.1.2.3.1"
PATIENT_STUDY_ONLY_MOVE: Final = "1.2.840.10008.5.1.4.1.2.3.2"
PATIENT_STUDY_ONLY_GET: Final = "1.2.840.10008.5.1.4.1.2.3.3"
COMPOSITE_INSTANCE_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.4.2"
COMPOSITE_INSTANCE_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.4.3"
COMPOSITE_INSTANCE_WITHOUT_BULK_DATA_GET: Final = "1.2.840.10008.5.1.4.1.2.5.3"

UNIFIED_PROCEDURE_STEP_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
UNIFIED_PROCEDURE_STEP_WATCH: Final = "1.2.840.10008.5.1.4.34.6.2"
UNIFIED_PROCEDURE_STEP_PULL: Final = "1.2.840.10008.5.1.4.34.6.3"
UNIFIED_PROCEDURE_STEP_EVENT: Final = "1.2.840.10008.5.1.4.34.6.4"
UNIFIED_PROCEDURE_STEP_QUERY: Final = "1.2.840.10008.5.1.4.34.6.5"

HANGING_PROTOCOL_FIND: Final = "1.2.840.10008.5.1.4.38.2"
HANGING_PROTOCOL_MOVE: Final = "1.2.840.10008.5.1.4.38.3"
HANGING_PROTOCOL_GET: Final = "1.2.840.10008.5.1.4.38.4"
COLOR_PALETTE_FIND: Final = "1.2.840.10008.5.1.4.39.2"
COLOR_PALETTE_MOVE: Final = "1.2.840.10008.5.1.4.39.3"
COLOR_PALETTE_GET: Final = "1.2.840.10008.5.1.4.39.4"
INVENTORY_FIND: Final = "1.2.840.10008.5.1.4.1.1.201.2"
INVENTORY_MOVE: Final = "1.2.840.10008.5.1.4.1.1.201.3"
INVENTORY_GET: Final = "1.2.840.10008.5.1.4.1.1.201.4"

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"

CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2.1"
MR_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.4.1"
COMPUTED_RADIOGRAPHY_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.1"
ULTRASOUND_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.6.1"
SECONDARY_CAPTURE_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.7"
MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.7.2"
BASIC_TEXT_SR_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.88.11"
ENCAPSULATED_PDF_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.104.1"
KEY_OBJECT_SELECTION_DOCUMENT_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.88.59"
SEGMENTATION_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.4"

STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
UNIFIED_PROCEDURE_STEP_SUBSCRIPTION_INSTANCE: Final = "1.2.840.10008.5.1.4.34.5"
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"

SERVICE_SOP_CLASSES: Final[dict[str, str]] = {
    VERIFICATION: "Verification",
    STORAGE_COMMITMENT_PUSH_MODEL: "Storage Commitment Push Model",
    PROCEDURAL_EVENT_LOGGING: "Procedural Event Logging",
    MODALITY_PERFORMED_PROCEDURE_STEP: "Modality Performed Procedure Step",
    MODALITY_PERFORMED_PROCEDURE_STEP_RETRIEVE: "Modality Performed Procedure Step Retrieve",
    MODALITY_PERFORMED_PROCEDURE_STEP_NOTIFICATION: "Modality Performed Procedure Step Notification",
    MODALITY_WORKLIST_FIND: "Modality Worklist Information Model - FIND",
    INSTANCE_AVAILABILITY_NOTIFICATION: "Instance Availability Notification",
    PATIENT_ROOT_FIND: "Patient Root Query/Retrieve Information Model - FIND",
    PATIENT_ROOT_MOVE: "Patient Root Query/Retrieve Information Model - MOVE",
    PATIENT_ROOT_GET: "Patient Root Query/Retrieve Information Model - GET",
    STUDY_ROOT_FIND: "Study Root Query/Retrieve Information Model - FIND",
    STUDY_ROOT_MOVE: "Study Root Query/Retrieve Information Model - MOVE",
    STUDY_ROOT_GET: "Study Root Query/Retrieve Information Model - GET",
    PATIENT_STUDY_ONLY_FIND: "Patient/Study Only Query/Retrieve Information Model - FIND (Retired)",
    PATIENT_STUDY_ONLY_MOVE: "Patient/Study Only Query/Retrieve Information Model - MOVE (Retired)",
    PATIENT_STUDY_ONLY_GET: "Patient/Study Only Query/Retrieve Information Model - GET (Retired)",
    COMPOSITE_INSTANCE_ROOT_MOVE: "Composite Instance Root Retrieve - MOVE",
    COMPOSITE_INSTANCE_ROOT_GET: "Composite Instance Root Retrieve - GET",
    COMPOSITE_INSTANCE_WITHOUT_BULK_DATA_GET: "Composite Instance Retrieve Without Bulk Data - GET",
    UNIFIED_PROCEDURE_STEP_PUSH: "Unified Procedure Step - Push",
    UNIFIED_PROCEDURE_STEP_WATCH: "Unified Procedure Step - Watch",
    UNIFIED_PROCEDURE_STEP_PULL: "Unified Procedure Step - Pull",
    UNIFIED_PROCEDURE_STEP_EVENT: "Unified Procedure Step - Event",
    UNIFIED_PROCEDURE_STEP_QUERY: "Unified Procedure Step - Query",
    HANGING_PROTOCOL_FIND: "Hanging Protocol Information Model - FIND",
    HANGING_PROTOCOL_MOVE: "Hanging Protocol Information Model - MOVE",
    HANGING_PROTOCOL_GET: "Hanging Protocol Information Model - GET",
    COLOR_PALETTE_FIND: "Color Palette Query/Retrieve Information Model - FIND",
    COLOR_PALETTE_MOVE: "Color Palette Query/Retrieve Information Model - MOVE",
    COLOR_PALETTE_GET: "Color Palette Query/Retrieve Information Model - GET",
    INVENTORY_FIND: "Inventory - FIND",
    INVENTORY_MOVE: "Inventory - MOVE",
    INVENTORY_GET: "Inventory - GET",
    MEDIA_STORAGE_DIRECTORY: "Media Storage Directory Storage",
}


def is_storage_sop_class(uid: str) -> bool:
    """Whether the standard, retired parts included, lets C-STORE carry instances of that class."""
    return uid in STORAGE_SOP_CLASSES


def sop_class_name(uid: str) -> str:
    """The name for people; the UID itself where the standard does not know it (private classes)."""
    return STORAGE_SOP_CLASSES.get(uid) or SERVICE_SOP_CLASSES.get(uid) or uid
