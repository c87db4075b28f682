"""The registry of versions: who is champion, who challenges, who was, and the files of each. On MLflow.

A version is logged as the plain files it consists of, never as one of MLflow's flavours. Its own version
(`model.json`'s) and the digest of its files are tags of MLflow's numbered version; each move of an alias is
a tag of MLflow's registered model, so that two moves at a time are both kept.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.contract import open_model
from models.folders import CHALLENGER, CHAMPION, RegistryError, contents, digest
from models.history import LATEST, SET, Book, Move, Registered, author, now, numbers
from models.manifest import ModelError, read_manifest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

EXPERIMENT = "rayfinch"
ARTIFACTS = "version"
VERSION, DIGEST, WHO, NOTE, METRICS = (
    f"rayfinch.{tag}" for tag in ("version", "digest", "who", "note", "metrics")
)
MODEL, MOVE = "rayfinch.model", "rayfinch.move."
SQLITE = "sqlite:///"
# Unless told not to, MLflow tells its makers who uses it, asks a server that is down for minutes, and prints.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Registry(Book):
    """The versions of all models. `uri`: sqlite:///FILE (artifacts go beside it), or an MLflow server's URL.

    Every method raises RegistryError when the registry does not answer or does not know what it is asked for.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._opened: MlflowClient | None = None
        self._numbers: dict[tuple[str, str], str] = {}  # (name, MLflow's number) -> version: never changes
        self._verified: set[tuple[Path, str, int]] = set()

    def register(self, folder: Path, note: str = "") -> Registered:
        """Open the version in `folder` (its golden scores are checked), and log its files.

        Again with the same files it does nothing. Raises ModelError when the version does not open, and
        RegistryError when another version of that name is registered: versions never change.
        """
        manifest = read_manifest(folder)
        name, version, found = manifest.name, manifest.version, digest(folder)
        if version in (LATEST, CHAMPION, CHALLENGER):
            raise ModelError(f"{folder}: a version cannot be called {version!r}, which means something else")
        open_model(folder)
        with self.client(make=True) as client:
            if name in self._names(client):
                for known in self._versions(client, name):
                    if known.version == version:
                        return self._same(known, found, folder)
            else:
                client.create_registered_model(name, {MODEL: "yes"})
            run = client.create_run(self.experiment(client, EXPERIMENT), run_name=f"{name}@{version}")
            for path in contents(folder):
                client.log_artifact(run.info.run_id, str(path), ARTIFACTS)
            for metric, value in numbers(manifest.metrics).items():
                client.log_metric(run.info.run_id, metric, value)
            client.set_terminated(run.info.run_id)
            tags = {
                VERSION: version,
                DIGEST: found,
                WHO: author(),
                METRICS: json.dumps(numbers(manifest.metrics)),
            }
            if note:
                tags[NOTE] = note
            source = f"{run.info.artifact_uri}/{ARTIFACTS}"
            made = client.create_model_version(name, source, run.info.run_id, tags)
            # Somebody may have registered the same version just now: the first one counts.
            first = min(
                (known for known in self._versions(client, name) if known.version == version),
                key=lambda known: known.number,
            )
            if first.number != int(made.version):
                client.delete_model_version(name, made.version)
            return self._same(first, found, folder)

    def names(self) -> list[str]:
        """The models that have versions, by name."""
        with self.client() as client:
            return self._names(client)

    def versions(self, name: str) -> list[Registered]:
        with self.client() as client:
            return self._versions(client, self._known(client, name))

    def aliases(self, name: str) -> dict[str, str]:
        with self.client() as client:
            numbers = client.get_registered_model(self._known(client, name)).aliases
            for number in numbers.values():
                if (name, str(number)) not in self._numbers:
                    self._versions(client, name)
            return {alias: self._numbers[name, str(number)] for alias, number in numbers.items()}

    def alias(
        self,
        name: str,
        alias: str,
        version: str | None,
        note: str = "",
        how: str = SET,
        decision: Mapping[str, Any] | None = None,
    ) -> Move:
        known = None if version is None else self.find(name, version)
        before, after = self.aliases(name).get(alias), known.version if known else None
        move = Move(alias, before, after, author(), now(), note, how, dict(decision or {}))
        with self.client() as client:
            from mlflow.exceptions import MlflowException

            # First the history: an alias never moves without it.
            key = f"{MOVE}{move.when}.{uuid.uuid4().hex[:8]}"
            client.set_registered_model_tag(name, key, json.dumps(move.written()))
            if known is not None:
                try:
                    client.set_registered_model_alias(name, alias, str(known.number))
                except MlflowException:  # another made it just now: now there is one to move
                    client.set_registered_model_alias(name, alias, str(known.number))
            elif before is not None:
                client.delete_registered_model_alias(name, alias)
        return move

    def history(self, name: str) -> list[Move]:
        with self.client() as client:
            tags = client.get_registered_model(self._known(client, name)).tags
        return [Move(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(MOVE)]

    def fetch(self, name: str, version: str, into: Path) -> Path:
        """Make `into`/<version>, complete and with the digest that was registered, or not at all.

        A folder that is there already is kept if its files are the registered ones.
        """
        known = self.find(name, version)
        target = into / known.version
        if target.exists():
            self._verify(target, known)
            return target
        into.mkdir(parents=True, exist_ok=True)
        with self.client() as client, tempfile.TemporaryDirectory(dir=into, prefix=".fetching-") as room:
            from mlflow.artifacts import download_artifacts

            number = client.get_model_version(name, str(known.number))
            download_artifacts(
                run_id=number.run_id, artifact_path=ARTIFACTS, dst_path=room, tracking_uri=self.uri
            )
            self._verify(Path(room, ARTIFACTS), known)
            try:
                os.replace(Path(room, ARTIFACTS), target)
            except OSError:
                if not target.exists():
                    raise
                self._verify(target, known)  # another process was faster
        return target

    def _verify(self, folder: Path, known: Registered) -> None:
        """Raise RegistryError unless the files are those that were registered."""
        touched = max(path.stat().st_mtime_ns for path in (folder, *folder.iterdir()))
        if (seen := (folder, known.digest, touched)) in self._verified:
            return
        try:
            manifest, found = read_manifest(folder), digest(folder)
        except ModelError as error:
            raise RegistryError(f"{known} from {self.uri} is no version: {error}") from error
        if found != known.digest or (manifest.name, manifest.version) != (known.name, known.version):
            raise RegistryError(
                f"{folder} is not {known} as it was registered: its digest is {found[:12]}, not "
                f"{known.digest[:12]}; take the folder away to fetch it again, or restore the artifacts"
            )
        self._verified.add(seen)

    def _same(self, known: Registered, found: str, folder: Path) -> Registered:
        if known.digest != found:
            raise RegistryError(
                f"{known} is registered in {self.uri} with other files (digest {known.digest[:12]}, that of "
                f"{folder} is {found[:12]}): versions never change, give it another version"
            )
        return known

    def _names(self, client: MlflowClient) -> list[str]:
        found = _pages(client.search_registered_models)  # a server may have others' models, too
        return sorted(model.name for model in found if MODEL in model.tags)

    def _known(self, client: MlflowClient, name: str) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return client.get_registered_model(name).name
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        there = ", ".join(self._names(client)) or "none"
        raise RegistryError(f"no model {name!r} is registered in {self.uri}; there are {there}")

    def _versions(self, client: MlflowClient, name: str) -> list[Registered]:
        found = _pages(client.search_model_versions, filter_string=f"name = '{name}'")
        ours = [_registered(version) for version in found if VERSION in version.tags]
        self._numbers |= {(name, str(known.number)): known.version for known in ours}
        return sorted(ours, key=lambda known: known.number)

    def experiment(self, client: MlflowClient, name: str) -> str:
        """The id of the experiment of that name; it is made, with its artifacts beside an SQLite file."""
        from mlflow.exceptions import MlflowException

        artifacts = None
        if self.uri.startswith(SQLITE):
            database = Path(self.uri.removeprefix(SQLITE)).absolute()
            artifacts = database.with_name(f"{database.stem}-artifacts").as_uri()
        try:
            if found := client.get_experiment_by_name(name):
                return found.experiment_id
            return client.create_experiment(name, artifacts)
        except MlflowException:  # made by somebody else just now
            if found := client.get_experiment_by_name(name):
                return found.experiment_id
            raise

    @contextmanager
    def client(self, make: bool = False) -> Iterator[MlflowClient]:
        """MLflow's client; whatever it raises inside is told as a RegistryError."""
        database = Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None
        if database is not None and not database.exists():
            if not make:
                raise RegistryError(f"no registry is in {database} yet: rayfinch models register makes it")
            database.parent.mkdir(parents=True, exist_ok=True)
        if self._opened is None:
            self._opened = _mlflow(self.uri)
        from mlflow.exceptions import MlflowException

        try:
            yield self._opened
        except MlflowException as error:
            if isinstance(error.__cause__ or error.__context__, OSError):  # requests' errors are
                raise RegistryError(f"the registry {self.uri} does not answer: is the server up?") from error
            raise RegistryError(f"the registry {self.uri} refused: {_first_line(error)}") from error


def _mlflow(uri: str) -> MlflowClient:
    """Import MLflow (a second) and open the registry; SQLite's tables are made or brought up to date."""
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from mlflow import MlflowClient

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return MlflowClient(uri, uri)
    except Exception as error:  # SQLAlchemy's, Alembic's or MLflow's own
        raise RegistryError(f"the registry {uri} cannot be opened: {_first_line(error)}") from error


def _pages(search: Callable[..., Any], **options: Any) -> Iterator[Any]:
    """All that a search of MLflow finds."""
    token = None
    while True:
        page = search(page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def _registered(version: ModelVersion) -> Registered:
    tags = version.tags
    return Registered(
        name=version.name,
        version=tags[VERSION],
        number=int(version.version),
        digest=tags[DIGEST],
        who=tags[WHO],
        when=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        note=tags.get(NOTE, ""),
        metrics=json.loads(tags[METRICS]),
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
