"""What Rayfinch needs of the machine it runs on, and what its tests need besides."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from rayfinch.checks import Check, failure, guarded, ok, warning

GIB = 2**30
OLDEST_PYTHON = (3, 11)
# Ray, Serve, two networks and the stream, measured: about 3 GiB.
MEMORY = 4 * GIB
DISK = 10 * GIB
# Ray spills nothing and fails tasks when its disk is fuller.
DISK_FULL = 0.95
# Ray opens a handful of sockets per worker; below this its own warning says the same.
FILES = 4096
# rayfinch replay's and the example configurations' Kafka, Ray's dashboard, Serve's HTTP.
PORTS = {9092: "Kafka", 8265: "Ray's dashboard", 8000: "Ray Serve"}
ROOT = Path(__file__).parents[1]


def examine() -> Iterator[Check]:
    """Every check of this machine."""
    yield guarded("python", python)
    yield guarded("packages", packages)
    yield guarded("ray", ray_version)
    yield guarded("memory", memory)
    yield guarded("shared memory", shared_memory)
    yield guarded("open files", open_files)
    yield guarded("disk", lambda: disk(Path.cwd()))
    yield guarded("ports", ports)
    yield guarded("java", java)
    yield guarded("test kafka", test_kafka)
    yield guarded("test postgresql", test_postgres)


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    found = ".".join(map(str, version))
    if version >= OLDEST_PYTHON:
        return ok("python", found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return failure("python", found, f"install Python {oldest} or newer: make PYTHON=python{oldest}")


def packages(locked: Path = ROOT / "constraints.txt") -> Check:
    """What Rayfinch requires, against what is installed and, in a checkout, against its lock."""
    requirements = _requirements()
    installed = {name: _installed(name) for name in requirements}
    if absent := [name for name, version in installed.items() if version is None]:
        return failure("packages", f"missing: {', '.join(absent)}", _pip(locked))
    pins = _pins(locked)
    other = {n: v for n, v in installed.items() if n in pins and v is not None and v.split("+")[0] != pins[n]}
    if other:
        found = ", ".join(f"{name} {version} (tested: {pins[name]})" for name, version in other.items())
        return warning("packages", found, _pip(locked))
    return ok("packages", f"{len(installed)} installed" + (", as tested" if pins else ""))


def ray_version() -> Check:
    """The driver and the cluster it joins must have the same Ray and the same Python."""
    found = _installed("ray")
    if found is None:
        return failure("ray", "not installed", _pip(ROOT / "constraints.txt"))
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return ok("ray", f"{found}; a cluster that you join needs this version, and Python {python}")


def memory() -> Check:
    import psutil

    free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    found = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    if free >= MEMORY:
        return ok("memory", found)
    return warning(
        "memory", found, f"give it {MEMORY // GIB} GiB, or lower batch.max_alerts and ray.num_cpus"
    )


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Ray's object store lives there; without it, in files, and slower."""
    if not folder.is_dir():
        return ok("shared memory", "not a Linux; Ray uses files")
    size = shutil.disk_usage(folder).total
    found = f"{size / GIB:.1f} GiB in {folder}"
    if size >= GIB:
        return ok("shared memory", found)
    return warning("shared memory", found, "in a container: --shm-size=2g; else mount a larger tmpfs there")


def open_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= FILES or soft == resource.RLIM_INFINITY:
        return ok("open files", f"{soft} allowed")
    return warning("open files", f"{soft} allowed (at most {hard})", f"ulimit -n {FILES}")


def disk(folder: Path) -> Check:
    """Space for the archive, and for what Ray spills."""
    worst: Check | None = None
    for place in dict.fromkeys((folder, Path(os.environ.get("RAY_TMPDIR", "/tmp")))):
        usage = shutil.disk_usage(place)
        # What others may not use (the file system's reserve) counts as used, as Ray counts it.
        full = 1 - usage.free / usage.total
        found = f"{usage.free / GIB:.0f} GiB free ({full:.0%} full) for {place}"
        if full > DISK_FULL:
            return failure("disk", found, f"Ray stops above {DISK_FULL:.0%}: free some space")
        if usage.free < DISK:
            worst = warning("disk", found, "10^5 ZTF alerts take about 4 GB: free some space")
        worst = worst or ok("disk", found)
    assert worst is not None
    return worst


def ports(wanted: Mapping[int, str] = PORTS) -> Check:
    """Whether the ports that things listen on by default are free. Others can be chosen: never a failure."""
    taken = {port: what for port, what in wanted.items() if _taken(port)}
    if not taken:
        return ok("ports", f"{', '.join(map(str, wanted))} are free")
    found = ", ".join(f"{port} ({what})" for port, what in taken.items())
    return ok("ports", f"in use: {found}; fine if that is what runs there")


def java() -> Check:
    """Only the real Kafka of the tests is Java."""
    if not (program := shutil.which("java")):
        return warning("java", "not found; tests that need Kafka skip", "apt install openjdk-17-jre-headless")
    said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        return warning("java", said.splitlines()[0] if said else "?", "apt install openjdk-17-jre-headless")
    return ok("java", said.splitlines()[0])


def test_kafka() -> Check:
    script = Path(os.environ.get("RAYFINCH_KAFKA", ROOT.parent / "shared" / "kafka" / "start"))
    if script.exists():
        return ok("test kafka", str(script))
    mend = "set RAYFINCH_KAFKA to a script `start DIR PORT [EXTRA.properties]`; see CONTRIBUTING.md"
    return warning("test kafka", f"no {script}; tests that need Kafka skip", mend)


def test_postgres() -> Check:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found or shutil.which("initdb"):
        return ok("test postgresql", str(found[-1] if found else shutil.which("initdb")))
    return warning("test postgresql", "not found; its tests skip", "apt install postgresql")


def _requirements() -> list[str]:
    """The names that the distribution, or the checkout's pyproject.toml, asks for."""
    try:
        lines = [r for r in metadata.requires("rayfinch") or [] if "extra ==" not in r]
    except metadata.PackageNotFoundError:
        import tomllib

        lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pins(locked: Path) -> dict[str, str]:
    if not locked.exists():
        return {}
    pins = [line.split("==") for line in locked.read_text().splitlines() if "==" in line and line[0] != "#"]
    canonical = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}
    return {name: canonical[name] for name in _requirements() if name in canonical}


def _pip(locked: Path) -> str:
    return f"pip install -c {locked.name} -e ." if locked.exists() else "pip install --upgrade rayfinch"


def _taken(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0
