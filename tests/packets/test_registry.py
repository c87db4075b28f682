"""Schemas from a registry that speaks Confluent's protocol over HTTP."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from broker.packets.decode import decode
from broker.packets.registry import Registry
from broker.packets.survey import PacketError, SchemasUnavailable, survey


class Server:
    """A registry of the ids in a folder. `asked`: the paths that were; `broken`: whether it answers 500."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.broken = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                schema_id = self.path.split("?")[0].rpartition("/")[2]
                file = folder / f"{schema_id}.avsc"
                if outer.broken:
                    self.answer(500, {"error_code": 50001, "message": "out of order"})
                elif file.exists():
                    self.answer(200, {"schema": file.read_text()})
                else:
                    self.answer(404, {"error_code": 40403, "message": "Schema not found"})

            def answer(self, status: int, body: dict) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(lsst_schemas) -> Iterator[Server]:
    server = Server(lsst_schemas)
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_packets_decode_and_a_schema_is_asked_for_once(server, lsst_wire):
    registry = Registry(server.url)
    packets = [packet for _, packet in lsst_wire]
    decoded = decode(survey("lsst"), packets, registry)
    assert decoded.failures == []
    assert decoded.alerts.num_rows == 70
    assert len(server.asked) == 1
    assert pickle.loads(pickle.dumps(registry)).schema(900) == registry.schema(900)


def test_an_unknown_id_is_the_packets_fault_and_a_broken_registry_is_not(server):
    registry = Registry(server.url, {"max.retries": 0})
    with pytest.raises(PacketError, match="schema 4711 is unknown to the registry"):
        registry.schema(4711)
    server.broken = True
    with pytest.raises(SchemasUnavailable, match="refuses"):
        registry.schema(900)
    server.broken = False
    assert json.loads(registry.schema(900))["name"] == "lsst.v9_0.alert"


def test_a_registry_that_is_not_there():
    with pytest.raises(SchemasUnavailable, match="does not answer"):
        Registry("http://127.0.0.1:9", {"max.retries": 0}).schema(900)
