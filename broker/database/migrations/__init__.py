"""Alembic's migrations; broker.database.engine runs them."""
