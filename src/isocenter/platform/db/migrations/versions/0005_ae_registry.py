"""An AE title's services and certificate; one place of a title belongs to one organisation. Where titles are
reached, and what is reported to them: storage commitments and the availability of studies."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("ae_title") as table:
        services = "store,find,move,get,commit,worklist"
        table.add_column(sa.Column("services", Text, server_default=services, nullable=False))
        table.add_column(sa.Column("certificate", Text, server_default="", nullable=False))
        table.drop_constraint("uq_ae_title_organization_id_title_host", type_="unique")
        table.create_unique_constraint("uq_ae_title_title_host", ["title", "host"])
        table.create_index("ix_ae_title_organization_id_title", ["organization_id", "title"])
    with op.batch_alter_table("refused_association") as table:
        table.add_column(sa.Column("certificate", Text, server_default="", nullable=False))
    _destinations()
    _commitment()
    _availability()


def _destinations() -> None:
    _table(
        "ae_destination",
        _word("title"),
        _word("address"),
        sa.Column("port", BigInt, nullable=False),
        sa.Column("tls", sa.SmallInteger(), server_default="0", nullable=False),
        _text("tls_name"),
        _text("transfer_syntaxes"),
        sa.Column("associations_max", BigInt, server_default="4", nullable=False),
        sa.Column("availability_after_s", BigInt, nullable=True),
        _text("description"),
        sa.Column("created_at_us", BigInt, nullable=False),
        unique=("organization_id", "title"),
    )


def _commitment() -> None:
    _table(
        "commitment",
        _word("role"),
        _word("ae_title"),
        _text("own_ae_title"),
        _word("transaction_uid"),
        _word("state"),
        _count("instance_count"),
        _count("failed_count"),
        _count("attempts"),
        sa.Column("next_attempt_at_us", BigInt, nullable=True),
        _text("last_error"),
        sa.Column("created_at_us", BigInt, nullable=False),
        sa.Column("settled_at_us", BigInt, nullable=True),
        unique=("organization_id", "role", "ae_title", "transaction_uid"),
    )
    op.create_index(op.f("ix_commitment_next_attempt_at_us"), "commitment", ["next_attempt_at_us"])
    _table(
        "commitment_instance",
        sa.Column("commitment_pk", BigInt, nullable=False),
        _text("sop_class_uid"),
        _word("sop_instance_uid"),
        sa.Column("failure_reason", BigInt, nullable=True),
        sa.ForeignKeyConstraint(
            ["commitment_pk"],
            ["commitment.id"],
            name=op.f("fk_commitment_instance_commitment_pk_commitment"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_commitment_instance_commitment_pk"), "commitment_instance", ["commitment_pk"])
    op.create_index(
        op.f("ix_commitment_instance_organization_id_sop_instance_uid"),
        "commitment_instance",
        ["organization_id", "sop_instance_uid"],
    )


def _availability() -> None:
    _table(
        "availability_cursor",
        _word("ae_title"),
        sa.Column("change_number", BigInt, nullable=False),
        unique=("organization_id", "ae_title"),
    )
    _table(
        "availability_notice",
        _word("ae_title"),
        _word("study_instance_uid"),
        _word("state"),
        sa.Column("due_at_us", BigInt, nullable=True),
        _count("attempts"),
        _text("last_error"),
        sa.Column("changed_at_us", BigInt, nullable=False),
        sa.Column("told_at_us", BigInt, nullable=True),
        unique=("organization_id", "ae_title", "study_instance_uid"),
    )
    op.create_index(op.f("ix_availability_notice_due_at_us"), "availability_notice", ["due_at_us"])


def _table(name: str, *columns: Any, unique: tuple[str, ...] = ()) -> None:
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
    )


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Text, server_default="", nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, BigInt, server_default="0", nullable=False)
