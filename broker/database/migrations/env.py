"""Run by Alembic: migrates over the connection, and inside the transaction, that engine.upgrade opened."""

from __future__ import annotations

from alembic import context

from broker.database.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run `rayfinch database upgrade`: the migrations use its connection")
# Both databases undo DDL with their transaction; Alembic does not assume it of SQLite.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
