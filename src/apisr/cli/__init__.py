"""The command line: one file per command, which parses, calls and prints.

Commands are listed in :mod:`apisr.cli.commands`; the one that is called is loaded, all of them for the help. Their
modules import nothing heavy at the top (a test holds them to it); the work is imported inside the function. A
command's module has a function or a ``typer.Typer`` called ``command``, and ``EXAMPLES`` for its help. Exit codes: see
:mod:`apisr.cli.failures`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from apisr.cli.commands import COMMANDS
from apisr.core.processes import loading, stopping_cleanly
from apisr.core.stderr import fill_closed_streams
from apisr.core.version import __version__

if TYPE_CHECKING:
    from apisr.cli.helping import Program


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Build the command-line application.

    Args:
        names: commands that it has, by default all of :data:`apisr.cli.commands.COMMANDS`.
    """
    from apisr.cli.helping import HELP_OPTIONS, Command, Program

    app = typer.Typer(
        name="apisr",
        cls=Program,
        help="Restore and upscale anime: pictures and videos, from dataset to score.",
        invoke_without_command=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": list(HELP_OPTIONS)},
    )
    app.callback(invoke_without_command=True)(_root)
    for name in names:
        module = importlib.import_module(COMMANDS[name])
        if isinstance(module.command, typer.Typer):
            app.add_typer(module.command, name=name, epilog=module.EXAMPLES)
        else:
            app.command(name, cls=Command, epilog=module.EXAMPLES)(module.command)
    return app


def program(names: Iterable[str] = COMMANDS) -> Program:
    """Return the program as one command (what ``apisr`` runs, tests run and the documentation describes)."""
    from typing import cast

    return cast("Program", typer.main.get_command(build(names)))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    fill_closed_streams()
    line = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in line if not word.startswith("-")), "")
    with loading():
        command = program([called] if called in COMMANDS else COMMANDS)
    with stopping_cleanly():
        command.main(line)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"apisr {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
) -> None:
    """Take the options that stand before a command; `Program` has taken ``--debug`` off the line already."""
    from apisr.cli.helping import show_help_when_alone

    show_help_when_alone(context)
