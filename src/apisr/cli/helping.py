"""How commands behave: flags without a type, three examples under each help, settings files, errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from apisr.cli import failures
from apisr.cli.output import make_streams_safe
from apisr.cli.settings import apply_settings
from apisr.core.errors import InputError

if TYPE_CHECKING:
    from typing import Any

HELP_OPTIONS = ("-h", "--help")


class Command(TyperCommand):
    """A command that takes its defaults from settings files and shows flags without ``<bool>``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, flags without a type."""
        return _without_flag_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line on top of what the settings files say."""
        if not ctx.resilient_parsing and not set(HELP_OPTIONS) & set(args):
            apply_settings(ctx, None)
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """A group of commands, in the same manner."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, flags without a type."""
        return _without_flag_types(super().get_params(ctx))


class Program(Group):
    """The whole program: errors become one line on standard error and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and exit; ``--debug`` anywhere on the line shows tracebacks.

        The error stays the cause of the :class:`SystemExit`, so that tests can match its code.
        """
        make_streams_safe()
        line = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in line
        line = [argument for argument in line if argument != "--debug"]
        try:
            _check_not_empty(line)
            code = super().main(line, "apisr", complete_var, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            raise SystemExit(failures.report(error, line)) from error
        sys.exit(code if isinstance(code, int) else 0)


def _check_not_empty(line: Sequence[str]) -> None:
    """Refuse an argument without letters, which as a path would mean the folder one is in.

    Raises:
        InputError: there is one.
    """
    for before, argument in zip(["apisr", *line], line, strict=False):
        if not argument.strip():
            raise InputError(
                f"the argument after '{before}' is empty (a variable of the shell that is not set?). "
                "Give a name, or '.' for this folder.",
                code="empty-argument",
            )


def examples(*lines: str) -> str:
    r"""Return the examples of a command as the text under its help.

    >>> examples("apisr doctor", "apisr doctor --json")
    'Examples:\n  apisr doctor\n  apisr doctor --json'
    """
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def show_help_when_alone(context: typer.Context) -> None:
    """Print the help of a group that was called without a command, and end with success."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters
