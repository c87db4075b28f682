"""The command `rayfinch`: finds a subcommand's file when it is asked for, and tells errors in one line."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from rayfinch import __version__

# In the order in which a newcomer meets them. Each is rayfinch/commands/<name>.py, which has a typer app
# `app` (a group of subcommands) or a function of the command's name.
COMMANDS = (
    "demo",
    "doctor",
    "config",
    "stream",
    "status",
    "replay",
    "simulate",
    "packets",
    "archive",
    "deadletters",
    "database",
    "train",
    "evaluate",
    "models",
    "rescore",
    "bench",
    "chaos",
    "fuzz",
)

# What a user's input or surroundings can be guilty of: told in one line, without a traceback. By name,
# because importing them all would make `rayfinch --help` slow, and what is not imported was not raised.
KNOWN_ERRORS = (
    ("rayfinch.problems", "ConfigError"),
    ("rayfinch.embedded", "EmbeddedKafkaError"),
    ("rayfinch.replay", "ReplayError"),
    ("rayfinch.bench.kafka", "KafkaScriptError"),
    ("rayfinch.bench.driver", "StreamFailed"),
    ("rayfinch.chaos.cluster", "ClusterFailed"),
    ("broker.packets.survey", "PacketError"),
    ("broker.packets.schema", "SchemaMismatch"),
    ("broker.packets.survey", "SchemasUnavailable"),
    ("broker.database.engine", "DatabaseError"),
    ("broker.database.lease", "LeaseHeld"),
    ("broker.database.deadletters", "NoDeadLetter"),
    ("broker.archive.errors", "ArchiveError"),
    ("broker.publish.publisher", "PublishError"),
    ("broker.stream.source", "SourceError"),
    ("models.manifest", "ModelError"),
    ("models.folders", "RegistryError"),
    ("training.dataset", "DatasetError"),
    ("training.dataset", "DatasetError"),
    ("training.settings", "SettingsError"),
    ("sqlalchemy.exc", "OperationalError"),
    ("confluent_kafka", "KafkaException"),
)
FILES = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
USAGE = 2
INTERRUPTED = 130


class _Commands(typer.core.TyperGroup):
    """Subcommands by their files' names, imported when asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if find_spec(f"rayfinch.commands.{name}")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = import_module(f"rayfinch.commands.{cmd_name}")
        if isinstance(app := getattr(module, "app", None), typer.Typer):
            command: typer.core.TyperGroup | typer.core.TyperCommand = typer.main.get_group(app)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command(cmd_name)(getattr(module, cmd_name))
            command = typer.main.get_command(alone)  # type: ignore[assignment]  # one command: no group
        command.name = cmd_name
        return command


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(asked: bool) -> None:
    if asked:
        print(f"rayfinch {__version__}")
        raise typer.Exit


@app.callback()
def rayfinch(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Rayfinch, a community alert broker for time-domain astronomy.

    Reads a survey's packets from Kafka, classifies, keeps and publishes each of them, exactly once.

    Example: rayfinch demo
    """


def main() -> None:
    """Run the command line; a known error is one line on stderr and exit status 2."""
    try:
        app(prog_name="rayfinch")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # `rayfinch … | head`: the reader has what it wanted. Python would complain again at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not isinstance(error, tuple(_known())) or os.environ.get("RAYFINCH_TRACEBACK"):
            raise
        print(f"rayfinch: {sentence(error)}", file=sys.stderr)
        sys.exit(USAGE)


def sentence(error: Exception) -> str:
    """An error as one line, without the passwords that URLs in it may hold."""
    from rayfinch.masking import masked_text

    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    else:
        # SQLAlchemy wraps the driver's error and adds the statement and a link.
        text = str(getattr(error, "orig", None) or error) or type(error).__name__
    return masked_text(" ".join(text.split()))


def _known() -> list[type[Exception]]:
    loaded = (getattr(sys.modules.get(module), name, None) for module, name in KNOWN_ERRORS)
    return [*FILES, *(error for error in loaded if error is not None)]


if __name__ == "__main__":
    main()
