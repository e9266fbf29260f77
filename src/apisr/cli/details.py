"""The internals of a run, for ``--verbose``: engines, stages, what was held and what was computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apisr.cli.output import duration
from apisr.core.text import counted

if TYPE_CHECKING:
    from apisr.upscale.models import Networks
    from apisr.upscale.results import HoldStats, PictureResult, ReuseStats, RunReport, VideoResult


def run_details(report: RunReport, networks: Networks) -> list[str]:
    """Return the internals of a run, one line each: the networks, then file by file."""
    lines = [f"network: {name}" for name in networks.engine_names()]
    for result in (job.result for job in report.files if job.result is not None):
        lines.append(f"{result.source}:")
        lines += [f"    {line}" for line in _of_file(result)]
    return lines


def _of_file(result: PictureResult | VideoResult) -> list[str]:
    sizes = f"{result.size[0]}x{result.size[1]} -> {result.output_size[0]}x{result.output_size[1]}"
    if result.kind == "picture":
        return [f"{result.model}, {sizes}, {counted(result.frames, 'frame')}"]
    spent = result.seconds
    stages = ", ".join(
        f"{name} {duration(seconds)}"
        for name, seconds in (
            ("decode", spent.decode),
            ("upscale", spent.upscale),
            ("encode", spent.encode),
            ("join", spent.join),
        )
    )
    lines = [
        f"{result.model}, {sizes}, {counted(result.frames_out, 'frame')}, {result.size_bytes / 1e6:.1f} MB",
        f"busy: {stages}; by the clock {duration(spent.total)}",
        _reuse_line(result.reuse),
    ]
    if result.resumed_frames:
        lines.append(f"made by an earlier run: {counted(result.resumed_frames, 'frame')}")
    if result.hold is not None and result.hold.blocks:
        lines.append(_hold_line(result.hold))
    return lines


def _reuse_line(reuse: ReuseStats) -> str:
    changed = reuse.changed_px / reuse.total_px if reuse.total_px else 0.0
    return (
        f"reuse: {100 * reuse.computed_share:.1f} % of the picture area computed, {100 * changed:.1f} % could differ, "
        f"{reuse.whole_frames} of {counted(reuse.frames, 'frame')} delivered again"
    )


def _hold_line(hold: HoldStats) -> str:
    return (
        f"hold filter: {100 * hold.held_blocks / hold.blocks:.1f} % of the blocks held, {hold.whole_frames} of "
        f"{counted(hold.frames, 'frame')} whole, {counted(hold.shots, 'shot')}"
    )
