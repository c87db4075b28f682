"""The stream's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("batch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=True),
        sa.Column("planned_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("stream", "batch", name=op.f("pk_batches")),
    )
    op.create_index(
        op.f("ix_batches_stream_state_done_at"), "batches", ["stream", "state", "done_at"], unique=False
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("topic_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("kafka_timestamp", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("packet", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint(
            "stream",
            "topic",
            "topic_id",
            "partition",
            "offset",
            name=op.f("uq_dead_letters_stream_topic_topic_id_partition_offset"),
        ),
    )
    op.create_index(op.f("ix_dead_letters_stream_batch"), "dead_letters", ["stream", "batch"], unique=False)
    op.create_index(op.f("ix_dead_letters_stream_state"), "dead_letters", ["stream", "state"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_stream_at"), "events", ["stream", "at"], unique=False)
    op.create_table(
        "gaps",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("topic_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gaps")),
        sa.UniqueConstraint(
            "stream",
            "batch",
            "topic",
            "topic_id",
            "partition",
            "first",
            name=op.f("uq_gaps_stream_batch_topic_topic_id_partition_first"),
        ),
    )
    op.create_table(
        "objects",
        sa.Column("survey", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.Column("first_mjd", sa.Double(), nullable=False),
        sa.Column("last_mjd", sa.Double(), nullable=False),
        sa.Column("n_alerts", sa.Integer(), nullable=False),
        sa.Column("n_public", sa.Integer(), nullable=False),
        sa.Column("ra", sa.Double(), nullable=False),
        sa.Column("dec", sa.Double(), nullable=False),
        sa.Column("hpx29", sa.BigInteger(), nullable=False),
        sa.Column("last_alert_id", sa.BigInteger(), nullable=False),
        sa.Column("last_scores", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("survey", "object_id", name=op.f("pk_objects")),
    )
    op.create_index(op.f("ix_objects_hpx29"), "objects", ["hpx29"], unique=False)
    op.create_table(
        "offsets",
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("topic_id", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("planned", sa.BigInteger(), nullable=False),
        sa.Column("committed", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("stream", "topic", "topic_id", "partition", name=op.f("pk_offsets")),
    )
    op.create_table(
        "recent_alerts",
        sa.Column("survey", sa.String(), nullable=False),
        sa.Column("alert_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kept_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("survey", "alert_id", name=op.f("pk_recent_alerts")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_recent_alerts_survey_kept_at"), "recent_alerts", ["survey", "kept_at"], unique=False
    )
    op.create_table(
        "streams",
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("survey", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name=op.f("pk_streams")),
    )


def downgrade() -> None:
    op.drop_table("streams")
    op.drop_index(op.f("ix_recent_alerts_survey_kept_at"), table_name="recent_alerts")
    op.drop_table("recent_alerts")
    op.drop_table("offsets")
    op.drop_index(op.f("ix_objects_hpx29"), table_name="objects")
    op.drop_table("objects")
    op.drop_table("gaps")
    op.drop_index(op.f("ix_events_stream_at"), table_name="events")
    op.drop_table("events")
    op.drop_index(op.f("ix_dead_letters_stream_state"), table_name="dead_letters")
    op.drop_index(op.f("ix_dead_letters_stream_batch"), table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_index(op.f("ix_batches_stream_state_done_at"), table_name="batches")
    op.drop_table("batches")
