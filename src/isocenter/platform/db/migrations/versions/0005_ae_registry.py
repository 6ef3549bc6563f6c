"""An AE title's services and certificate; one place of a title belongs to one organisation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

Text = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("ae_title") as table:
        table.add_column(sa.Column("services", Text, server_default="store,find,retrieve", nullable=False))
        table.add_column(sa.Column("certificate", Text, server_default="", nullable=False))
        table.drop_constraint("uq_ae_title_organization_id_title_host", type_="unique")
        table.create_unique_constraint("uq_ae_title_title_host", ["title", "host"])
        table.create_index("ix_ae_title_organization_id_title", ["organization_id", "title"])
    with op.batch_alter_table("refused_association") as table:
        table.add_column(sa.Column("certificate", Text, server_default="", nullable=False))
