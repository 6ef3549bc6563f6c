"""The audit trail: append-only, chained per organisation; how far repositories outside were told of it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")

_REFUSED = "audit_event is append-only"


def upgrade() -> None:
    op.create_table(
        "audit_event",
        *_of_an_organization("audit_event"),
        sa.Column("sequence", BigInt, nullable=False),
        sa.Column("at_us", BigInt, nullable=False),
        sa.Column("action", Text, nullable=False),
        sa.Column("outcome", Text, nullable=False),
        sa.Column("subject_kind", Text, nullable=False),
        sa.Column("subject_id", Text, nullable=False),
        *(
            sa.Column(name, Text, server_default="", nullable=False)
            for name in ("subject_name", "address", "resource_kind", "resource_id")
        ),
        sa.Column("details", Text, server_default="{}", nullable=False),
        sa.Column("trace_id", Text, server_default="", nullable=False),
        sa.Column("previous_hash", Text, nullable=False),
        sa.Column("hash", Text, nullable=False),
        sa.UniqueConstraint(
            "organization_id", "sequence", name=op.f("uq_audit_event_organization_id_sequence")
        ),
    )
    for column in ("resource_id", "subject_id"):
        op.create_index(
            op.f(f"ix_audit_event_organization_id_{column}"), "audit_event", ["organization_id", column]
        )
    op.create_table(
        "audit_head",
        *_of_an_organization("audit_head"),
        sa.Column("sequence", BigInt, nullable=False),
        sa.Column("hash", Text, nullable=False),
        sa.UniqueConstraint("organization_id", name=op.f("uq_audit_head_organization_id")),
    )
    op.create_table(
        "audit_delivery",
        *_of_an_organization("audit_delivery"),
        sa.Column("target", Text, nullable=False),
        sa.Column("sequence", BigInt, nullable=False),
        sa.UniqueConstraint(
            "organization_id", "target", name=op.f("uq_audit_delivery_organization_id_target")
        ),
    )
    if op.get_bind().dialect.name == "sqlite":
        _refuse_on_sqlite()
    else:
        _refuse_on_postgresql()


def _of_an_organization(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", BigInt, sa.Identity(always=False), nullable=False),
        sa.Column("organization_id", BigInt, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name=op.f(f"fk_{table}_organization_id_organization")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def _refuse_on_sqlite() -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_event_refuses_{event.lower()} BEFORE {event} ON audit_event "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
        )


def _refuse_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_event_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}' USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_event_refuses_change BEFORE UPDATE OR DELETE ON audit_event "
        "FOR EACH ROW EXECUTE FUNCTION audit_event_refuses()"
    )
    op.execute(
        "CREATE TRIGGER audit_event_refuses_truncate BEFORE TRUNCATE ON audit_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuses()"
    )
