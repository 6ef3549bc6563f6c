"""Every statement on patients as persons see them: merges, identities, conflicts (``patients.py`` files)."""

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
    SELECT id, patient_id, issuer, merged_into_pk FROM patient
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
    SELECT study.id, coalesce(told.survivor_pk, told.id) AS patient_pk, study.study_instance_uid
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
    SELECT other.patient_id, other.issuer, patient_link.linked_at_us, patient_link.linked_by
    FROM patient_link
    JOIN patient AS other ON other.id IN (patient_link.patient_pk, patient_link.other_pk) AND other.id <> :id
    WHERE patient_link.organization_id = :organization_id
      AND (patient_link.patient_pk = :id OR patient_link.other_pk = :id)
    ORDER BY other.patient_id, other.issuer
""")

LINK_PATIENTS = Sql("""
    INSERT INTO patient_link (organization_id, patient_pk, other_pk, linked_at_us, linked_by)
    VALUES (:organization_id, :patient_pk, :other_pk, :now_us, :linked_by)
    ON CONFLICT (patient_pk, other_pk) DO NOTHING
""")

UNLINK_PATIENTS = Sql("""
    DELETE FROM patient_link
    WHERE organization_id = :organization_id AND patient_pk = :patient_pk AND other_pk = :other_pk
    RETURNING other_pk
""")

LIST_CONFLICTS = Sql("""
    SELECT conflict.id, conflict.public_id, patient.patient_id, patient.issuer, conflict.tag, conflict.kept,
           conflict.other, conflict.sop_instance_uid, conflict.seen_at_us, conflict.state,
           conflict.settled_at_us, conflict.settled_by, conflict.settled_note
    FROM patient_conflict AS conflict JOIN patient ON patient.id = conflict.patient_pk
    WHERE conflict.organization_id = :organization_id AND conflict.state = :state AND conflict.id > :after
    ORDER BY conflict.id LIMIT :limit
""")

FIND_CONFLICT = Sql("""
    SELECT conflict.id, conflict.public_id, conflict.patient_pk, patient.patient_id, patient.issuer,
           conflict.tag, conflict.kept, conflict.other, conflict.sop_instance_uid, conflict.seen_at_us,
           conflict.state, conflict.settled_at_us, conflict.settled_by, conflict.settled_note
    FROM patient_conflict AS conflict JOIN patient ON patient.id = conflict.patient_pk
    WHERE conflict.organization_id = :organization_id AND conflict.public_id = :public_id
""")

SETTLE_CONFLICT = Sql("""
    UPDATE patient_conflict SET state = :state, settled_at_us = :now_us, settled_by = :settled_by,
        settled_note = :note
    WHERE organization_id = :organization_id AND public_id = :public_id AND state = 'open'
    RETURNING id
""")
