"""Where the schemas of Confluent's wire format come from: a folder of files, or a schema registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.packets.survey import PacketError, SchemasUnavailable


@dataclass(frozen=True)
class Folder:
    """A folder of ID.avsc files, each as a registry returns the schema of that id."""

    path: Path
    _known: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not self.path.is_dir():
            raise SchemasUnavailable(f"there is no folder of schemas at {self.path}")

    def schema(self, schema_id: int) -> str:
        if schema_id not in self._known:
            file = self.path / f"{schema_id}.avsc"
            try:
                self._known[schema_id] = file.read_text()
            except FileNotFoundError:
                raise PacketError(f"schema {schema_id} is unknown: there is no {file}") from None
            except OSError as error:
                raise SchemasUnavailable(f"{file} cannot be read: {error}") from error
        return self._known[schema_id]


@dataclass(frozen=True)
class Registry:
    """A Confluent schema registry. `conf`: more settings of its client, such as basic.auth.user.info.

    What was asked once is kept: a schema id never changes its meaning. What a registry does not know is asked
    again, since it may have been registered meanwhile.
    """

    url: str
    conf: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _known: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def schema(self, schema_id: int) -> str:
        if schema_id not in self._known:
            self._known[schema_id] = self._ask(schema_id)
        return self._known[schema_id]

    def _ask(self, schema_id: int) -> str:
        from confluent_kafka.schema_registry import SchemaRegistryClient
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        # A client of each question: there is one question a schema, and a client cannot be pickled
        client = SchemaRegistryClient({"url": self.url, **self.conf})
        try:
            schema = client.get_schema(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise PacketError(f"schema {schema_id} is unknown to the registry at {self.url}") from None
            raise SchemasUnavailable(f"the schema registry at {self.url} refuses: {error}") from error
        except Exception as error:  # the client lets through whatever its HTTP library raises
            raise SchemasUnavailable(f"the schema registry at {self.url} does not answer: {error}") from error
        if (schema.schema_type or "AVRO") != "AVRO":
            raise PacketError(f"schema {schema_id} is of type {schema.schema_type}, not Avro")
        if not schema.schema_str:
            raise PacketError(f"schema {schema_id} is empty in the registry at {self.url}")
        return schema.schema_str
