"""Where simulated alerts are kept: packets in a folder or a tarball, or a labelled table."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from broker.packets.survey import SchemaSource
    from training.simulation import Simulated

Keep = Callable[["Simulated"], None]
PART = 250  # alerts that are decoded at once


@contextmanager
def folder(path: Path) -> Iterator[Keep]:
    """A file a packet."""

    def keep(one: Simulated) -> None:
        (path / f"{one.truth['candid']}.avro").write_bytes(one.packet)

    yield keep


@contextmanager
def tarball(path: Path) -> Iterator[Keep]:
    """The same seed makes the same file: nothing of the moment goes in."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):

        def keep(one: Simulated) -> None:
            member = tarfile.TarInfo(f"{one.truth['candid']}.avro")
            member.size = len(one.packet)
            tar.addfile(member, io.BytesIO(one.packet))

        yield keep


@contextmanager
def table(path: Path, survey: str, schemas: SchemaSource | None) -> Iterator[Keep]:
    """Parquet of decoded alerts, with `label` (the class) and `detail`: what `rayfinch train` reads."""
    import pyarrow.parquet as pq

    waiting: list[Simulated] = []
    writers: list[pq.ParquetWriter] = []

    def write() -> None:
        alerts = _decoded(waiting, survey, schemas)
        if not writers:
            writers.append(pq.ParquetWriter(path, alerts.schema))
        writers[0].write_table(alerts)
        waiting.clear()

    def keep(one: Simulated) -> None:
        waiting.append(one)
        if len(waiting) == PART:
            write()

    yield keep
    if waiting:
        write()
    for writer in writers:
        writer.close()


def _decoded(made: list[Simulated], name: str, schemas: SchemaSource | None) -> pa.Table:
    import pyarrow as pa

    from broker.packets.decode import decode
    from broker.packets.survey import survey

    alerts = decode(survey(name), [one.packet for one in made], schemas, cutouts=True).alerts
    truth = {one.truth["candid"]: one.truth for one in made}
    rows = [truth[alert_id] for alert_id in alerts["alert_id"].to_pylist()]
    for column, key in (("label", "class"), ("detail", "detail")):
        alerts = alerts.append_column(column, pa.array([str(row[key]) for row in rows]))
    return alerts
