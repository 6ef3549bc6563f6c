"""The organisations' data keys, for encryption at rest."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

BigInt = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
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
