"""The command line: one file per command, parsing and printing only.

Commands are listed in :data:`COMMANDS` and loaded when the program starts; their modules may import
nothing heavy at the top (a test holds them to it), the work is imported inside the function.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from apisr import __version__
from apisr.core.errors import ApisrError

#: Command name -> module with a function or a ``typer.Typer`` called ``command``. The order is that of the help page.
COMMANDS = {
    "upscale": "apisr.cli.upscale",
    "curate": "apisr.cli.curate",
    "review": "apisr.cli.review",
    "enhance": "apisr.cli.enhance",
    "degrade": "apisr.cli.degrade",
    "train": "apisr.cli.train",
    "evaluate": "apisr.cli.evaluate",
    "table": "apisr.cli.table",
    "ablate": "apisr.cli.ablate",
    "models": "apisr.cli.models",
    "export": "apisr.cli.export",
    "doctor": "apisr.cli.doctor",
}


def build() -> typer.Typer:
    """Build the command-line application with every command of :data:`COMMANDS`."""
    app = typer.Typer(
        name="apisr",
        help="Restore and upscale anime: pictures and videos, from dataset to score.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, module_name in COMMANDS.items():
        command = importlib.import_module(module_name).command
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 complete success, 1 a failed run, 2 bad input, 130 stopped by the user. Errors are one line on
    standard error; ``--debug`` anywhere on the line shows the traceback instead.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = build()(args=given, prog_name="apisr", standalone_mode=False)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except ApisrError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:  # a usage error of the option parser, whichever package carries the parser
            _fail(f"{usage()} Try 'apisr --help'.".replace("\n", " "), int(getattr(error, "exit_code", 2)))
        if type(error).__name__ == "Abort":
            _fail("stopped", 130)
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (add --debug to see where)".replace("\n", " "), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"apisr {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
) -> None:
    """Take the options that stand before a command; `main` has taken ``--debug`` off the line already."""


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"apisr: error: {message}\n")
    sys.exit(code)
