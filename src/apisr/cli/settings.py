"""Settings files and profiles: defaults of options that are written down once.

``apisr.toml`` in the current folder goes before the one in the user's configuration folder; what is on the command line
goes before both. A file has one table for each command, and tables of profiles:

    profile = "mine"            # taken where no --profile is given

    [upscale]
    crf = 17
    hold = "strong"

    [profiles.mine.upscale]
    codec = "libx265"

Order, later wins: the program's defaults, the profile that a file names, the user's file, the folder's file,
``--profile``, the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import cast

import typer

from apisr.core.config import nearest, read_toml, read_toml_file, unknown_name
from apisr.core.errors import InputError

FILE_NAME = "apisr.toml"


@dataclass(frozen=True)
class Value:
    """One value with the place that it comes from."""

    value: object
    origin: str


@dataclass(frozen=True)
class Profile:
    """Options of a purpose.

    Attributes:
        description: one line.
        tables: command -> option -> value.
        origin: the file, or ``apisr`` for one that ships.
    """

    description: str
    tables: Mapping[str, Mapping[str, object]]
    origin: str


@dataclass(frozen=True)
class Settings:
    """What the settings files say.

    Attributes:
        tables: command -> option (as on the command line, without dashes) -> value.
        profiles: shipped ones and own ones.
        profile: name of the profile that a file chooses.
        files: the files that were read.
    """

    tables: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    profile: str | None = None
    files: tuple[Path, ...] = ()

    def chosen(self, profile: str | None) -> Profile | None:
        """Return a profile by its name, or the one that a file chooses.

        Raises:
            InputError: there is no such profile.
        """
        name = profile or self.profile
        if name is None:
            return None
        if name not in self.profiles:
            raise unknown_name("profile", name, list(self.profiles))
        return self.profiles[name]

    def values(self, command: str, *, profile: str | None = None) -> dict[str, Value]:
        """Return what is set for a command, with the origin of each value.

        Args:
            command: ``"upscale"``, ...
            profile: the name on the command line, if there is one.

        Raises:
            InputError: there is no such profile.
        """
        found = self.chosen(profile)
        of_profile: dict[str, Value] = {}
        if found is not None:
            origin = f"profile {profile or self.profile} ({found.origin})"
            of_profile = {name: Value(value, origin) for name, value in found.tables.get(command, {}).items()}
        of_files = dict(self.tables.get(command, {}))
        return of_files | of_profile if profile is not None else of_profile | of_files


def user_file() -> Path:
    """Return the settings file of the user (it need not exist)."""
    import platformdirs

    return Path(platformdirs.user_config_dir("apisr", appauthor=False)) / FILE_NAME


def read_settings(folder: Path | None = None) -> Settings:
    """Read the user's settings file and that of a folder (by default the current one).

    Raises:
        InputError: a file is not TOML, or has a table that is neither a command nor ``profiles``.
    """
    profiles = {name: _profile(name, table, "apisr") for name, table in _shipped().items()}
    tables: dict[str, dict[str, Value]] = {}
    chosen: str | None = None
    files: list[Path] = []
    for path in (user_file(), (folder or Path()) / FILE_NAME):
        if not path.is_file():
            continue
        files.append(path)
        for key, content in read_toml_file(path).items():
            if key == "profile" and isinstance(content, str):
                chosen = content
            elif key == "profiles" and isinstance(content, dict):
                own = cast("dict[str, object]", content)
                profiles |= {name: _profile(name, table, str(path)) for name, table in own.items()}
            else:
                values = _command_table(key, content, f"'{path}'")
                tables.setdefault(key, {}).update({name: Value(value, str(path)) for name, value in values.items()})
    return Settings(tables, profiles, chosen, tuple(files))


def apply_settings(context: typer.Context, profile: str | None) -> str | None:
    """Make what is set the defaults of a command (callback of ``--profile``, which is read before other options).

    Raises:
        InputError: an unknown profile, or a key that is no option of the command.
    """
    command = context.info_name or ""
    options = {
        option.lstrip("-"): parameter
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    defaults: dict[str, object] = {}
    for name, value in read_settings().values(command, profile=profile).items():
        key = name.replace("_", "-")
        if key not in options or key == "profile":
            near = nearest(key, list(options))
            hint = f" Did you mean '{near}'?" if near else f" See: apisr {command} --help"
            raise InputError(f"{value.origin}: 'apisr {command}' has no option '{name}'.{hint}", code="unknown-setting")
        parameter = options[key]
        defaults[parameter.name or key] = value.value
    context.default_map = {**(context.default_map or {}), **defaults}
    return profile


def _shipped() -> dict[str, object]:
    text = resources.files("apisr.cli").joinpath("profiles.toml").read_text(encoding="utf-8")
    return read_toml(text, name="the shipped profiles")


def _profile(name: str, table: object, origin: str) -> Profile:
    if not isinstance(table, dict):
        raise InputError(
            f"{origin}: expected the profile '{name}' as a table like [profiles.{name}.upscale], got {table!r}.",
            code="bad-profile",
        )
    entries = cast("dict[str, object]", table)
    description = entries.get("description", "")
    tables = {
        key: _command_table(key, content, f"{origin}, profile '{name}'")
        for key, content in entries.items()
        if key != "description"
    }
    return Profile(str(description), tables, origin)


def _command_table(name: str, content: object, where: str) -> Mapping[str, object]:
    from apisr.cli.commands import COMMANDS

    if name in COMMANDS and not isinstance(content, dict):
        raise InputError(f"{where}: '{name}' is not a table of options like crf = 17.", code="unknown-setting")
    if name not in COMMANDS:
        near = nearest(name, [*COMMANDS, "profile", "profiles"])
        hint = f" Did you mean '{near}'?" if near else " Tables have the names of commands: [upscale], [train], ..."
        raise InputError(f"{where}: unknown entry '{name}'.{hint}", code="unknown-setting")
    return cast("dict[str, object]", content)
