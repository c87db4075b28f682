"""Whether the topics hold exactly what follows from the archive: each record once, byte for byte. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

import pyarrow as pa

from broker.publish.encode import encode
from broker.publish.outputs import Outputs

Record = tuple[str, bytes | None, bytes | None]  # topic, key, value


def digests(records: Iterable[Record]) -> Counter[bytes]:
    """Records as a multiset that fits into memory, whatever their sizes."""
    return Counter(_digest(record) for record in records)


def expected(alerts: pa.Table, schemas: Mapping[str, str], rules: Outputs) -> Counter[bytes]:
    """The records that archived alerts are published as."""
    rows = encode(alerts, schemas, rules).select(["topic", "key", "value"]).to_pylist()
    return digests((row["topic"], row["key"], row["value"]) for row in rows)


def difference(found: Counter[bytes], wanted: Counter[bytes]) -> str | None:
    """A sentence where the topics are not what they should be."""
    if found == wanted:
        return None
    return (
        "the topics do not equal the archive: "
        f"{(wanted - found).total()} records are missing, {(found - wanted).total()} too many"
    )


def _digest(record: Record) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (record[0].encode(), record[1] or b"", record[2] or b""):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
