"""Counting again what series and studies hold, after objects left them; removing what became empty.

Used wherever rows go away (deletion, replacement) and by ``isocenter storage check``; ingest only adds.
"""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.features.archive.queries import SET_SERIES_SOP_CLASSES
from isocenter.platform.db import Sql, Work

FIND_STUDIES_OF_SERIES = Sql("""
    SELECT DISTINCT study_pk FROM series WHERE organization_id = :organization_id AND id IN :series_pks
""")

LOCK_STUDIES = Sql("""
    SELECT id FROM study WHERE organization_id = :organization_id AND id IN :study_pks ORDER BY id FOR UPDATE
""")
"""First of all: a count that waited for the row it sets would still be of what was there before it waited."""

RECOUNT_SERIES = Sql("""
    UPDATE series SET updated_at_us = :now_us, instance_count = (
        SELECT count(*) FROM instance WHERE instance.series_pk = series.id AND instance.current = 1)
    WHERE organization_id = :organization_id AND id IN :series_pks
""")

FIND_SOP_CLASSES = Sql("""
    SELECT DISTINCT series_pk, sop_class_uid FROM instance
    WHERE organization_id = :organization_id AND series_pk IN :series_pks AND current = 1
    ORDER BY series_pk, sop_class_uid
""")

REMOVE_EMPTY_SERIES = Sql("""
    DELETE FROM series WHERE organization_id = :organization_id AND id IN :series_pks
      AND NOT EXISTS (SELECT 1 FROM instance WHERE instance.series_pk = series.id)
""")

RECOUNT_STUDIES = Sql("""
    UPDATE study SET updated_at_us = :now_us,
        series_count = (SELECT count(*) FROM series WHERE series.study_pk = study.id),
        instance_count = (SELECT coalesce(sum(instance_count), 0) FROM series
                          WHERE series.study_pk = study.id)
    WHERE organization_id = :organization_id AND id IN :study_pks
""")

FIND_MODALITIES = Sql("""
    SELECT DISTINCT study_pk, modality FROM series
    WHERE organization_id = :organization_id AND study_pk IN :study_pks AND modality <> ''
    ORDER BY study_pk, modality
""")

SET_MODALITIES = Sql("""
    UPDATE study SET modalities = :modalities WHERE organization_id = :organization_id AND id = :id
""")

FIND_EMPTY_STUDIES = Sql("""
    SELECT id, patient_pk FROM study WHERE organization_id = :organization_id AND id IN :study_pks
      AND NOT EXISTS (SELECT 1 FROM series WHERE series.study_pk = study.id)
""")

REMOVE_STUDIES = Sql("""
    DELETE FROM study WHERE organization_id = :organization_id AND id IN :study_pks
""")

REMOVE_PATIENTS_WITHOUT_STUDY = Sql("""
    DELETE FROM patient WHERE organization_id = :organization_id AND id IN :patient_pks
      AND survivor_pk IS NULL
      AND NOT EXISTS (SELECT 1 FROM study WHERE study.patient_pk = patient.id)
      AND NOT EXISTS (SELECT 1 FROM patient AS merged WHERE merged.survivor_pk = patient.id)
""")


def recount_series(organization_id: int, series_pks: Sequence[int], now_us: int) -> Work[None]:
    """Set the counters of these series and their studies right; drop those that hold nothing any more.

    A patient goes with the last study: nothing but what its objects told is known of it. Who was merged, or
    is who is left of a merge, stays: a person said so.
    """
    scope = {"organization_id": organization_id, "series_pks": list(series_pks)}
    rows = yield FIND_STUDIES_OF_SERIES(**scope)
    study_pks = [row[0] for row in rows]
    yield LOCK_STUDIES(organization_id=organization_id, study_pks=study_pks)
    yield RECOUNT_SERIES(**scope, now_us=now_us)
    yield REMOVE_EMPTY_SERIES(**scope)
    yield from _gather_sop_classes(organization_id, series_pks)
    yield from recount_studies(organization_id, study_pks, now_us)


def _gather_sop_classes(organization_id: int, series_pks: Sequence[int]) -> Work[None]:
    classes: dict[int, list[str]] = {series_pk: [] for series_pk in series_pks}
    for row in (yield FIND_SOP_CLASSES(organization_id=organization_id, series_pks=list(series_pks))):
        classes[row["series_pk"]].append(row["sop_class_uid"])
    yield SET_SERIES_SOP_CLASSES.many(
        [
            {"organization_id": organization_id, "id": series_pk, "sop_classes": " ".join(found)}
            for series_pk, found in classes.items()
        ]
    )


def recount_studies(organization_id: int, study_pks: Sequence[int], now_us: int) -> Work[None]:
    scope = {"organization_id": organization_id, "study_pks": list(study_pks)}
    yield RECOUNT_STUDIES(**scope, now_us=now_us)
    modalities: dict[int, list[str]] = {study_pk: [] for study_pk in study_pks}
    for row in (yield FIND_MODALITIES(**scope)):
        modalities[row["study_pk"]].append(row["modality"])
    yield SET_MODALITIES.many(
        [
            {"organization_id": organization_id, "id": study_pk, "modalities": "\\".join(found)}
            for study_pk, found in modalities.items()
        ]
    )
    empty = yield FIND_EMPTY_STUDIES(**scope)
    if empty:
        yield REMOVE_STUDIES(organization_id=organization_id, study_pks=[row["id"] for row in empty])
        yield REMOVE_PATIENTS_WITHOUT_STUDY(
            organization_id=organization_id, patient_pks=[row["patient_pk"] for row in empty]
        )
