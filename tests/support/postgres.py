"""A real PostgreSQL in a folder of its own; as the user `postgres` when we are root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from tests.support.ports import answers, free_port
from tests.support.processes import end, spawn, wait_until


def programs() -> Path | None:
    """The folder of the newest installed PostgreSQL's programs (they are not on Debian's PATH), or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """One PostgreSQL on 127.0.0.1; `folder` keeps its data over restarts which `postgres` must reach."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        bin = programs()
        if bin is None:
            raise FileNotFoundError("no PostgreSQL: install the package postgresql")
        self.bin, self.folder, self.port = bin, folder, port or free_port()
        self.log = folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
        folder.mkdir(parents=True, exist_ok=True)
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's URL of one of its databases."""
        return f"postgresql+psycopg://rayfinch@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; its URL."""
        with psycopg.connect(self.url().replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'create database "{database}"')
        return self.url(database)

    def start(self, timeout_s: float = 60) -> PostgresServer:
        data = self.folder / "data"
        if not data.exists():
            options = ["-A", "trust", "-U", "rayfinch", "-E", "UTF8", "--no-sync"]
            initdb = [str(self.bin / "initdb"), "-D", str(data), *options]
            subprocess.run(initdb, check=True, capture_output=True, **self._as)
        settings = [
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            "unix_socket_directories=",
            "fsync=off",
        ]
        postgres = [str(self.bin / "postgres"), "-D", str(data), *(w for s in settings for w in ("-c", s))]
        self._process = spawn(postgres, self.log, **self._as)
        wait_until(self._ready, self._process, self.log, timeout_s)
        return self

    def stop(self) -> None:
        """Stop it cleanly, cutting the connections there are."""
        end(self._process, signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the postmaster: a crash to recover from."""
        end(self._process, signal.SIGKILL)

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ready(self) -> bool:
        if not answers(self.port):
            return False
        try:
            psycopg.connect(self.url().replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
