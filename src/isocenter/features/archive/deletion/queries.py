"""Every statement on what was deleted and waits (``deletions.py``, ``restoring.py``)."""

from __future__ import annotations

from isocenter.platform.db import Sql

# --- taking out of the index -----------------------------------------------------------------------------

FIND_SERIES = Sql("""
    SELECT id FROM series WHERE organization_id = :organization_id AND study_pk = :study_pk ORDER BY id
""")

FIND_ONE_SERIES = Sql("""
    SELECT id FROM series WHERE organization_id = :organization_id AND study_pk = :study_pk
      AND series_instance_uid = :series
""")

# Earlier versions (keep-both) go with the current one.
TAKE_OF_SERIES = Sql("""
    DELETE FROM instance WHERE organization_id = :organization_id AND series_pk IN :series_pks
    RETURNING series_pk, sop_instance_uid, object_key, size, header_size, sha256, version, current,
        transfer_syntax_uid, received_sha256, received_transfer_syntax_uid, duplicate_count, door, peer,
        received_at_us
""")

TAKE_ONE = Sql("""
    DELETE FROM instance WHERE organization_id = :organization_id AND series_pk IN :series_pks
      AND sop_instance_uid = :instance
    RETURNING series_pk, sop_instance_uid, object_key, size, header_size, sha256, version, current,
        transfer_syntax_uid, received_sha256, received_transfer_syntax_uid, duplicate_count, door, peer,
        received_at_us
""")

FIND_SERIES_UIDS = Sql("""
    SELECT id, series_instance_uid FROM series WHERE organization_id = :organization_id AND id IN :series_pks
""")

FIND_WHOSE = Sql("""
    SELECT patient.fragments AS patient, study.fragments AS study FROM study
    JOIN patient ON patient.id = study.patient_pk
    WHERE study.organization_id = :organization_id AND study.study_instance_uid = :study
""")

# --- deletions -------------------------------------------------------------------------------------------

INSERT_DELETION = Sql("""
    INSERT INTO deletion (organization_id, public_id, study_instance_uid, series_instance_uid,
        sop_instance_uid, reason, deleted_by, known, deleted_at_us, purge_at_us)
    VALUES (:organization_id, :public_id, :study, :series, :instance, :reason, :deleted_by, :known, :now_us,
        :purge_at_us)
    RETURNING id
""")

SET_CONTENTS = Sql("""
    UPDATE deletion SET objects = :objects, bytes = :bytes
    WHERE organization_id = :organization_id AND id = :id
""")

INSERT_DELETED_OBJECT = Sql("""
    INSERT INTO deleted_object (organization_id, deletion_pk, study_instance_uid, series_instance_uid,
        sop_instance_uid, object_key, size, header_size, sha256, version, instance)
    VALUES (:organization_id, :deletion_pk, :study, :series, :sop_instance_uid, :object_key, :size,
        :header_size, :sha256, :version, :instance)
""")

LIST_DELETIONS = Sql("""
    SELECT id, public_id, study_instance_uid, series_instance_uid, sop_instance_uid, reason, deleted_by,
        known, objects, bytes, deleted_at_us, purge_at_us, state, settled_at_us, settled_by FROM deletion
    WHERE organization_id = :organization_id AND state = :state AND id > :after ORDER BY id LIMIT :limit
""")

FIND_DELETION = Sql("""
    SELECT id, public_id, study_instance_uid, series_instance_uid, sop_instance_uid, reason, deleted_by,
        known, objects, bytes, deleted_at_us, purge_at_us, state, settled_at_us, settled_by FROM deletion
    WHERE organization_id = :organization_id AND public_id = :public_id
""")

LOCK_DELETION = Sql("""
    SELECT id, state FROM deletion WHERE organization_id = :organization_id AND id = :id FOR UPDATE
""")

TAKE_FROM_DELETION = Sql("""
    UPDATE deletion SET objects = objects - :objects, bytes = bytes - :bytes
    WHERE organization_id = :organization_id AND id = :id
""")

COUNT_WAITING = Sql("""
    SELECT count(*) AS deletions, coalesce(sum(objects), 0) AS objects, coalesce(sum(bytes), 0) AS bytes
    FROM deletion WHERE organization_id = :organization_id AND state = 'waiting'
""")

FIND_DUE = Sql("""
    SELECT public_id FROM deletion
    WHERE organization_id = :organization_id AND state = 'waiting' AND purge_at_us <= :now_us
    ORDER BY id LIMIT :limit
""")

SETTLE_DELETION = Sql("""
    UPDATE deletion SET state = :state, settled_at_us = :now_us, settled_by = :settled_by, known = '{}',
        objects = 0, bytes = 0
    WHERE organization_id = :organization_id AND id = :id AND state = 'waiting'
    RETURNING id
""")

# --- what waits ------------------------------------------------------------------------------------------

LIST_OBJECTS = Sql("""
    SELECT id, deletion_pk, study_instance_uid, series_instance_uid, sop_instance_uid, object_key, size,
           sha256, version, instance
    FROM deleted_object WHERE organization_id = :organization_id AND deletion_pk = :deletion_pk
    ORDER BY sop_instance_uid, version, id
""")

REMOVE_OBJECT = Sql("""
    DELETE FROM deleted_object WHERE organization_id = :organization_id AND id = :id RETURNING size
""")

REMOVE_OBJECTS = Sql("""
    DELETE FROM deleted_object WHERE organization_id = :organization_id AND deletion_pk = :deletion_pk
    RETURNING size
""")

COUNT_OBJECTS = Sql("""
    SELECT count(*) AS objects, coalesce(sum(size), 0) AS bytes FROM deleted_object
    WHERE organization_id = :organization_id AND deletion_pk = :deletion_pk
""")

FIND_FILED = Sql("""
    SELECT id FROM instance WHERE organization_id = :organization_id AND sop_instance_uid = :sop_instance_uid
      AND current = 1 AND door = :filed_by
""")
"""By a restoring that ended in the middle, or a moment ago."""

GIVE_BACK = Sql("""
    UPDATE instance SET received_sha256 = :received_sha256,
        received_transfer_syntax_uid = :received_transfer_syntax_uid, door = :door, peer = :peer,
        received_at_us = :received_at_us, duplicate_count = :duplicate_count
    WHERE organization_id = :organization_id AND sop_instance_uid = :sop_instance_uid
      AND object_key = :object_key AND door = :filed_by
""")
"""What the object itself does not tell."""
