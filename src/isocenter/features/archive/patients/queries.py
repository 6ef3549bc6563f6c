"""Every statement on patients as persons see them: merges, identities, conflicts (``finding.py`` files)."""

from __future__ import annotations

from isocenter.platform.db import Sql

FIND_PATIENT = Sql("""
    SELECT id, patient_id, issuer, generated, merged_into_pk, survivor_pk FROM patient
    WHERE organization_id = :organization_id AND issuer = :issuer AND patient_id = :patient_id
""")

FIND_PATIENT_BY_PK = Sql("""
    SELECT id, patient_id, issuer, generated, merged_into_pk, survivor_pk FROM patient
    WHERE organization_id = :organization_id AND id = :id
""")

FIND_MERGED_INTO = Sql("""
    SELECT id, patient_id, issuer, merged_into_pk, merged_at_us, merged_by, merge_reason FROM patient
    WHERE organization_id = :organization_id AND survivor_pk = :survivor_pk ORDER BY id
""")
"""Everybody who stands behind a survivor, whatever the number of merges between."""

FIND_STUDIES_OF_PATIENT = Sql("""
    SELECT study_instance_uid FROM study
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk ORDER BY study_instance_uid
""")

MERGE_PATIENT = Sql("""
    UPDATE patient SET merged_into_pk = :into_pk, survivor_pk = :into_pk, merged_at_us = :now_us,
        merged_by = :merged_by, merge_reason = :reason, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

FOLLOW_SURVIVOR = Sql("""
    UPDATE patient SET survivor_pk = :into_pk
    WHERE organization_id = :organization_id AND survivor_pk = :survivor_pk
""")

UNMERGE_PATIENT = Sql("""
    UPDATE patient SET merged_into_pk = NULL, survivor_pk = NULL, merged_at_us = NULL, merged_by = '',
        merge_reason = '', updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

SET_SURVIVOR = Sql("""
    UPDATE patient SET survivor_pk = :survivor_pk
    WHERE organization_id = :organization_id AND id IN :ids
""")

MOVE_STUDIES = Sql("""
    UPDATE study SET patient_pk = :into_pk, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk
    RETURNING study_instance_uid
""")

GIVE_STUDIES_BACK = Sql("""
    UPDATE study SET patient_pk = :patient_pk, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND patient_pk = :survivor_pk AND told_patient_pk IN :told_pks
    RETURNING study_instance_uid
""")

COPY_PATIENT = Sql("""
    INSERT INTO patient (organization_id, patient_id, issuer, generated, name_key, birth_date, sex, fragments,
        corrected, created_at_us, updated_at_us)
    SELECT organization_id, :patient_id, :issuer, 0, name_key, birth_date, sex, :fragments, corrected,
        :now_us, :now_us
    FROM patient WHERE organization_id = :organization_id AND id = :id
    ON CONFLICT (organization_id, issuer, patient_id) DO NOTHING
    RETURNING id
""")

COPY_PATIENT_VALUES = Sql("""
    INSERT INTO patient_value (organization_id, patient_pk, path, item, inner_item, value)
    SELECT organization_id, :copy_pk, path, item, inner_item, value FROM patient_value
    WHERE organization_id = :organization_id AND patient_pk = :id
""")

FIND_FRAGMENTS = Sql("""
    SELECT fragments FROM patient WHERE organization_id = :organization_id AND id = :id
""")

FIND_MISFILED_STUDIES = Sql("""
    SELECT study.id, coalesce(told.survivor_pk, told.id) AS patient_pk, study.study_instance_uid,
           study.patient_pk AS wrong_pk, told.patient_id
    FROM study JOIN patient AS told ON told.id = study.told_patient_pk
    WHERE study.organization_id = :organization_id
      AND study.patient_pk <> coalesce(told.survivor_pk, told.id)
""")
"""None: a study's patient is the survivor of whom its objects name."""

# --- as persons see them ---------------------------------------------------------------------------------

FIND_RECORD = Sql("""
    SELECT id, patient_id, issuer, generated, corrected, fragments, merged_into_pk, survivor_pk, merged_at_us,
           merged_by, merge_reason,
           (SELECT count(*) FROM study WHERE study.organization_id = :organization_id
            AND study.patient_pk = patient.id) AS studies
    FROM patient
    WHERE organization_id = :organization_id AND issuer = :issuer AND patient_id = :patient_id
""")

FIND_LINKED = Sql("""
    SELECT DISTINCT coalesce(survivor.patient_id, other.patient_id) AS patient_id,
           coalesce(survivor.issuer, other.issuer) AS issuer,
           patient_link.linked_at_us, patient_link.linked_by
    FROM patient_link
    JOIN patient AS other ON other.id IN (patient_link.patient_pk, patient_link.other_pk)
      AND NOT (other.id IN :ids)
    LEFT JOIN patient AS survivor ON survivor.id = other.survivor_pk
    WHERE patient_link.organization_id = :organization_id
      AND (patient_link.patient_pk IN :ids OR patient_link.other_pk IN :ids)
    ORDER BY 1, 2
""")
"""Of a patient and all who were merged into it; the other side is who is left there."""

LINK_PATIENTS = Sql("""
    INSERT INTO patient_link (organization_id, patient_pk, other_pk, linked_at_us, linked_by)
    VALUES (:organization_id, :patient_pk, :other_pk, :now_us, :linked_by)
    ON CONFLICT (patient_pk, other_pk) DO NOTHING
""")

UNLINK_PATIENTS = Sql("""
    DELETE FROM patient_link
    WHERE organization_id = :organization_id
      AND ((patient_pk IN :ids AND other_pk IN :others) OR (patient_pk IN :others AND other_pk IN :ids))
    RETURNING other_pk
""")

COUNT_OPEN_CONFLICTS = Sql("""
    SELECT count(*) FROM patient_conflict
    WHERE organization_id = :organization_id AND state = 'open' AND patient_pk IN :ids
""")

_LISTED_CONFLICTS = """
    SELECT conflict.id, conflict.public_id, patient.patient_id, patient.issuer, conflict.tag, conflict.kept,
           conflict.other, conflict.sop_instance_uid, conflict.seen_at_us, conflict.state,
           conflict.settled_at_us, conflict.settled_by, conflict.settled_note
    FROM patient_conflict AS conflict JOIN patient ON patient.id = conflict.patient_pk
    WHERE conflict.organization_id = :organization_id AND conflict.state = :state AND conflict.id > :after
"""

LIST_CONFLICTS = Sql(f"{_LISTED_CONFLICTS} ORDER BY conflict.id LIMIT :limit")
LIST_CONFLICTS_OF = Sql(
    f"{_LISTED_CONFLICTS} AND conflict.patient_pk IN :patient_pks ORDER BY conflict.id LIMIT :limit"
)

FIND_CONFLICT = Sql("""
    SELECT conflict.id, conflict.public_id, conflict.patient_pk, patient.patient_id, patient.issuer,
           conflict.tag, conflict.kept, conflict.other, conflict.sop_instance_uid, conflict.seen_at_us,
           conflict.state, conflict.settled_at_us, conflict.settled_by, conflict.settled_note,
           survivor.id AS survivor_pk, survivor.patient_id AS survivor_id
    FROM patient_conflict AS conflict JOIN patient ON patient.id = conflict.patient_pk
    LEFT JOIN patient AS survivor ON survivor.id = patient.survivor_pk
    WHERE conflict.organization_id = :organization_id AND conflict.public_id = :public_id
""")

SETTLE_CONFLICT = Sql("""
    UPDATE patient_conflict SET state = :state, settled_at_us = :now_us, settled_by = :settled_by,
        settled_note = :note
    WHERE organization_id = :organization_id AND public_id = :public_id AND state = 'open'
    RETURNING id
""")

FIND_PLACE_OF_CONFLICT = Sql("""
    SELECT id FROM patient_conflict WHERE organization_id = :organization_id AND public_id = :public_id
""")

FIND_OPEN_CONFLICTS = Sql("""
    SELECT public_id, other FROM patient_conflict
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk AND tag = :tag AND state = 'open'
""")

KEEP_NOW = Sql("""
    UPDATE patient_conflict SET kept = :kept
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk AND tag = :tag AND state = 'open'
""")

GIVE_UP_VALUE = Sql("""
    INSERT INTO patient_conflict (organization_id, public_id, patient_pk, tag, kept, other, seen_at_us, state,
        settled_at_us, settled_by, settled_note)
    VALUES (:organization_id, :public_id, :patient_pk, :tag, :kept, :other, :now_us, 'kept', :now_us,
        :settled_by, :note)
    ON CONFLICT (organization_id, patient_pk, tag, other) DO UPDATE SET state = 'kept', kept = excluded.kept,
        settled_at_us = excluded.settled_at_us, settled_by = excluded.settled_by,
        settled_note = excluded.settled_note
""")
"""Objects that still tell the value are not asked about again."""

FIND_GIVEN_UP_VALUES = Sql("""
    SELECT other FROM patient_conflict
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk AND tag = :tag AND state = 'kept'
""")

CORRECT_PATIENT = Sql("""
    UPDATE patient SET name_key = :name_key, birth_date = :birth_date, sex = :sex, fragments = :fragments,
        corrected = 1, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

REMOVE_PATIENT_VALUES = Sql("""
    DELETE FROM patient_value
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk AND path IN :paths
""")

# --- mending ---------------------------------------------------------------------------------------------

REFILE_STUDY = Sql("""
    UPDATE study SET patient_pk = :patient_pk, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")
