"""The house rules that a machine can check: who may import whom, how long a file is, what is documented."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each package, and those of ours that it may import besides itself.
MAY_IMPORT = {
    "models": set(),
    "broker": set(),
    "serve": {"broker", "models"},
    "training": {"broker", "models"},
    "rayfinch": {"broker", "models", "serve", "training"},
}
SHELLS = {"ray", "confluent_kafka", "sqlalchemy", "alembic", "psycopg", "lance"}
PURE = [
    *(ROOT / "models").rglob("*.py"),
    *(p for p in (ROOT / "broker/packets").glob("*.py") if p.name != "registry.py"),
    *(ROOT / "broker/stream" / f"{n}.py" for n in ("plan", "planning", "protocols")),
    *(
        ROOT / "broker/publish" / f"{n}.py"
        for n in ("avro", "datum", "encode", "outputs", "schemas", "scores")
    ),
    *(ROOT / "training/simulation").glob("*.py"),
]
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path, *, typing: bool = True) -> Iterator[str]:
    """The top-level packages that a file imports, wherever in it; also those only for types, if `typing`."""
    tree = ast.parse(path.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in typing_only and not typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_dependencies_point_one_way(package):
    allowed = {package, *MAY_IMPORT[package]}
    for path in sorted((ROOT / package).rglob("*.py")):
        forbidden = set(imports(path)) & set(MAY_IMPORT) - allowed
        assert not forbidden, f"{path.relative_to(ROOT)} imports {', '.join(forbidden)}"


def test_pure_code_imports_no_ray_kafka_or_sql():
    for path in PURE:
        assert not set(imports(path, typing=False)) & SHELLS, path.relative_to(ROOT)


def test_no_file_is_too_long_to_read():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 320}
    assert not long


def test_every_file_says_what_it_is_for():
    assert not [
        str(p) for p in FILES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]


def test_every_dependency_is_pinned_and_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    reasons = (ROOT / "ARCHITECTURE.md").read_text().split("## Dependencies")[1]
    pins = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").open()}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = re.split(r"[\[<>=!~]", requirement)[0]
        assert name in reasons, f"{name} has no reason in ARCHITECTURE.md"
        assert name.lower() in pins, f"{name} is not in constraints.txt: make lock"
