"""A configuration's Kafka settings, asked of librdkafka itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from rayfinch.config import Settings
from rayfinch.masking import masked_text
from rayfinch.problems import Problem


def unknown_settings(settings: Settings) -> list[Problem]:
    """What librdkafka does not accept in `source.kafka` and `publish.kafka`; connects to nothing."""
    sections = {"source.kafka": settings.source.kafka, "publish.kafka": settings.publish.kafka}
    return [
        Problem(where, reason) for where, kafka in sections.items() if (reason := refusal(kafka)) is not None
    ]


def refusal(kafka: Mapping[str, Any]) -> str | None:
    """Why librdkafka refuses these settings, or None."""
    try:
        # Its client starts threads that would try to connect: to a port where nothing answers.
        AdminClient({**kafka, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        return masked_text(reason)
    return None
