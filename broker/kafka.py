"""What every client of a Kafka is given, whosever cluster it is; a deployment's own settings go before it."""

from __future__ import annotations

from collections.abc import Mapping

# librdkafka waits longer and longer before it knocks again, up to 10 s, for a Kafka that is back already.
RECONNECT: Mapping[str, int] = {"reconnect.backoff.max.ms": 1000}
