"""Alembic's entry point; the connection is handed in by the package, never opened here."""

from alembic import context

from isocenter.platform.db.types import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
