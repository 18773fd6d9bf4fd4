"""The `unmute` command: finds its sub-commands through entry points and imports only the one asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

from pydantic_settings import BaseSettings

from mesh.errors import MeshError
from mesh.secrets import name_hub_token
from mesh.settings import UsageError, load_settings

GROUP = "unmute.commands"
DISTRIBUTION = "unmute-mesh"


@dataclass(frozen=True, slots=True)
class Command:
    """One sub-command of `unmute`; its module must be light to import."""

    help: str
    """One line for `unmute --help`."""
    settings: type[BaseSettings]
    """Its flags and environment variables."""
    run: Callable[[Any], int]
    """Does it, with an instance of `settings`, and returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `unmute` with `argv` (default: the process's own) and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = "unmute"
    # gRPC's C core would write its own diary to stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        name_hub_token()
        match arguments:
            case [] | ["-h" | "--help", *_]:
                _print_help()
                return 0 if arguments else 2
            case ["--version", *_]:
                sys.stdout.write(f"unmute {_version()}\n")
                return 0
            case [command, *rest]:
                name = f"unmute {command}" if not command.startswith("-") else name
                return _run(command, rest)
        raise AssertionError("every list is matched")
    except UsageError as error:
        return _fail(name, str(error), 2)
    except MeshError as error:
        return _fail(name, error.message, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left: nothing more can be said to it.
        sys.stderr.close()
        return 141


def _run(name: str, arguments: list[str]) -> int:
    found = {point.name: point for point in _commands()}
    if name not in found:
        raise UsageError(f"no such {'flag' if name.startswith('-') else 'command'}: {name} (see unmute --help)")
    command = _load(found[name])
    try:
        settings = load_settings(command.settings, arguments, f"unmute {name}")
    except SystemExit as done:  # argparse printed --help
        return done.code if isinstance(done.code, int) else 0
    return command.run(settings)


def _commands() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _load(point: EntryPoint) -> Command:
    try:
        command = point.load()
    except ModuleNotFoundError as error:
        raise MeshError(f"the package {error.name!r} is not installed, which this command needs") from error
    if not isinstance(command, Command):
        raise MeshError(f"{point.value} is no mesh.cli.Command")
    return command


def _print_help() -> None:
    lines = ["usage: unmute COMMAND [flags]", "", "Real-time voice conversation with any text LLM.", "", "commands:"]
    for point in _commands():
        try:
            text = _load(point).help
        except MeshError as error:
            text = f"(not available: {error.message})"
        lines.append(f"  {point.name:<14}{text}")
    lines += ["", "`unmute COMMAND --help` shows a command's flags; `unmute --version` shows the version."]
    sys.stdout.write("\n".join(lines) + "\n")


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown (not installed)"


def _fail(name: str, message: str, code: int) -> int:
    sys.stderr.write(f"{name}: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
