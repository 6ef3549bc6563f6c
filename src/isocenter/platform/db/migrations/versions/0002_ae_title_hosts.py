"""A registered AE title may be bound to the address or network that it calls from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("ae_title") as table:
        table.add_column(sa.Column("host", Text, server_default="", nullable=False))
        table.drop_constraint("uq_ae_title_organization_id_title", type_="unique")
        table.create_unique_constraint(
            "uq_ae_title_organization_id_title_host", ["organization_id", "title", "host"]
        )
