"""Commands: from the start of the program to its end

`apisr upscale` with everything at its default (exact reuse, `--hold auto`, the engine's own choice, x265 or x264 as the
container wants), a process of its own, its start included: what a user's clock shows. "frames/s" is over the whole
process, "of the run" over the video alone, without start and loading; "computed" is the share of the pixels that went
through the network. "processor" is the processor time of the process for a frame, on all cores. Each command ran once
before, so that the choice of an engine and the compiled networks were in the cache.

"off / loop": no reuse, against a plain loop over the same engine in the same process (read a frame with OpenCV, whole
picture through the network, encode it, one thing after the other); they take turns, the best of each counts. We pass
each picture through the network with the rim that the network needs, so that its border is not darkened: 4 pixels for
both (3.5 % more work at 640x360; what of it the later layers do not need is not computed). "off / loop with rim" is
against a loop that does the same.

Tried, does not pay: two networks of one thread each, for two frames at the same time, in place of one of two threads:
.168 s of processor time a frame instead of .166 (apisr-x2-fast, pan, reuse off, in turns). Both cores are busy either
way, since decoding, the network and encoding have a thread of their own each.

The last rows are 1920x1080 to 3840x2160, every frame new and nothing reused.

Run: python -m benchmarks commands
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from apisr.engines import open_engine
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.tiles import rim_of
from apisr.weights import choose_model
from benchmarks import Skip
from benchmarks.video import CLIPS, plain_loop, run_clip, speed_of

MODELS = ("apisr-x2", "apisr-x2-fast")
#: Frames a second that a whole command shall reach with 640x360.
WANTED = {"apisr-x2": 12, "apisr-x2-fast": 24}
NAMES = ("talk/web", "returning/web", "grain/web", "episode/episode")
#: The fast network needs more frames for the same time: the start of a run is a part of ours.
LOOP_CLIP, LOOP_FRAMES, ROUNDS = "pan/web", {"apisr-x2": 12, "apisr-x2-fast": 48}, 2
LARGE_SIZE, LARGE_FRAMES = (1920, 1080), 6
HEADS = (
    *("what", "model", "frames", "frames/s", "of the run, frames/s", "computed %", "processor s a frame"),
    *("off / loop", "off / loop with rim", "peak MiB", "goal"),
)
#: Runs a command line and reports what it took: frames, seconds of the run, share computed, processor time, memory.
PROGRAM = """
import contextlib, io, json, os, sys
from pathlib import Path
from apisr.cli import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
    main()
result = json.loads(shown.getvalue())["files"][0]["result"]
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
reuse = result["reuse"]
spent = os.times()
print(json.dumps({
    "frames": result["frames_out"], "seconds": result["seconds"]["total"], "peak": peak,
    "computed": reuse["computed_px"] / reuse["total_px"], "processor": spent.user + spent.system,
}))
"""


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure the commands; one row each."""
    if not CLIPS.is_dir():
        raise Skip("the clips (../shared/data/clips) are not on this machine")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in MODELS[1:] if quick else MODELS:
            clips = NAMES[2:3] if quick else NAMES
            _command(CLIPS / f"{NAMES[2]}.mkv", folder, model, reuse="exact")
            rows += [_row(clip, model, _command(CLIPS / f"{clip}.mkv", folder, model, reuse="exact")) for clip in clips]
            rows.append(_against_loop(model, folder, 4 if quick else LOOP_FRAMES[model]))
        if not quick:
            large = _large_clip(folder / "large.mkv")
            rows += [_row("1080p to 4K, off", model, _command(large, folder, model, reuse="off")) for model in MODELS]
    return rows


def _command(source: Path, folder: Path, model: str, *, reuse: str) -> dict[str, float]:
    arguments = ["upscale", str(source), "-o", str(folder / "out.mkv"), "--model", model, "--reuse", reuse]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments, "--overwrite", "--json"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"wall": time.perf_counter() - began}


def _row(what: str, model: str, found: dict[str, float]) -> dict[str, object]:
    frames = found["frames"]
    return _filled(
        {
            "what": what,
            "model": model,
            "frames": int(frames),
            "frames/s": frames / found["wall"],
            "of the run, frames/s": frames / found["seconds"],
            "computed %": 100 * found["computed"],
            "processor s a frame": found["processor"] / frames,
            "peak MiB": found["peak"],
            "goal": _goal(frames / found["wall"], WANTED[model], unit=" frames/s")
            if "/" in what
            else _memory_goal(found),
        }
    )


def _memory_goal(found: dict[str, float]) -> str:
    return f"under 3000 MiB: {'met' if found['peak'] < 3000 else 'missed'}"


def _goal(found: float, wanted: float, *, unit: str = "") -> str:
    return f"{wanted:g}{unit}: {'met' if found >= wanted else 'missed'}"


def _filled(values: dict[str, object]) -> dict[str, object]:
    return {head: values.get(head) for head in HEADS}


def _against_loop(model: str, folder: Path, frames: int) -> dict[str, object]:
    """Reuse off against a plain loop, in turns."""
    engine = open_engine(choose_model(model), device="cpu")
    source, target = CLIPS / f"{LOOP_CLIP}.mkv", folder / "loop.mkv"
    plain_loop(source, target, engine, 1)
    run_clip(source, target, lambda: CanvasUpscaler(engine, reuse="off"), 1)
    loop = same = off = 0.0
    for _ in range(ROUNDS):
        loop = max(loop, plain_loop(source, target, engine, frames))
        same = max(same, plain_loop(source, target, engine, frames, rim_px=rim_of(engine.traits)))
        off = max(off, speed_of(run_clip(source, target, lambda: CanvasUpscaler(engine, reuse="off"), frames)))
    return _filled(
        {
            "what": f"{LOOP_CLIP}, off",
            "model": model,
            "frames": frames,
            "of the run, frames/s": off,
            "computed %": 100.0,
            "off / loop": off / loop,
            "off / loop with rim": off / same,
            "goal": _goal(off / loop, 0.98),
        }
    )


def _large_clip(target: Path) -> Path:
    """A pan over a large drawing, every frame new."""
    width, height = LARGE_SIZE
    with av.open(str(CLIPS / "pan" / "gt.mkv")) as container:
        frames = [
            frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), LARGE_FRAMES)
        ]
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", 24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(large), "rgb24")))
        out.mux(stream.encode(None))
    return target
