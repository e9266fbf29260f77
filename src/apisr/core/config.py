r"""Settings in TOML: files, presets, and errors that name the key and its nearest neighbour.

>>> nearest("stpes", ["steps", "seed"])
'steps'
>>> write_toml({"run": {"steps": 3}})
'[run]\nsteps = 3\n'
>>> read_toml("[run]\nsteps = 3", name="example")
{'run': {'steps': 3}}
"""

from __future__ import annotations

import difflib
import errno
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from apisr.core.errors import InputError
from apisr.core.files import read_plain
from apisr.core.text import printable

if TYPE_CHECKING:
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)

#: A configuration is a page of text; more than this is another kind of file.
MAX_TOML_BYTES = 4 << 20
#: Longer keys are cut in messages.
MAX_KEY_LETTERS = 200


def nearest(name: str, choices: Collection[str], *, cutoff: float = 0.5) -> str | None:
    """Return the choice that a mistyped name most likely means, or None."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=cutoff)
    return found[0] if found else None


def unknown_name(kind: str, name: str, choices: Collection[str], *, code: str | None = None) -> InputError:
    """Return the error for a name that does not exist, with the nearest that does.

    >>> str(unknown_name("preset", "papr", ["paper", "reference"]))
    "there is no preset 'papr'. Did you mean 'paper'? There are: paper, reference."
    """
    near = nearest(name, choices)
    hint = f" Did you mean '{near}'?" if near else ""
    listed = ", ".join(sorted(choices))
    return InputError(f"there is no {kind} '{name}'.{hint} There are: {listed}.", code=code or f"unknown-{kind}")


def read_toml(text: str, *, name: str) -> dict[str, object]:
    """Parse TOML.

    Args:
        text: the content.
        name: what it is, for messages: ``"'my.toml'"``.

    Raises:
        InputError: it is not TOML, or nested deeper than any configuration.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # not only TOMLDecodeError: a number of 5,000 digits, say
        why = str(error).partition(";")[0]
        raise InputError(f"{name} is not valid TOML: {why}.", code="bad-toml") from error
    except RecursionError:
        raise InputError(f"{name} is nested too deeply for a configuration.", code="bad-toml") from None


def read_toml_file(path: Path) -> dict[str, object]:
    """Read a TOML file.

    Raises:
        InputError: it cannot be read, is not UTF-8 text, or is not TOML.
    """
    try:
        text = read_plain(path, at_most=MAX_TOML_BYTES).decode("utf-8")
    except OSError as error:
        if error.errno == errno.EFBIG:
            size = MAX_TOML_BYTES >> 20
            raise InputError(f"'{path}' is too large for a configuration ({size} MB).", code="bad-toml") from error
        raise InputError(f"cannot read '{path}': {error.strerror or error}.", code="cannot-read") from error
    except UnicodeDecodeError:
        raise InputError(f"'{path}' is not a text file in UTF-8. Give a TOML file.", code="bad-toml") from None
    return read_toml(text, name=f"'{path}'")


def write_toml(values: Mapping[str, object]) -> str:
    """Return values as TOML text; keys whose value is None are left out."""
    import tomli_w

    return tomli_w.dumps(_without_none(values))


@dataclass(frozen=True)
class Presets:
    """The presets of a command: TOML files in a package's folder ``presets``.

    Attributes:
        package: the package that holds the folder, for example ``"apisr.train"``.
        kind: what a preset is called in messages.
    """

    package: str
    kind: str = "preset"

    def names(self) -> list[str]:
        """Return the names of all presets in alphabetical order."""
        folder = resources.files(self.package).joinpath("presets")
        return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))

    def text(self, name: str) -> str:
        """Return the text of a preset.

        Raises:
            InputError: there is no such preset; the message names the nearest.
        """
        if name not in self.names():
            raise unknown_name(self.kind, name, self.names(), code="unknown-preset")
        return resources.files(self.package).joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")

    def load(self, name: str) -> dict[str, object]:
        """Return the values of a preset; errors as in :meth:`text`."""
        return read_toml(self.text(name), name=f"the {self.kind} '{name}'")


def validated(model: type[M], values: Mapping[str, object], *, name: str) -> M:
    """Return values as a pydantic model.

    Args:
        model: its fields are the known keys.
        values: nested values.
        name: where they come from, for messages.

    Raises:
        InputError: the first problem, as one line with the key, and the nearest known key for one that is unknown.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(_first_problem(model, error, name), code="bad-setting") from error
    except RecursionError:
        raise InputError(f"{name} is nested too deeply for a configuration.", code="bad-toml") from None


def _first_problem(model: type[BaseModel], error: ValidationError, name: str) -> str:
    problems = error.errors(include_url=False)
    # A mistyped key is also a missing one: the key that is there says more.
    problem = next((entry for entry in problems if entry["type"] == "extra_forbidden"), problems[0])
    key = printable(".".join(str(part) for part in problem["loc"]))[:MAX_KEY_LETTERS]
    if problem["type"] == "extra_forbidden":
        near = nearest(str(problem["loc"][-1]), sorted(_all_keys(model)))
        return f"{name}: unknown key '{key}'." + (f" Did you mean '{near}'?" if near else "")
    reason = printable(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{name}: {key}: {reason}." if key else f"{name}: {reason}."


def _all_keys(model: type[BaseModel]) -> set[str]:
    from pydantic import BaseModel

    keys: set[str] = set()
    for name, field in model.model_fields.items():
        keys.add(field.alias or name)
        items: tuple[object, ...] = getattr(field.annotation, "__args__", ())
        for inner in (field.annotation, *items):  # a section, or a list of sections
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys |= _all_keys(inner)
    return keys


def _without_none(values: Mapping[str, object]) -> dict[str, object]:
    kept: dict[str, object] = {}
    for key, value in values.items():
        if value is None:
            continue
        kept[key] = _without_none(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownArgumentType]
    return kept


if TYPE_CHECKING:
    from pydantic import ValidationError
