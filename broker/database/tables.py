"""The tables. Times are seconds since 1970 (UTC), unless their name says mjd (days, TAI).

A change here needs a migration beside it (migrations/versions); a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite numbers rows by itself only in a column of exactly the type INTEGER, which holds 64 bits there.
Serial = BigInteger().with_variant(Integer, "sqlite")

# One row a stream: whose alerts it reads, and who drives it ("": nobody). `epoch` grows with each change of
# hands. `identity` is drawn with the row: batch 7 in another database, of a stream of the same name, is
# another batch.
streams = Table(
    "streams",
    metadata,
    Column("stream", String, primary_key=True),
    Column("survey", String, nullable=False),
    Column("identity", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", String, nullable=False),
    Column("expires", Double, nullable=False),
)

# `state`: planned, then done. `outcome`: counts, classes, stages_ms, latency_ms; set before the archive step.
batches = Table(
    "batches",
    metadata,
    Column("stream", String, primary_key=True),
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("ranges", JSON, nullable=False),
    Column("models", JSON, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("outcome", JSON),
    Column("planned_at", Double, nullable=False),
    Column("done_at", Double),
    Index(None, "stream", "state", "done_at"),
)

# Up to where a partition is planned and up to where it is committed (both exclusive: the next offset).
offsets = Table(
    "offsets",
    metadata,
    Column("stream", String, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("topic_id", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("planned", BigInteger, nullable=False),
    Column("committed", BigInteger),
)

# One row an object; ra, dec (deg), `last_*`: of its latest alert by mjd. `last_scores`:
# a list of {model, version, class, probability, reason}, the top class of each model.
# An object with n_public = 0 has only restricted alerts and must not be shown to the public.
objects = Table(
    "objects",
    metadata,
    Column("survey", String, primary_key=True),
    Column("object_id", String, primary_key=True),
    Column("first_mjd", Double, nullable=False),
    Column("last_mjd", Double, nullable=False),
    Column("n_alerts", Integer, nullable=False),
    Column("n_public", Integer, nullable=False),
    Column("ra", Double, nullable=False),
    Column("dec", Double, nullable=False),
    Column("hpx29", BigInteger, nullable=False),
    Column("last_alert_id", BigInteger, nullable=False),
    Column("last_scores", JSON, nullable=False),
    Index(None, "hpx29"),
)

# What was kept in the last three nights, to know an alert that a producer sends again.
recent_alerts = Table(
    "recent_alerts",
    metadata,
    Column("survey", String, primary_key=True),
    Column("alert_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kept_at", Double, nullable=False),
    Index(None, "survey", "kept_at"),
    sqlite_with_rowid=False,
)

# `state`: dead -> retry (asked for) -> retrying (planned) -> recovered, or dead again.
# `batch` is the batch that last found it unreadable.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("stream", String, nullable=False),
    Column("topic", String, nullable=False),
    Column("topic_id", String, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("kafka_timestamp", BigInteger),
    Column("reason", Text, nullable=False),
    Column("packet", LargeBinary, nullable=False),
    Column("state", String, nullable=False),
    Column("batch", BigInteger, nullable=False),
    Column("recorded_at", Double, nullable=False),
    UniqueConstraint("stream", "topic", "topic_id", "partition", "offset"),
    Index(None, "stream", "state"),
    Index(None, "stream", "batch"),
)

gaps = Table(
    "gaps",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("stream", String, nullable=False),
    Column("batch", BigInteger, nullable=False),
    Column("topic", String, nullable=False),
    Column("topic_id", String, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("recorded_at", Double, nullable=False),
    UniqueConstraint("stream", "batch", "topic", "topic_id", "partition", "first"),
)

# Alarms: gap, topic_vanished, topic_recreated, stumbled, model_failed, ...
events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("stream", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Index(None, "stream", "at"),
)
