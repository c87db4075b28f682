"""What a survey is: how its packets are framed, and how its fields become the alert table's columns.

A survey is one module of this package with one object named SURVEY; its name is the module's. Nothing lists
the surveys: a new file is found by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import polars as pl

import broker.packets


class PacketError(ValueError):
    """A packet that is no alert. The message says why, in a sentence for the dead-letter table."""


class UnsuitedSchema(PacketError):
    """No packet of this writer schema can be an alert of the survey."""


class SchemasUnavailable(RuntimeError):
    """The schemas cannot be asked for now (a registry that does not answer): no fault of the packet."""


class SchemaSource(Protocol):
    """Where the writer schemas of Confluent's wire format come from. Must survive pickling."""

    def schema(self, schema_id: int) -> str:
        """Return the schema's JSON. Raises PacketError if there is none of that id, or SchemasUnavailable."""
        ...


@dataclass(frozen=True)
class WriterSchema:
    """The schema that a packet was written with: its JSON as received."""

    json: str

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the sha256 of the JSON as received."""
        return sha256(self.json.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Datum:
    """One packet's bare Avro datum, packet[start:end], and the schema to read it with."""

    schema: WriterSchema
    packet: bytes
    start: int
    end: int

    @property
    def body(self) -> bytes:
        return self.packet[self.start : self.end]


class Survey(Protocol):
    name: str
    packs_stamps: bool  # whether its stamps come compressed: the archive leaves those as they are

    def recognises(self, fields: frozenset[str]) -> bool:
        """Whether a packet with these top-level fields is one of this survey."""
        ...

    def split(self, packet: bytes, schemas: SchemaSource | None) -> Datum:
        """Take the datum out of a packet. Raises PacketError, or SchemasUnavailable."""
        ...

    def alerts(self, frame: pl.DataFrame, schema: WriterSchema) -> pl.DataFrame:
        """Map decoded packets of one writer schema to the alert table, row by row in the same order.

        `frame` has the packet's top-level fields as columns (records: structs, arrays: lists, maps: lists of
        {key, value}). Returned are alert_id, object_id, mjd, ra, dec, band, flux, flux_err, history, source,
        rights, the three cutouts' bytes and `version` (of the schema, such as "4.02"; null if nothing tells).
        Values may be null or absurd: the caller judges them. Raises UnsuitedSchema where the schema lacks
        what no alert can be without.
        """
        ...


def survey(name: str) -> Survey:
    """Return the survey of that name: SURVEY of the module broker.packets.<name>."""
    if name in surveys_by_module():
        found = getattr(importlib.import_module(f"broker.packets.{name}"), "SURVEY", None)
        if found is not None:
            return found
    known = ", ".join(s.name for s in surveys())
    raise LookupError(f"there is no survey {name!r}; known are {known}")


def surveys() -> list[Survey]:
    """Every survey there is a module for, by name."""
    modules = (importlib.import_module(f"broker.packets.{name}") for name in surveys_by_module())
    return [module.SURVEY for module in modules if hasattr(module, "SURVEY")]


def surveys_by_module() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(broker.packets.__path__) if not m.name.startswith("_"))
