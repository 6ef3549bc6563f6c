"""PostgreSQL shows a transaction the rows of its own organisation only; SQLite has nothing of the kind."""

from alembic import op

from isocenter.platform.db.row_security import PROTECT_TABLES

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(PROTECT_TABLES)
