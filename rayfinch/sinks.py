"""Where simulated alerts are kept: packets in a folder or a tarball, or a labelled table."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    from training.simulation.table import labelled

    waiting: list[Simulated] = []
    with ExitStack() as open_until_the_end:
        writers: list[pq.ParquetWriter] = []

        def write() -> None:
            alerts = labelled(waiting, survey, schemas)
            if not writers:
                writers.append(open_until_the_end.enter_context(pq.ParquetWriter(path, alerts.schema)))
            writers[0].write_table(alerts)
            waiting.clear()

        def keep(one: Simulated) -> None:
            waiting.append(one)
            if len(waiting) == PART:
                write()

        yield keep
        if waiting:
            write()
