"""`rayfinch stream` as a process of its own, for those who watch it, kill it and start it again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rayfinch.config import PREFIX, load


def configure(
    config: Path,
    folder: Path,
    stream: str,
    source: Mapping[str, Any],
    own: Mapping[str, Any],
    changes: Mapping[str, Mapping[str, Any]],
    **top: Any,
) -> Path:
    """Write `config` into `folder` with places of its own there; its path.

    `source`, `own`: librdkafka's settings of both clusters. `changes`: by section, what else is different;
    `top`: keys of the top level.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = load(config).model_dump(mode="json")
    document["stream"] = stream
    document["source"] |= {"kafka": dict(source), "start": "earliest", "registry": None, "schemas": None}
    document["publish"] |= {"kafka": dict(own), "prefix": stream, "replication": 1}
    document["archive"] |= {"uri": str(folder / "archive"), "storage_options": {}}
    document["database"] |= {"url": f"sqlite:///{folder / 'rayfinch.db'}"}
    for section, values in changes.items():
        document[section] |= dict(values)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**document, **top}, sort_keys=False))
    return path


def start(config: Path, log: Path, *options: str, failpoint: str = "") -> subprocess.Popen[bytes]:
    """Start a driver; what it says is appended to `log`. It ends when this process does.

    `failpoint` kills it there, as kill -9 would (broker.stream.failpoint).
    """
    # What overrides the configuration in this environment is in the file already.
    env = {k: v for k, v in os.environ.items() if not (k.startswith(PREFIX) and "__" in k)}
    env |= {"RAYFINCH_FAILPOINT": failpoint, "RAY_AUTH_MODE": "disabled"}
    env.pop("RAY_ADDRESS", None)
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as out:
        return subprocess.Popen(
            [*tied, sys.executable, "-m", "rayfinch", "stream", str(config), *options],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def drain(process: subprocess.Popen[bytes], timeout_s: float = 90) -> int | None:
    """SIGTERM, which finishes what is in flight; its exit status, None where it had to be killed."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def tail(log: Path, characters: int = 1500) -> str:
    return log.read_text(errors="replace")[-characters:].strip() if log.exists() else ""
