"""Whether what a configuration names is there: its Kafkas, its database, its archive, its models, its Ray."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from rayfinch.checks import Check, failure, guarded, ok, warning
from rayfinch.config import Settings
from rayfinch.kafka import Unreachable, topics, unknown_settings
from rayfinch.masking import masked_text


def examine(settings: Settings) -> Iterator[Check]:
    """Every check of a deployment. It changes nothing; it reads the models' weights."""
    yield guarded("kafka settings", lambda: kafka_settings(settings))
    yield guarded("source", lambda: source(settings))
    yield guarded("schemas", lambda: schemas(settings))
    yield guarded("own kafka", lambda: own_kafka(settings))
    yield guarded("database", lambda: database(settings))
    yield guarded("archive", lambda: archive(settings))
    if settings.registry is not None:
        yield guarded("registry", lambda: registry(settings))
    for name in [m.name for m in settings.models]:
        yield guarded(f"model {name}", lambda name=name: model(settings, name))  # type: ignore[misc]  # a default
    yield guarded("gpu", lambda: gpu(settings))
    yield guarded("cluster", lambda: cluster(settings))


def kafka_settings(settings: Settings) -> Check:
    if found := unknown_settings(settings):
        return failure("kafka settings", "; ".join(map(str, found)), "see librdkafka's CONFIGURATION.md")
    return ok("kafka settings", "librdkafka knows them")


def source(settings: Settings) -> Check:
    """The survey's cluster answers, and shows topics that the stream reads."""
    wanted = settings.source.topics
    try:
        shown = topics(settings.source.kafka)
    except Unreachable as error:
        return failure("source", str(error), "check source.kafka, its login, and the network")
    found = [t for t in shown if any(re.match(w, t) if w.startswith("^") else w == t for w in wanted)]
    address = settings.source.kafka["bootstrap.servers"]
    if not found:
        others = f"; it shows {', '.join(shown[:5])}" if shown else "; it shows none"
        mend = "the stream waits for them; check source.topics and what your login may read"
        return warning("source", f"no topic of {address} matches {', '.join(wanted)}{others}", mend)
    return ok("source", f"{address}: {len(found)} topics match, such as {found[-1]}")


def schemas(settings: Settings) -> Check:
    where = settings.source
    if where.schemas is not None:
        files = list(where.schemas.glob("*.avsc"))
        if not files:
            return failure("schemas", f"no ID.avsc in {where.schemas}", "put the survey's schemas there")
        return ok("schemas", f"{len(files)} in {where.schemas}")
    if where.registry is not None:
        url = urlparse(str(where.registry["url"]))
        port = url.port or (443 if url.scheme == "https" else 80)
        return _listens("schemas", url.hostname or "", port, "check source.registry.url and the network")
    if settings.survey == "lsst":
        mend = "set source.schemas or source.registry; without them only whole Avro containers decode"
        return warning("schemas", "neither a folder nor a registry", mend)
    return ok("schemas", "in the packets themselves")


def own_kafka(settings: Settings) -> Check:
    """Our own cluster answers; whether it takes transactions only a stream can tell."""
    try:
        shown = topics(settings.publish.kafka)
    except Unreachable as error:
        return failure("own kafka", str(error), "start it, or check publish.kafka")
    ours = [t for t in shown if t.startswith(f"{settings.publish.prefix}.")]
    return ok("own kafka", f"{settings.publish.kafka['bootstrap.servers']}: {len(ours)} topics of ours")


def database(settings: Settings) -> Check:
    from alembic.script import ScriptDirectory

    from broker.database import engine as databases

    url = settings.database.url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return _writable("database", Path(url.removeprefix("sqlite:///")).parent, "the first stream makes it")
    needed = ScriptDirectory(str(Path(databases.__file__).parent / "migrations")).get_current_head()
    engine = databases.connect(url, migrate=False)
    try:
        with databases.reading(engine) as db:
            at = databases.revision(db)
    except Exception as error:
        reason = " ".join(masked_text(str(getattr(error, "orig", None) or error)).split())
        return failure("database", f"{masked_text(url)}: {reason}", "start it, or check database.url")
    finally:
        engine.dispose()
    if at == needed:
        return ok("database", f"{masked_text(url)}, at revision {at}")
    if at is None:
        return ok("database", f"{masked_text(url)}, empty: the first stream makes its tables")
    return warning("database", f"at revision {at}, this Rayfinch wants {needed}", "rayfinch database upgrade")


def archive(settings: Settings) -> Check:
    uri = settings.archive.uri
    if "://" not in uri or uri.startswith("file://"):
        return _writable("archive", Path(uri.removeprefix("file://")), "each survey's first batch makes it")
    import lance

    place = f"{uri.rstrip('/')}/{settings.survey}.lance"
    try:
        rows = lance.dataset(place, storage_options=settings.archive.storage_options).count_rows()
    except (ValueError, OSError) as error:
        reason = masked_text(" ".join(str(error).split()))[:200]
        if "not found" in reason.lower():
            return ok("archive", f"{place}: not there yet; the first batch makes it")
        return failure("archive", f"{place}: {reason}", "check archive.uri and archive.storage_options")
    return ok("archive", f"{place}: {rows} alerts")


def registry(settings: Settings) -> Check:
    """The registry of versions answers, and knows a champion of each model."""
    from models.folders import CHAMPION, RegistryError
    from models.registry import Registry

    assert settings.registry is not None
    found = Registry(settings.registry.uri)
    place = masked_text(settings.registry.uri)
    try:
        known = {name: found.aliases(name) for name in found.names()}
    except RegistryError as error:
        return failure("registry", str(error), "start it, or check registry.uri; rayfinch models register")
    unled = [m.name for m in settings.models if CHAMPION not in known.get(m.name, {})]
    if unled:
        mend = "rayfinch models promote NAME@VERSION"
        return warning("registry", f"{place}: no champion of {', '.join(unled)}; what we ship serves", mend)
    return ok("registry", f"{place}: {', '.join(f'{n}@{a[CHAMPION]}' for n, a in known.items() if a)}")


def model(settings: Settings, name: str) -> Check:
    """The version that would serve loads."""
    from models.contract import ModelError, open_model
    from rayfinch.wiring import deployed

    wanted = deployed(settings)[name]
    try:
        version = wanted.current()
        found = open_model(wanted.folder / version)
    except ModelError as error:
        return failure(f"model {name}", str(error), "rayfinch train, or put the version's folder there")
    return ok(f"model {name}", f"version {version}: {', '.join(found.classes)}")


def gpu(settings: Settings) -> Check:
    import torch

    wanted = sum(m.gpus * m.replicas for m in settings.models)
    there = torch.cuda.device_count()
    if settings.ray.address != "local":
        return ok("gpu", f"{wanted:g} wanted of the cluster")
    if wanted > there:
        mend = "set models.gpus to 0: the CPU scores, too"
        return failure("gpu", f"{wanted:g} wanted, {there} here; the replicas would wait for ever", mend)
    return ok("gpu", f"{wanted:g} wanted, {there} here")


def cluster(settings: Settings) -> Check:
    """The Ray that the stream joins."""
    address = os.environ.get("RAY_ADDRESS") or settings.ray.address
    if address == "auto":
        # `ray start` leaves its address there.
        note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
        address = note.read_text().strip() if note.exists() else ""
        if not address:
            return failure("cluster", "no Ray runs here", "ray start --head, or ray.address: local")
    if address == "local":
        return ok("cluster", "the stream starts a Ray of its own")
    if address.startswith("http"):
        return ok("cluster", f"{address}, by jobs")
    host, _, port = address.removeprefix("ray://").partition(":")
    return _listens("cluster", host, int(port or 10001), "ray start --head there, or check ray.address")


def _writable(name: str, folder: Path, otherwise: str) -> Check:
    """Whether a folder, or the one it would be made in, takes files."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return failure(
            name, f"{there}: {error.strerror}", f"chown or chmod {there}, or choose another folder"
        )
    return ok(name, str(folder) if there == folder else f"{folder}: {otherwise}")


def _listens(name: str, host: str, port: int, mend: str) -> Check:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return failure(name, f"{host}:{port} does not answer: {error}", mend)
    return ok(name, f"{host}:{port} answers")
