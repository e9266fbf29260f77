"""``apisr ablate``: the paper's tables 2 to 4 as runs, and its parts left out one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.parsers import names

if TYPE_CHECKING:
    from apisr.evaluate.ablate import Stages
    from apisr.evaluate.options import EvaluateOptions

EXAMPLES = examples(
    "apisr ablate parts --pictures low --reference high --smoke",
    "apisr ablate degradation --pictures low --reference high -o runs/degradation",
    "apisr ablate dataset --pictures low --dataset ica=shards/ica --dataset random=shards/random",
)


@dataclass(frozen=True)
class Training:
    """How the variants are trained."""

    stage1: Annotated[str, typer.Option(help="First stage: a preset or a TOML file of apisr train.")] = "paper-stage1"
    stage2: Annotated[str, typer.Option(help="Second stage, or 'none'.")] = "paper-stage2"
    start: Annotated[
        Path | None,
        typer.Option(help="Weights for the second stage to start from; there is then no first stage."),
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="For all runs, e.g. run.steps=20000. May be repeated."),
    ] = None
    smoke: Annotated[
        bool, typer.Option("--smoke", help="20 steps of the smallest network on a processor: shows that it runs.")
    ] = False

    def stages(self) -> Stages:
        """Return the stages of every variant."""
        from apisr.evaluate.ablate import Stages

        if self.smoke:
            return Stages.smoke(self.sets or [])
        second = None if self.stage2 == "none" else self.stage2
        return Stages(self.stage1, second, self.start, tuple(self.sets or []))


@dataclass(frozen=True)
class Measuring:
    """How the variants are scored."""

    metrics: Annotated[str | None, typer.Option(help="Names with commas; by default those of the protocol.")] = None
    protocol: Annotated[Literal["deterministic", "paper"], typer.Option(help="As of apisr evaluate.")] = "paper"
    layout: Annotated[Literal["pictures", "clips", "avc-reallq"], typer.Option(help="As of apisr evaluate.")] = (
        "pictures"
    )

    def options(self) -> EvaluateOptions:
        """Return the library's options."""
        from apisr.evaluate.options import EvaluateOptions

        metrics = None if self.metrics is None else names(self.metrics)
        return EvaluateOptions(metrics=metrics, protocol=self.protocol, layout=self.layout)


@grouped
def command(
    ablation: Annotated[
        Literal["dataset", "degradation", "enhancement", "parts"],
        typer.Argument(
            metavar="ABLATION",
            help="dataset, degradation or enhancement: table 2, 3 or 4 of the paper; parts: each part left out, on "
            "a small budget.",
        ),
    ],
    pictures: Annotated[
        list[Path], typer.Option("--pictures", help="Low-resolution pictures or clips to evaluate on. May be repeated.")
    ],
    training: Training,
    measuring: Measuring,
    reference: Annotated[Path | None, typer.Option(help="Ground truth of those pictures.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the runs and reports.")] = Path(
        "runs/ablation"
    ),
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="Training sets of the ablation dataset: avc-train, random, iqa, ica, ica-720p. May be repeated.",
        ),
    ] = None,
) -> None:
    """Train every variant of an ablation, evaluate it, and print the paper's table and ours.

    Stop it at any time; the same command goes on.
    """
    from apisr.cli.output import note, say, say_lines
    from apisr.cli.parsers import expand
    from apisr.core.memory import keep_freed_memory
    from apisr.evaluate.ablate import TABLE_OF, ablate
    from apisr.evaluate.tables import measured_table, paper_table

    keep_freed_memory()
    result = ablate(
        ablation,
        output,
        pictures=expand(pictures),
        reference=reference,
        stages=training.stages(),
        datasets=_folders(dataset or []),
        options=measuring.options(),
        progress=lambda event: note(event.message),
    )
    if ablation in TABLE_OF:
        say_lines(paper_table(TABLE_OF[ablation]))
        say()
    say_lines(measured_table(list(result.reports.items())))
    for name, reason in result.missing.items():
        say(f"{name}: not run, {reason}")
    if training.smoke:
        say("A smoke run: the numbers say nothing about the variants.")


def _folders(entries: list[str]) -> dict[str, Path]:
    from apisr.core.errors import InputError

    folders: dict[str, Path] = {}
    for entry in entries:
        name, equals, folder = entry.partition("=")
        if not equals:
            raise InputError(f"expected --dataset NAME=FOLDER, got '{entry}'.", code="bad-option")
        folders[name] = Path(folder)
    return folders
