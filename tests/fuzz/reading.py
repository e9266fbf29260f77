"""Read a manifest, record, settings file, configuration or report as the commands do."""

from __future__ import annotations

from pathlib import Path

from apisr.curate.dataset import read_settings
from apisr.curate.decide import decide_by_machine
from apisr.curate.manifest import read_manifest
from apisr.curate.records import read_record
from apisr.curate.settings import load_settings
from apisr.evaluate import read_report
from apisr.evaluate.page import page


def read(name: str) -> str:
    """Read a file by what it is called, and say what was in it."""
    path = Path(name)
    if path.suffix == ".parquet":
        return f"{len(read_manifest(path.parent)[0])} rows"
    if path.suffix == ".toml":
        return f"{load_settings(config=path).count} frames"
    if path.name == "settings.json":
        return f"settings: {read_settings(path.parent) is not None}"
    if path.name == "report.json":
        return f"{len(page(read_report(path)))} letters"
    return f"{len(decide_by_machine([read_record(path)], load_settings()))} rows"
