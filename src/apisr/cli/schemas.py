"""What ``apisr models``, ``config`` and ``doctor`` print with ``--json``: plain tables, described here as types.

The other commands print result models of the package. The documentation shows the schemas of both.

    >>> from pydantic import TypeAdapter
    >>> sorted(TypeAdapter(ModelRow).json_schema()["required"])[:3]
    ['default', 'for', 'kflop_per_pixel']
"""

from __future__ import annotations

from pydantic import ConfigDict, JsonValue, with_config
from typing_extensions import TypedDict

_EXACT = ConfigDict(extra="forbid")

ModelRow = with_config(_EXACT)(
    TypedDict(
        "ModelRow",
        {
            "name": str,
            "default": bool,
            "scale": int | None,
            "for": str,
            "parameters": int | None,
            "kflop_per_pixel": float | None,
            "license": str | None,
            "where": str,
        },
    )
)


@with_config(_EXACT)
class SettingRow(TypedDict):
    """One value in force, and the file or profile that it comes from."""

    value: JsonValue
    origin: str


@with_config(_EXACT)
class ProfileRow(TypedDict):
    """One profile, and where it is written."""

    description: str
    origin: str


@with_config(_EXACT)
class SettingsReport(TypedDict):
    """What ``apisr config`` prints: files that were read, values by command and option, profiles by name."""

    files: list[str]
    values: dict[str, dict[str, SettingRow]]
    profiles: dict[str, ProfileRow]


Machine = with_config(_EXACT)(
    TypedDict(
        "Machine",
        {
            "system": dict[str, str | int],
            "packages": dict[str, str],
            "devices": dict[str, str],
            "models": dict[str, str],
            "video encoders": dict[str, str],
            "picture formats": dict[str, str],
        },
    )
)
