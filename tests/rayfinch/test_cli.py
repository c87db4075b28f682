"""The command: fast, complete, and without tracebacks for what its user can mend."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import typer
from typer.testing import CliRunner

from rayfinch import __version__, cli
from rayfinch.problems import ConfigError, Problem


def rayfinch(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rayfinch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_help_lists_every_command_and_is_fast():
    start = time.monotonic()
    shown = rayfinch("--help")
    assert time.monotonic() - start < 5  # 0.2 s on a quiet machine: no command's libraries are imported
    assert shown.returncode == 0
    listed = {line.split()[0] for line in shown.stdout.split("Commands:")[1].splitlines() if line.strip()}
    assert listed >= set(cli.COMMANDS)


def test_help_imports_nothing_heavy():
    heavy = (
        "{'ray', 'torch', 'polars', 'pyarrow', 'lance', 'sqlalchemy', 'confluent_kafka', 'astropy', 'numpy'}"
    )
    script = f"""
import sys
from rayfinch.cli import app
try:
    app(["--help"], prog_name="rayfinch")
except SystemExit:
    pass
print("heavy:", sorted({heavy} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert shown.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_an_example(name):
    assert find_spec(f"rayfinch.commands.{name}")
    command = typer.main.get_group(cli.app).get_command(None, name)
    members = getattr(command, "commands", {"": command})
    for member in members.values():
        assert "rayfinch" in member.help.split("Example")[1], f"rayfinch {name} {member.name} has no example"
        assert any("--json" in p.opts for p in member.params), f"rayfinch {name} {member.name} has no --json"


def test_the_version_is_the_distributions():
    assert CliRunner().invoke(cli.app, ["--version"]).stdout == f"rayfinch {__version__}\n"


def test_a_command_that_does_not_exist_is_told():
    shown = rayfinch("clasify")
    assert shown.returncode == 2
    assert "No such command 'clasify'" in shown.stderr


def test_a_known_error_is_one_line_and_exit_status_2(tmp_path):
    shown = rayfinch("config", "show", str(tmp_path / "none.yaml"))
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == f"rayfinch: {tmp_path}/none.yaml: cannot be read: No such file or directory\n"


def test_an_unknown_error_keeps_its_traceback(monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli, "app", lambda prog_name: broken())
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("a.yaml", [Problem("x", "is missing")]), "rayfinch: a.yaml: x: is missing\n"),
        (FileNotFoundError(2, "No such file or directory", "b"), "rayfinch: b: No such file or directory\n"),
        (
            PermissionError("no postgresql://u:hunter2@h\nfor you"),
            "rayfinch: no postgresql://u:***@h for you\n",
        ),
    ],
)
def test_known_errors_are_sentences_without_secrets(monkeypatch, capsys, error, line):
    def fails(prog_name: str) -> None:
        raise error

    monkeypatch.delenv("RAYFINCH_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == cli.USAGE
    assert capsys.readouterr().err == line


def test_the_known_errors_exist():
    """They are known by name only: a class that was renamed would be told with a traceback."""
    from importlib import import_module

    for module, name in cli.KNOWN_ERRORS:
        assert issubclass(getattr(import_module(module), name), Exception)


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    shown = subprocess.run(
        f"{sys.executable} -m rayfinch config show configs/ztf.yaml | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (shown.stdout, shown.stderr) == ("stream: ztf\n", "")
