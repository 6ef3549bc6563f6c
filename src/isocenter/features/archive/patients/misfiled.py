"""Studies that are not filed under who is left of whom their objects name (ADR 0021): found, and filed again.

None ever is; ``isocenter storage check`` looks all the same.
"""

from __future__ import annotations

from isocenter.features.archive import changes, queries
from isocenter.features.archive.filing import stripes
from isocenter.features.archive.patients import queries as statements
from isocenter.features.archive.patients.merges import CHANGED
from isocenter.features.archive.usage import Growth
from isocenter.platform.db import Row, Work


def find_misfiled(organization_id: int) -> Work[list[Row]]:
    return (yield statements.FIND_MISFILED_STUDIES(organization_id=organization_id))


def mend_misfiled(organization_id: int, found: list[Row], now_us: int) -> Work[int]:
    """File those of ``found`` again that are still misfiled once nobody else touches them; how many."""
    studies = {row["study_instance_uid"] for row in found}
    patient_ids = {row["patient_id"] for row in found}
    yield queries.LOCK_ENTITIES(stripes=stripes(organization_id, studies, patient_ids))
    rows = [
        row for row in (yield from find_misfiled(organization_id)) if row["study_instance_uid"] in studies
    ]
    for row in rows:
        yield statements.REFILE_STUDY(
            organization_id=organization_id, id=row["id"], patient_pk=row["patient_pk"], now_us=now_us
        )
    for wrong_pk in sorted({row["wrong_pk"] for row in rows}):
        yield queries.REMOVE_PATIENT_WITHOUT_STUDY(organization_id=organization_id, id=wrong_pk)
    told = [changes.Told(CHANGED, row["study_instance_uid"], "", "", {}) for row in rows]
    if told:
        yield from changes.append(organization_id, told, Growth(), now_us)
    return len(rows)
