"""The organisations' data keys, for encryption at rest; worklists."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    _data_keys()
    _workitems()
    _modality_worklist()
    _table("worklist_change", _instant("at_us"), _word("kind"), _word("uid"), _text("state"))
    _index("worklist_change", "organization_id", "id")


def _data_keys() -> None:
    op.create_table(
        "data_key",
        sa.Column("id", BigInt, sa.Identity(), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.Column("key_id", Text, nullable=False),
        sa.Column("wrapped_key", Text, server_default="", nullable=False),
        sa.Column("master_key_id", Text, server_default="", nullable=False),
        sa.Column("state", Text, nullable=False),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f("fk_data_key_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_key")),
        sa.UniqueConstraint("key_id", name=op.f("uq_data_key_key_id")),
    )
    op.create_index(
        "ix_data_key_active",
        "data_key",
        ["organization_id"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )


def _workitems() -> None:
    _table(
        "workitem",
        _word("workitem_uid"),
        _word("state"),
        _text("transaction_digest"),
        _text("patient_id"),
        _text("scheduled_start"),
        _word("document"),
        _instant("created_at_us"),
        _instant("changed_at_us"),
        unique=("organization_id", "workitem_uid"),
    )
    _index("workitem", "organization_id", "state")
    _index("workitem", "organization_id", "patient_id")
    _table(
        "workitem_subscription",
        _word("ae_title"),
        _word("workitem_uid"),
        sa.Column("deletion_lock", sa.SmallInteger(), server_default="0", nullable=False),
        _text("filter"),
        _instant("created_at_us"),
        unique=("organization_id", "ae_title", "workitem_uid"),
    )
    _index("workitem_subscription", "organization_id", "workitem_uid")
    _table(
        "workitem_event",
        _word("ae_title"),
        _word("workitem_uid"),
        _word("document"),
        _instant("at_us"),
        sqlite_autoincrement=True,
    )
    _index("workitem_event", "organization_id", "ae_title", "id")


def _modality_worklist() -> None:
    _table(
        "worklist_item",
        _word("study_instance_uid"),
        _word("step_id"),
        _word("state"),
        _text("source"),
        _text("workitem_uid"),
        _text("station_ae_titles"),
        _text("patient_id"),
        _text("accession_number"),
        _text("scheduled_start"),
        _word("document"),
        _instant("created_at_us"),
        _instant("changed_at_us"),
        unique=("organization_id", "study_instance_uid", "step_id"),
    )
    _index("worklist_item", "organization_id", "state")
    _index("worklist_item", "organization_id", "workitem_uid")
    _index("worklist_item", "organization_id", "accession_number")
    _table(
        "performed_step",
        _word("sop_instance_uid"),
        _word("state"),
        _text("ae_title"),
        _word("document"),
        _instant("created_at_us"),
        _instant("changed_at_us"),
        unique=("organization_id", "sop_instance_uid"),
    )
    _table(
        "performed_step_reference",
        sa.Column("performed_step_pk", BigInt, nullable=False),
        _text("study_instance_uid"),
        _text("step_id"),
        sa.ForeignKeyConstraint(
            ["performed_step_pk"],
            ["performed_step.id"],
            name=op.f("fk_performed_step_reference_performed_step_pk_performed_step"),
            ondelete="CASCADE",
        ),
    )
    _index("performed_step_reference", "performed_step_pk")
    _index("performed_step_reference", "organization_id", "study_instance_uid", "step_id")


def _table(name: str, *columns: Any, unique: tuple[str, ...] = (), **more: Any) -> None:
    constraints: list[Any] = []
    if unique:
        constraints.append(sa.UniqueConstraint(*unique, name=op.f(f"uq_{name}_{'_'.join(unique)}")))
    op.create_table(
        name,
        sa.Column("id", BigInt, sa.Identity(), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f(f"fk_{name}_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        *constraints,
        **more,
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, server_default="", nullable=False)


def _instant(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, nullable=False)
