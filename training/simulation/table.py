"""Simulated packets as a labelled table: decoded as the stream decodes real ones."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from broker.packets.decode import decode
from broker.packets.survey import SchemaSource, survey
from training.simulation.alerts import Simulated

LABEL = "label"


def labelled(made: Sequence[Simulated], name: str = "ztf", schemas: SchemaSource | None = None) -> pa.Table:
    """Survey `name`'s alert table with cutouts, and `label` (the class) and `detail` of the truth."""
    alerts = decode(survey(name), [one.packet for one in made], schemas, cutouts=True).alerts
    assert len(alerts) == len(made), "a simulated packet does not decode"
    truth = {one.truth["candid"]: one.truth for one in made}
    rows = [truth[alert_id] for alert_id in alerts["alert_id"].to_pylist()]
    for column, key in ((LABEL, "class"), ("detail", "detail")):
        alerts = alerts.append_column(column, pa.array([str(row[key]) for row in rows]))
    return alerts
