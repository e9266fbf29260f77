"""``apisr table``: the paper's tables beside measured reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apisr.cli.helping import examples

EXAMPLES = examples(
    "apisr table 1                          the paper's table 1",
    "apisr table 1 report                   beside a report of apisr evaluate",
    "apisr table 3 runs/a/report runs/b/report",
)


def command(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=4, help="Which table of the paper.")],
    reports: Annotated[
        list[Path] | None,
        typer.Argument(metavar="REPORT", help="Reports of apisr evaluate to put beside it: folders or report.json."),
    ] = None,
) -> None:
    """Print a table of the paper, and beside it what was measured on the given data."""
    from apisr.cli.output import say, say_lines
    from apisr.cli.parsers import expand
    from apisr.evaluate import read_report
    from apisr.evaluate.tables import measured_table, paper_table

    say_lines(paper_table(number))
    say()
    read = [(path, read_report(path)) for path in expand(reports or [])]
    say_lines(
        measured_table([(path.name if report.model is None else report.model.name, report) for path, report in read])
    )
