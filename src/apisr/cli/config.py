"""``apisr config``: which settings files there are, and where each value comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from apisr.cli.commands import COMMANDS
from apisr.cli.completing import profiles, words
from apisr.cli.helping import examples
from apisr.cli.options import JsonOption

EXAMPLES = examples(
    "apisr config                     files, values and profiles",
    "apisr config --profile dvd       what a profile sets",
    "apisr config --json",
)


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND", help="Only this command.", show_default=False, autocompletion=words(tuple(COMMANDS))
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="NAME", help="As if it were given.", show_default=False, autocompletion=profiles
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the settings that are in force: each value with the file or profile that it comes from.

    Settings are read from apisr.toml in the current folder and in the user's configuration folder.
    """
    from apisr.cli.output import say, say_json
    from apisr.cli.settings import read_settings, user_file
    from apisr.core.config import unknown_name

    if name is not None and name not in COMMANDS:
        raise unknown_name("command", name, list(COMMANDS))
    settings = read_settings()
    values = {
        command: settings.values(command, profile=profile) for command in ([name] if name is not None else COMMANDS)
    }
    if as_json:
        say_json(
            {
                "files": [str(path) for path in settings.files],
                "values": {
                    command: {key: {"value": value.value, "origin": value.origin} for key, value in table.items()}
                    for command, table in values.items()
                    if table
                },
                "profiles": {
                    key: {"description": found.description, "origin": found.origin}
                    for key, found in settings.profiles.items()
                },
            }
        )
        return
    say(f"user's file: {user_file()}" + ("" if user_file() in settings.files else " (not there)"))
    say(f"this folder's file: {'apisr.toml' if len(settings.files) > (user_file() in settings.files) else 'none'}")
    for command, table in values.items():
        for key, value in table.items():
            say(f"{command} --{key} {value.value}    {value.origin}")
    say("profiles:")
    for key, found in settings.profiles.items():
        say(f"  {key:<10} {found.description}" + ("" if found.origin == "apisr" else f" ({found.origin})"))
