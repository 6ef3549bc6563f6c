"""Every statement on worklists; each takes the organisation."""

from __future__ import annotations

from isocenter.platform.db import Sql

LOCK_WORKLIST = Sql(
    "SELECT pg_advisory_xact_lock(731911, (:organization_id::bigint % 2147483647)::int)", only="postgresql"
)
"""Worklists change seldom: one writer at a time in each organisation keeps states, subscriptions and the
order of events simple. SQLite has one writer anyway."""

# --- workitems

_WORKITEM = """id, workitem_uid, state, transaction_digest, patient_id, scheduled_start, document,
    created_at_us, changed_at_us"""

ADD_WORKITEM = Sql("""
INSERT INTO workitem (organization_id, workitem_uid, state, patient_id, scheduled_start, document,
    created_at_us, changed_at_us)
VALUES (:organization_id, :workitem_uid, :state, :patient_id, :scheduled_start, :document, :now_us, :now_us)
ON CONFLICT (organization_id, workitem_uid) DO NOTHING
RETURNING id
""")

FIND_WORKITEM = Sql(f"""
SELECT {_WORKITEM} FROM workitem
WHERE organization_id = :organization_id AND workitem_uid = :workitem_uid
""")  # noqa: S608 - columns

CHANGE_WORKITEM = Sql("""
UPDATE workitem SET state = :state, transaction_digest = :transaction_digest, patient_id = :patient_id,
    scheduled_start = :scheduled_start, document = :document, changed_at_us = :now_us
WHERE organization_id = :organization_id AND id = :id
""")

# Empty parameters ask for nothing in particular.
PAGE_OF_WORKITEMS = Sql(f"""
SELECT {_WORKITEM} FROM workitem
WHERE organization_id = :organization_id AND id > :after
    AND (:state = '' OR state = :state) AND (:patient_id = '' OR patient_id = :patient_id)
    AND scheduled_start >= :lower AND scheduled_start <= :upper
ORDER BY id LIMIT :limit
""")  # noqa: S608 - columns

# --- subscriptions and events

PUT_SUBSCRIPTION = Sql("""
INSERT INTO workitem_subscription (organization_id, ae_title, workitem_uid, deletion_lock, filter,
    created_at_us)
VALUES (:organization_id, :ae_title, :workitem_uid, :deletion_lock, :filter, :now_us)
ON CONFLICT (organization_id, ae_title, workitem_uid) DO UPDATE SET
    deletion_lock = excluded.deletion_lock, filter = excluded.filter
""")

FIND_SUBSCRIPTIONS = Sql("""
SELECT ae_title, workitem_uid, deletion_lock, filter FROM workitem_subscription
WHERE organization_id = :organization_id AND workitem_uid IN :uids ORDER BY id
""")


REMOVE_SUBSCRIPTION = Sql("""
DELETE FROM workitem_subscription
WHERE organization_id = :organization_id AND ae_title = :ae_title AND workitem_uid = :workitem_uid
RETURNING id
""")

REMOVE_SUBSCRIPTIONS = Sql("""
DELETE FROM workitem_subscription WHERE organization_id = :organization_id AND ae_title = :ae_title
RETURNING id
""")

ADD_EVENT = Sql("""
INSERT INTO workitem_event (organization_id, ae_title, workitem_uid, document, at_us)
VALUES (:organization_id, :ae_title, :workitem_uid, :document, :now_us)
""")

DROP_OLDEST_EVENTS = Sql("""
DELETE FROM workitem_event WHERE organization_id = :organization_id AND ae_title = :ae_title AND id <= (
    SELECT id FROM workitem_event WHERE organization_id = :organization_id AND ae_title = :ae_title
    ORDER BY id DESC LIMIT 1 OFFSET :kept)
""")

READ_EVENTS = Sql("""
SELECT id, document FROM workitem_event
WHERE organization_id = :organization_id AND ae_title = :ae_title ORDER BY id LIMIT :limit
""")

FORGET_EVENTS = Sql("""
DELETE FROM workitem_event
WHERE organization_id = :organization_id AND ae_title = :ae_title AND id <= :last
""")

# --- the modality worklist

_ITEM = """id, study_instance_uid, step_id, state, source, workitem_uid, patient_id, accession_number,
    scheduled_start, document, created_at_us, changed_at_us"""

PUT_ITEM = Sql(f"""
INSERT INTO worklist_item (organization_id, study_instance_uid, step_id, state, source, workitem_uid,
    station_ae_titles, patient_id, accession_number, scheduled_start, document, created_at_us, changed_at_us)
VALUES (:organization_id, :study_instance_uid, :step_id, :state, :source, :workitem_uid, :station_ae_titles,
    :patient_id, :accession_number, :scheduled_start, :document, :now_us, :now_us)
ON CONFLICT (organization_id, study_instance_uid, step_id) DO UPDATE SET
    state = excluded.state, source = excluded.source, workitem_uid = excluded.workitem_uid,
    station_ae_titles = excluded.station_ae_titles, patient_id = excluded.patient_id,
    accession_number = excluded.accession_number, scheduled_start = excluded.scheduled_start,
    document = excluded.document, changed_at_us = excluded.changed_at_us
RETURNING {_ITEM}
""")  # noqa: S608 - columns

FIND_ITEM = Sql(f"""
SELECT {_ITEM} FROM worklist_item
WHERE organization_id = :organization_id AND study_instance_uid = :study_instance_uid AND step_id = :step_id
""")  # noqa: S608 - columns

FIND_ITEM_OF_WORKITEM = Sql(f"""
SELECT {_ITEM} FROM worklist_item
WHERE organization_id = :organization_id AND workitem_uid = :workitem_uid
""")  # noqa: S608 - columns

CHANGE_ITEM_STATE = Sql("""
UPDATE worklist_item SET state = :state, document = :document, changed_at_us = :now_us
WHERE organization_id = :organization_id AND id = :id
""")

REMOVE_ITEM = Sql("""
DELETE FROM worklist_item WHERE organization_id = :organization_id AND id = :id
RETURNING study_instance_uid, step_id
""")

PAGE_OF_ITEMS = Sql(f"""
SELECT {_ITEM} FROM worklist_item
WHERE organization_id = :organization_id AND id > :after AND state IN :states
    AND (:station = '' OR station_ae_titles LIKE :station_pattern ESCAPE '\\')
    AND (:patient_id = '' OR patient_id = :patient_id)
    AND (:accession_number = '' OR accession_number = :accession_number)
    AND scheduled_start >= :lower AND scheduled_start <= :upper
ORDER BY id LIMIT :limit
""")  # noqa: S608 - columns

# --- performed procedure steps

_STEP = "id, sop_instance_uid, state, ae_title, document, created_at_us, changed_at_us"

ADD_STEP = Sql("""
INSERT INTO performed_step (organization_id, sop_instance_uid, state, ae_title, document, created_at_us,
    changed_at_us)
VALUES (:organization_id, :sop_instance_uid, :state, :ae_title, :document, :now_us, :now_us)
ON CONFLICT (organization_id, sop_instance_uid) DO NOTHING
RETURNING id
""")

ADD_REFERENCE = Sql("""
INSERT INTO performed_step_reference (organization_id, performed_step_pk, study_instance_uid, step_id)
VALUES (:organization_id, :performed_step_pk, :study_instance_uid, :step_id)
""")

FIND_STEP = Sql(
    f"SELECT {_STEP} FROM performed_step WHERE organization_id = :organization_id AND sop_instance_uid = :uid"  # noqa: S608 - columns
)

CHANGE_STEP = Sql("""
UPDATE performed_step SET state = :state, document = :document, changed_at_us = :now_us
WHERE organization_id = :organization_id AND id = :id
""")

FIND_REFERENCES = Sql("""
SELECT study_instance_uid, step_id FROM performed_step_reference
WHERE organization_id = :organization_id AND performed_step_pk = :pk ORDER BY id
""")

FIND_STATES_OF_REFERENCED = Sql("""
SELECT p.state FROM performed_step p
JOIN performed_step_reference r ON r.performed_step_pk = p.id AND r.organization_id = p.organization_id
WHERE p.organization_id = :organization_id AND r.study_instance_uid = :study_instance_uid
    AND r.step_id = :step_id
ORDER BY p.id
""")

LIST_STEPS = Sql(f"""
SELECT {_STEP} FROM performed_step
WHERE organization_id = :organization_id AND (:state = '' OR state = :state) AND id < :before
ORDER BY id DESC LIMIT :limit
""")  # noqa: S608 - columns

# --- the feed

APPEND_CHANGE = Sql("""
INSERT INTO worklist_change (organization_id, at_us, kind, uid, state)
VALUES (:organization_id, :now_us, :kind, :uid, :state)
""")

READ_CHANGES = Sql("""
SELECT id, at_us, kind, uid, state FROM worklist_change
WHERE organization_id = :organization_id AND id > :after ORDER BY id LIMIT :limit
""")
