"""The table of commands. A new command is one file and one entry here."""

from __future__ import annotations

#: Command name -> module. The order is that of the help page.
COMMANDS = {
    "upscale": "apisr.cli.upscale",
    "watch": "apisr.cli.watch",
    "app": "apisr.cli.app",
    "curate": "apisr.cli.curate",
    "review": "apisr.cli.review",
    "enhance": "apisr.cli.enhance",
    "degrade": "apisr.cli.degrade",
    "shards": "apisr.cli.shards",
    "train": "apisr.cli.train",
    "evaluate": "apisr.cli.evaluate",
    "table": "apisr.cli.table",
    "ablate": "apisr.cli.ablate",
    "models": "apisr.cli.models",
    "export": "apisr.cli.export",
    "config": "apisr.cli.config",
    "doctor": "apisr.cli.doctor",
}
