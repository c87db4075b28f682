"""A configuration's Kafka settings, tried on librdkafka and on the cluster."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from rayfinch.config import Settings
from rayfinch.masking import masked_text
from rayfinch.problems import Problem

HANGS_UP = "a listener that wants TLS or SASL does so: compare security.protocol"


class Unreachable(ConnectionError):
    """A cluster that does not answer these settings, with what librdkafka says of it."""


def unknown_settings(settings: Settings) -> list[Problem]:
    """What librdkafka does not accept in `source.kafka` and `publish.kafka`; connects to nothing."""
    sections = {"source.kafka": settings.source.kafka, "publish.kafka": settings.publish.kafka}
    refused = {where: refusal(kafka) for where, kafka in sections.items()}
    return [Problem(where, reason) for where, reason in refused.items() if reason]


def refusal(kafka: Mapping[str, Any]) -> str | None:
    """Why librdkafka refuses these settings, or None."""
    try:
        # Its client starts threads that would try to connect: to a port where nothing answers.
        AdminClient({**kafka, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        return masked_text(reason)
    return None


def topics(kafka: Mapping[str, Any], timeout_s: float = 5) -> list[str]:
    """The topics that a cluster shows us. Raises Unreachable, with the reason where librdkafka knows one."""
    said: list[str] = []

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(_brief(record.getMessage()))

    def error(problem: KafkaError) -> None:
        # Authentication and certificates come here. A broker that hangs up does so, too, but the log tells
        # that in its turn, behind what librdkafka knows of the cause.
        if problem.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            said.insert(0, _brief(problem.str()))

    log = logging.Logger("librdkafka")
    log.addHandler(Said())
    options: dict[str, Any] = {**kafka, "error_cb": error}
    admin = AdminClient(options, logger=log)
    try:
        return sorted(admin.list_topics(timeout=timeout_s).topics)
    except KafkaException as failed:
        admin.poll(0)
        hung_up = f"{said[0]} ({HANGS_UP})" if said else failed.args[0].str()
        reason = next((s for s in said if not s.startswith("Disconnected")), hung_up)
    raise Unreachable(f"{kafka['bootstrap.servers']} does not answer: {reason}")


def _brief(message: str) -> str:
    """Without librdkafka's names of its threads, and when it tried."""
    message = re.sub(r"^.*?\[thrd:[^\]]*\]: ", "", message)
    message = re.sub(r"^\S+/(bootstrap|\d+): ", "", message)
    return masked_text(re.sub(r"\s*\(after \d+ms in state \w+.*\)$", "", message))
