"""Options in groups: a command takes a few dataclasses, the user sees their fields as options.

A field is an option in typer's way, ``Annotated[type, typer.Option(...)] = default``. Groups are shared by commands, so
that an option has one name, one help text and one meaning everywhere:

    @dataclass(frozen=True)
    class Running:
        device: DeviceOption = "auto"

    @grouped
    def command(picture: Path, running: Running) -> None: ...     # apisr COMMAND PICTURE --device cpu
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import get_type_hints


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function whose parameters are those of `function` with every dataclass replaced by its fields.

    Raises:
        TypeError: two fields have one name.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = hints[parameter.name]
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            groups[parameter.name] = annotation
            parameters += _fields_as_parameters(annotation)
        else:
            parameters.append(
                parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY),
            )
    names = [parameter.name for parameter in parameters]
    if len(set(names)) != len(names):
        raise TypeError(f"two groups of options have a field of the same name: {sorted(names)}")

    @functools.wraps(function)
    def command(**values: object) -> None:
        filled = {name: _filled(group, values) for name, group in groups.items()}
        function(**values, **filled)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__  # the signature above is the one that counts
    return command


def _fields_as_parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for field in dataclasses.fields(group):
        annotation = hints[field.name]
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):  # a group of groups
            parameters += _fields_as_parameters(annotation)
            continue
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, kind, annotation=annotation, default=default))
    return parameters


def _filled(group: type, values: dict[str, object]) -> object:
    """Make a group of the values, which are taken out."""
    hints = get_type_hints(group, include_extras=True)
    content: dict[str, object] = {}
    for field in dataclasses.fields(group):
        inner = hints[field.name]
        nested = isinstance(inner, type) and dataclasses.is_dataclass(inner)
        content[field.name] = _filled(inner, values) if nested else values.pop(field.name)
    return group(**content)
