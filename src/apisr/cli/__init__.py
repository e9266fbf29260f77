"""The command line: one file per command, which parses, calls and prints.

Commands are listed in :mod:`apisr.cli.commands` and loaded when the program starts. Their modules import nothing heavy
at the top (a test holds them to it); the work is imported inside the function. A command's module has a function or a
``typer.Typer`` called ``command``, and ``EXAMPLES`` for its help. Exit codes: see :mod:`apisr.cli.failures`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from apisr.cli.commands import COMMANDS
from apisr.core.version import __version__

if TYPE_CHECKING:
    from apisr.cli.helping import Program


def build() -> typer.Typer:
    """Build the command-line application with every command of :data:`apisr.cli.commands.COMMANDS`."""
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
    for name, module_name in COMMANDS.items():
        module = importlib.import_module(module_name)
        if isinstance(module.command, typer.Typer):
            app.add_typer(module.command, name=name, epilog=module.EXAMPLES)
        else:
            app.command(name, cls=Command, epilog=module.EXAMPLES)(module.command)
    return app


def program() -> Program:
    """Return the whole program as one command (what ``apisr`` runs, tests run and the documentation describes)."""
    from typing import cast

    return cast("Program", typer.main.get_command(build()))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    program().main(arguments)


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
