"""The README's commands are understood as they stand there, and the quick ones answer what it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from rayfinch.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text()


def sessions() -> Iterator[tuple[str, str]]:
    """(command, what it answers) of every line that begins with $; continued lines joined, comments cut."""
    for block in re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield command.split("  #")[0].strip(), answer


COMMANDS = [words for command, _ in sessions() if "rayfinch" in (words := shlex.split(command))]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_is_understood(words):
    arguments = words[words.index("rayfinch") + 1 :]
    command = typer.main.get_group(app)
    context = command.make_context("rayfinch", arguments, resilient_parsing=True)
    while hasattr(command, "get_command"):
        name = arguments.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"rayfinch has no command {name}"
    command.make_context(command.name, arguments)  # raises for options and arguments that it doesn't have


@pytest.mark.parametrize("beginning", ["rayfinch simulate", "rayfinch packets check"])
def test_a_command_of_the_readme_answers_as_it_says(beginning, tmp_path, shared):
    command, expected = next(s for s in sessions() if s[0].startswith(beginning))
    for path in (shared / "data" / "ztf").glob("*.tar.gz"):
        (tmp_path / path.name).symlink_to(path)
    words = [sys.executable, "-m", *shlex.split(command)]
    root = str(Path(__file__).parents[1])
    told = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    pattern = re.sub(r"\d+\\\.\d", r"\\d+\\.\\d", re.escape(expected).replace("…", ".*"))  # sizes may differ
    assert re.fullmatch(pattern, told.stdout, re.DOTALL), told.stdout


def test_every_command_is_in_the_readme():
    assert not [name for name in app.info.cls.list_commands(None, None) if f"rayfinch {name}" not in README]
