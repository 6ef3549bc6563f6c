"""Every statement that writes the index. (Searching composes its own: ``query.py``.)"""

from __future__ import annotations

from isocenter.dicom.levels import Level
from isocenter.platform.db import Sql

# --- objects already there -------------------------------------------------------------------------------

FIND_CURRENT_INSTANCES = Sql("""
    SELECT instance.id, instance.sop_instance_uid, instance.sha256, instance.transfer_syntax_uid,
           instance.received_sha256, instance.received_transfer_syntax_uid,
           instance.version, instance.object_key, instance.series_pk, series.study_pk,
           series.series_instance_uid, study.study_instance_uid
    FROM instance
    JOIN series ON series.id = instance.series_pk
    JOIN study ON study.id = series.study_pk
    WHERE instance.organization_id = :organization_id AND instance.current = 1
      AND instance.sop_instance_uid IN :uids
""")

FIND_RETIRED_INSTANCE = Sql("""
    SELECT id FROM instance
    WHERE organization_id = :organization_id AND sop_instance_uid = :sop_instance_uid AND current = 0
      AND (sha256 = :sha256 AND transfer_syntax_uid = :transfer_syntax_uid
           OR received_sha256 = :sha256 AND received_transfer_syntax_uid = :transfer_syntax_uid)
""")

INSERT_INSTANCES = Sql("""
    INSERT INTO instance (organization_id, series_pk, sop_instance_uid, sop_class_uid, transfer_syntax_uid,
        instance_number, content_date, content_time, number_of_frames, fragments, object_key, size,
        header_size, sha256, pixel_offset, pixel_length, frame_offsets, version, current, door, peer,
        received_at_us)
    VALUES (:organization_id, :series_pk, :sop_instance_uid, :sop_class_uid, :transfer_syntax_uid,
        :instance_number, :content_date, :content_time, :number_of_frames, :fragments, :object_key, :size,
        :header_size, :sha256, :pixel_offset, :pixel_length, :frame_offsets, :version, 1, :door, :peer,
        :received_at_us)
""")

COUNT_DUPLICATE = Sql("""
    UPDATE instance SET duplicate_count = duplicate_count + 1
    WHERE organization_id = :organization_id AND id = :id
""")

COUNT_DUPLICATE_OF_CURRENT = Sql("""
    UPDATE instance SET duplicate_count = duplicate_count + 1
    WHERE organization_id = :organization_id AND sop_instance_uid = :sop_instance_uid AND current = 1
""")

RETIRE_INSTANCES = Sql("""
    UPDATE instance SET current = 0 WHERE organization_id = :organization_id AND id IN :ids
""")

REMOVE_INSTANCES = Sql("""
    DELETE FROM instance WHERE organization_id = :organization_id AND id IN :ids RETURNING size
""")

FIND_COMPRESSIBLE = Sql("""
    SELECT instance.id, study.study_instance_uid, series.series_instance_uid, instance.sop_instance_uid
    FROM instance
    JOIN series ON series.id = instance.series_pk
    JOIN study ON study.id = series.study_pk
    WHERE instance.organization_id = :organization_id AND instance.id > :after AND instance.current = 1
      AND instance.transfer_syntax_uid IN :transfer_syntaxes AND instance.pixel_offset IS NOT NULL
    ORDER BY instance.id LIMIT :limit
""")

SWITCH_OBJECT = Sql("""
    UPDATE instance SET received_sha256 = sha256, received_transfer_syntax_uid = transfer_syntax_uid,
        object_key = :object_key, size = :size, header_size = :header_size, sha256 = :sha256,
        transfer_syntax_uid = :transfer_syntax_uid, pixel_offset = :pixel_offset,
        pixel_length = :pixel_length, frame_offsets = :frame_offsets
    WHERE organization_id = :organization_id AND id = :id AND object_key = :before AND current = 1
    RETURNING id
""")
"""The same image in another transfer syntax takes the place of the object that it was made of."""

LOCK_ENTITIES = Sql(
    "SELECT pg_advisory_xact_lock(731908, stripe) FROM unnest(:stripes::int[]) AS stripe", only="postgresql"
)
"""Transactions that file objects of the same patient or study follow one another; see ``filing.py``."""

# --- the levels above ------------------------------------------------------------------------------------

FIND_PLACES = Sql("""
    SELECT study.study_instance_uid, series.series_instance_uid, series.id AS series_pk,
           study.id AS study_pk, study.patient_pk, study.told_patient_pk, series.merged_digest,
           series.sop_classes, patient.patient_id, patient.issuer, patient.generated, patient.name_key
    FROM study
    JOIN patient ON patient.id = study.patient_pk
    LEFT JOIN series ON series.study_pk = study.id AND series.series_instance_uid IN :series_uids
    WHERE study.organization_id = :organization_id AND study.study_instance_uid IN :study_uids
""")

INSERT_PATIENT = Sql("""
    INSERT INTO patient (organization_id, patient_id, issuer, generated, name_key, birth_date, sex, fragments,
        created_at_us, updated_at_us)
    VALUES (:organization_id, :patient_id, :issuer, :generated, :name_key, :birth_date, :sex, :fragments,
        :now_us, :now_us)
    ON CONFLICT (organization_id, issuer, patient_id) DO NOTHING
    RETURNING id
""")

LOCK_PATIENT = Sql("""
    SELECT id, survivor_pk, name_key, birth_date, sex, fragments FROM patient
    WHERE organization_id = :organization_id AND issuer = :issuer AND patient_id = :patient_id
    FOR UPDATE
""")

LOCK_PATIENT_BY_PK = Sql("""
    SELECT id, name_key, birth_date, sex, fragments FROM patient
    WHERE organization_id = :organization_id AND id = :id
    FOR UPDATE
""")

LOCK_MERGED = Sql("""
    SELECT id, name_key, birth_date, sex, fragments FROM patient
    WHERE organization_id = :organization_id AND survivor_pk = :survivor_pk AND patient_id = :patient_id
      AND (issuer = :issuer OR issuer = '' OR :issuer = '')
    ORDER BY id LIMIT 1 FOR UPDATE
""")
"""A patient who was merged into the survivor, by an ID that objects still name."""

FILL_PATIENT = Sql("""
    UPDATE patient SET name_key = :name_key, birth_date = :birth_date, sex = :sex, fragments = :fragments,
        updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

NOTE_PATIENT_CONFLICT = Sql("""
    INSERT INTO patient_conflict (organization_id, public_id, patient_pk, tag, kept, other, sop_instance_uid,
        seen_at_us)
    VALUES (:organization_id, :public_id, :patient_pk, :tag, :kept, :other, :sop_instance_uid, :now_us)
    ON CONFLICT (organization_id, patient_pk, tag, other) DO NOTHING
""")

REMOVE_PATIENT_WITHOUT_STUDY = Sql("""
    DELETE FROM patient WHERE organization_id = :organization_id AND id = :id AND survivor_pk IS NULL
      AND NOT EXISTS (SELECT 1 FROM study WHERE study.patient_pk = patient.id)
      AND NOT EXISTS (SELECT 1 FROM patient AS merged WHERE merged.survivor_pk = patient.id)
""")
"""What a person said of merges stays, also while nothing is left of whom it is about."""

INSERT_STUDY = Sql("""
    INSERT INTO study (organization_id, patient_pk, told_patient_pk, study_instance_uid, study_date,
        study_time, accession_number, study_id, description_key, referring_physician_key, timezone, fragments,
        created_at_us, updated_at_us)
    VALUES (:organization_id, :patient_pk, :told_patient_pk, :study_instance_uid, :study_date, :study_time,
        :accession_number, :study_id, :description_key, :referring_physician_key, :timezone, :fragments,
        :now_us, :now_us)
    ON CONFLICT (organization_id, study_instance_uid) DO NOTHING
    RETURNING id
""")

LOCK_STUDY = Sql("""
    SELECT study.id, study.patient_pk, study.fragments, study.study_date, study.study_time,
           study.accession_number, study.study_id, study.description_key, study.referring_physician_key,
           study.timezone
    FROM study
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study_instance_uid
    FOR UPDATE
""")

FILL_STUDY = Sql("""
    UPDATE study SET study_date = :study_date, study_time = :study_time, accession_number = :accession_number,
        study_id = :study_id, description_key = :description_key,
        referring_physician_key = :referring_physician_key, timezone = :timezone, fragments = :fragments,
        updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

MOVE_STUDY = Sql("""
    UPDATE study SET patient_pk = :patient_pk, told_patient_pk = :told_patient_pk, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

FIND_STUDY_PATIENT = Sql("""
    SELECT patient.id AS patient_pk, study.told_patient_pk, patient.patient_id, patient.issuer,
           patient.generated, patient.name_key
    FROM study JOIN patient ON patient.id = study.patient_pk
    WHERE study.organization_id = :organization_id AND study.id = :id
""")

INSERT_SERIES = Sql("""
    INSERT INTO series (organization_id, study_pk, series_instance_uid, modality, series_number, series_date,
        series_time, description_key, body_part_examined, station_name, performing_physician_key,
        pps_start_date, pps_start_time, fragments, created_at_us, updated_at_us)
    VALUES (:organization_id, :study_pk, :series_instance_uid, :modality, :series_number, :series_date,
        :series_time, :description_key, :body_part_examined, :station_name, :performing_physician_key,
        :pps_start_date, :pps_start_time, :fragments, :now_us, :now_us)
    ON CONFLICT (organization_id, study_pk, series_instance_uid) DO NOTHING
    RETURNING id
""")

LOCK_SERIES = Sql("""
    SELECT id, fragments, modality, series_number, series_date, series_time, description_key,
           body_part_examined, station_name, performing_physician_key, pps_start_date, pps_start_time
    FROM series
    WHERE organization_id = :organization_id AND study_pk = :study_pk
      AND series_instance_uid = :series_instance_uid
    FOR UPDATE
""")

FILL_SERIES = Sql("""
    UPDATE series SET modality = :modality, series_number = :series_number, series_date = :series_date,
        series_time = :series_time, description_key = :description_key,
        body_part_examined = :body_part_examined, station_name = :station_name,
        performing_physician_key = :performing_physician_key, pps_start_date = :pps_start_date,
        pps_start_time = :pps_start_time, fragments = :fragments, merged_digest = :merged_digest,
        updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

SET_SERIES_SOP_CLASSES = Sql("""
    UPDATE series SET sop_classes = :sop_classes WHERE organization_id = :organization_id AND id = :id
""")

# --- values to match on (indexed_values.py) --------------------------------------------------------------


def _insert_values(level: Level, of: str) -> tuple[Sql, Sql]:
    """For either database: SQLite takes row by row what PostgreSQL takes as arrays, in a third of the time.

    Selected rather than given: an entity may be gone again, whose rows must then not stay behind.
    """
    table = level.value
    into = f"INSERT INTO {table}_value (organization_id, {table}_pk, path, item, inner_item, value)"
    row_by_row = Sql(
        f"""
        {into} SELECT organization_id, id, :path, :item, :inner_item, :value FROM {table}
        WHERE organization_id = :organization_id AND {of} = :of
        ON CONFLICT DO NOTHING
        """,  # noqa: S608 - put together of constants
        only="sqlite",
    )
    at_once = Sql(
        f"""
        {into} SELECT organization_id, id, given.path, given.item, given.inner_item, given.value
        FROM unnest(:ofs::{"text" if level is Level.INSTANCE else "bigint"}[], :paths::text[],
                    :items::bigint[], :inner_items::bigint[], :values::text[])
             AS given (of, path, item, inner_item, value)
        JOIN {table} ON {of} = given.of AND organization_id = :organization_id
        ON CONFLICT DO NOTHING
        """,  # noqa: S608 - put together of constants
        only="postgresql",
    )
    return row_by_row, at_once


INSERT_VALUES = {
    Level.PATIENT: _insert_values(Level.PATIENT, "id"),
    Level.STUDY: _insert_values(Level.STUDY, "id"),
    Level.SERIES: _insert_values(Level.SERIES, "id"),
    Level.INSTANCE: _insert_values(Level.INSTANCE, "current = 1 AND sop_instance_uid"),
}

# --- counts ----------------------------------------------------------------------------------------------

COUNT_INTO_SERIES = Sql("""
    UPDATE series SET instance_count = instance_count + :added, updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

COUNT_INTO_STUDY = Sql("""
    UPDATE study SET instance_count = instance_count + :added, series_count = series_count + :series_added,
        updated_at_us = :now_us
    WHERE organization_id = :organization_id AND id = :id
""")

FIND_STUDY_MODALITIES = Sql("""
    SELECT DISTINCT modality FROM series
    WHERE organization_id = :organization_id AND study_pk = :study_pk AND modality <> '' ORDER BY modality
""")

SET_STUDY_MODALITIES = Sql("""
    UPDATE study SET modalities = :modalities WHERE organization_id = :organization_id AND id = :id
""")

# --- the change feed and quarantine ----------------------------------------------------------------------

APPEND_TO_FEED = Sql("""
    INSERT INTO change_feed (organization_id, number, at_us, kind, study_instance_uid, series_instance_uid,
        sop_instance_uid, detail)
    VALUES (:organization_id, :number, :now_us, :kind, :study_instance_uid, :series_instance_uid,
        :sop_instance_uid, :detail)
""")

READ_FEED = Sql("""
    SELECT number, at_us, kind, study_instance_uid, series_instance_uid, sop_instance_uid, detail
    FROM change_feed WHERE organization_id = :organization_id AND number > :after
    ORDER BY number LIMIT :limit
""")

LAST_CHANGE = Sql("SELECT max(number) AS number FROM change_feed WHERE organization_id = :organization_id")

PUT_IN_QUARANTINE = Sql("""
    INSERT INTO quarantine (organization_id, public_id, object_key, size, header_size, sha256,
        transfer_syntax_uid, problems, known, door, peer, received_at_us, times_seen)
    VALUES (:organization_id, :public_id, :object_key, :size, :header_size, :sha256, :transfer_syntax_uid,
        :problems, :known, :door, :peer, :now_us, 1)
    ON CONFLICT (organization_id, object_key) WHERE state = 'waiting'
    DO UPDATE SET times_seen = quarantine.times_seen + 1, problems = excluded.problems,
        received_at_us = excluded.received_at_us
    RETURNING times_seen
""")

LIST_QUARANTINE = Sql("""
    SELECT public_id, object_key, size, transfer_syntax_uid, problems, known, door, peer, received_at_us,
           times_seen, state, settled_at_us, settled_note
    FROM quarantine WHERE organization_id = :organization_id AND state = :state AND id > :after
    ORDER BY id LIMIT :limit
""")

FIND_PLACE_IN_QUARANTINE = Sql("""
    SELECT id FROM quarantine WHERE organization_id = :organization_id AND public_id = :public_id
""")

COUNT_QUARANTINE = Sql("""
    SELECT count(*) FROM quarantine WHERE organization_id = :organization_id AND state = 'waiting'
""")

FIND_IN_QUARANTINE = Sql("""
    SELECT public_id, object_key, size, transfer_syntax_uid, problems, known, door, peer, received_at_us,
           times_seen, state, settled_at_us, settled_note
    FROM quarantine WHERE organization_id = :organization_id AND public_id = :public_id
""")

SETTLE_QUARANTINE = Sql("""
    UPDATE quarantine SET state = :state, settled_at_us = :now_us, settled_note = :note
    WHERE organization_id = :organization_id AND public_id = :public_id AND state = 'waiting'
    RETURNING size
""")

# --- the orphan sweep ------------------------------------------------------------------------------------

FIND_ORGANIZATIONS = Sql("SELECT id FROM organization")

MARK_FOR_SWEEP = Sql("""
    INSERT INTO sweep_mark (organization_id, object_key, marked_at_us)
    VALUES (:organization_id, :object_key, :now_us)
""")

UNMARK_FOR_SWEEP = Sql("""
    DELETE FROM sweep_mark WHERE organization_id = :organization_id AND object_key IN :keys
""")

FORGET_OLD_MARKS = Sql("DELETE FROM sweep_mark WHERE marked_at_us < :before_us")

# Advisory locks have 32-bit keys; organisations that share one would only wait for each other.
_ORGANIZATION_KEY = "(:organization_id::bigint % 2147483647)::int"
LOCK_OUT_SWEEP = Sql(f"SELECT pg_advisory_xact_lock_shared(731907, {_ORGANIZATION_KEY})", only="postgresql")
LOCK_OUT_FILING = Sql(f"SELECT pg_advisory_xact_lock(731907, {_ORGANIZATION_KEY})", only="postgresql")
"""A sweep marks an organisation's victims only while nobody files its objects (``sweep.py``)."""

FIND_MARKED = Sql("""
    SELECT object_key, marked_at_us FROM sweep_mark
    WHERE organization_id = :organization_id AND object_key IN :keys AND marked_at_us >= :after_us
""")

FIND_REFERENCED = Sql("""
    SELECT object_key FROM instance WHERE organization_id = :organization_id AND object_key IN :keys
    UNION
    SELECT object_key FROM quarantine
    WHERE organization_id = :organization_id AND state = 'waiting' AND object_key IN :keys
    UNION
    SELECT object_key FROM deleted_object
    WHERE organization_id = :organization_id AND object_key IN :keys
    UNION
    SELECT object_key FROM series_derived
    WHERE organization_id = :organization_id AND object_key IN :keys
""")
