"""HTML pages from the templates of a package: every value is escaped, and can be seen and encoded whatever it holds.

Templates lie in the folder ``templates`` of the package.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from apisr.core.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(package: str, template: str, **values: object) -> str:
    """Fill in a template.

    Args:
        package: whose template it is: ``"apisr.curate"``.
        template: name of the file in its folder ``templates``.
        values: what the template shows.
    """
    return _environment(package).get_template(template).render(**values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
