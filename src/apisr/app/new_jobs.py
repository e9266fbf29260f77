"""New jobs of files, and the results that are there already: made of the same file by the same settings."""

from __future__ import annotations

import secrets
from pathlib import Path

from apisr.app.store import Item, Job, Settings, Store
from apisr.app.worker_process import WorkerProcess
from apisr.core.errors import InputError


def job_of(item: Item, target: Path, settings: Settings) -> Job:
    """Return a job that waits.

    Args:
        item: the file.
        target: where the output goes.
        settings: what was chosen.
    """
    return Job(
        id=secrets.token_hex(8),
        item=item.id,
        name=item.name,
        kind=item.kind,
        source=item.path,
        target=target,
        settings=settings,
    )


async def made_before(store: Store, looker: WorkerProcess, item: Item, target: Path, settings: Settings) -> Path | None:
    """Return the output of an earlier run on a file with the same settings, by the rule of ``apisr upscale``.

    Args:
        store: where results lie.
        looker: reads the files.
        item: the file.
        target: the name of its output by default; outputs with a number behind it are looked at, too.
        settings: what was chosen.
    """
    existing = store.outputs_like(target)
    if not existing:
        return None
    arguments: dict[str, object] = {
        "source": str(item.path),
        "existing": [str(path) for path in existing],
        "settings": settings.model_dump(exclude_none=True),
    }
    try:
        made = (await looker.ask("made", arguments)).get("made")
    except InputError:
        return None  # the job itself says what is wrong
    return Path(str(made)) if made else None


def done_job(store: Store, item: Item, made: Path, settings: Settings) -> Job:
    """Return the job that shows a result: the one that made it, or a new one where that was taken off the list."""
    for job in store.state.jobs:
        if job.target == made and job.status == "done":
            return job
    store.id_of(made)
    job = job_of(item, made, settings)
    job.status = "done"
    job.log.append("it was made of this file with these settings before")
    return job
