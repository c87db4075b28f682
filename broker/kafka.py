"""What every client of a Kafka is given, whosever cluster it is; a deployment's own settings go before it."""

from __future__ import annotations

from collections.abc import Mapping

# librdkafka waits longer and longer before it knocks again, up to 10 s, for a Kafka that is back already.
RECONNECT: Mapping[str, int] = {"reconnect.backoff.max.ms": 1000}

# A producer that sends each record once. With more requests under way it loses some in a partition that has
# just been made: that may refuse the first request ("unknown topic") and take the second, which librdkafka
# takes for a receipt of both. The records of the first are reported as delivered, and are never sent.
IDEMPOTENT: Mapping[str, int | bool] = {
    "enable.idempotence": True,
    "max.in.flight.requests.per.connection": 1,
}
