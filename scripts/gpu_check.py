"""Check a machine with a graphics card in one command, without a network: engines, speed, a video, a slice of training.

    python scripts/gpu_check.py OUT                          # everything, about 10 minutes
    python scripts/gpu_check.py OUT --wheels wheels/         # packages that the machine lacks, as wheels
    python scripts/gpu_check.py OUT --quick                  # a dry run on the processor, a few minutes
    python scripts/gpu_check.py OUT --only engines --only video

Every step is a process of its own with a time limit; one that fails or runs over does not stop the others, and one
whose package is missing is left out. All of it ends after `--seconds`; the same command goes on where it stopped: steps
that succeeded are not run again (`--again` runs all). OUT gets the output of each step, `summary.json` and `summary.md`
with the card, its driver, the versions and the date: what docs/benchmarks.md says of a card comes from there; they are
written after every step. OUT/work holds what the steps need, and goes when all have succeeded. The exit code is 0 only
if every step succeeded.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("apisr", "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "av", "numpy")
#: A clip of this size is made and upscaled, for so many frames.
CLIP_SIZE, CLIP_FRAMES, QUICK_SIZE, QUICK_FRAMES = (1920, 1080), 48, (320, 180), 6
#: A call ends after so many seconds unless it is told otherwise; a step is not begun with less left than this.
TOTAL_SECONDS, LEAST_SECONDS = 580.0, 10.0
#: Step -> the package without which it is left out.
NEEDS = {"engines": "pytest", "networks": "torch", "training": "torch"}

#: Every network on every device that is no processor, on a frame of so many lines: frames a second, PSNR against fp32
#: of the processor, peak memory where torch knows it. Without such a device the processor is measured, for a dry run.
CARD_PROGRAM = """
import sys, time
import numpy as np
from apisr.core.errors import ApisrError
from apisr.engines.base import probe_picture, psnr_db
from apisr.engines.pixels import run_pixels
from apisr.engines.registry import candidate_requests, open_engine
from apisr.weights import list_models

lines = int(sys.argv[1])
for model in list_models():
    if model.name.endswith("-vivid"):
        continue
    small = probe_picture(64, 64)
    exact = open_engine(model, engine="onnx", device="cpu", precision="fp32").run(small)
    found = list(candidate_requests(model, engine="auto", device="auto", precision="auto", threads=None, every=True))
    cards = [one for one in found if one[1].device not in ("cpu", "tensorrt")]
    cards = [one for one in cards if "(software)" not in one[0].devices()[one[1].device]]
    for kind, request in cards or found[:1]:
        name = f"{model.name} {kind.name} {request.device} {request.precision}"
        try:
            engine = kind.open(request)
            close = psnr_db(engine.run(small), exact)
            side = lines if model.architecture in ("compact", "lite") else lines // 4
            shape = (side // 8 * 8, side * 16 // 9 // 8 * 8, 3)
            frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            run_pixels(engine, frame)
            best = float("inf")
            for _ in range(3):
                start = time.perf_counter()
                run_pixels(engine, frame)
                best = min(best, time.perf_counter() - start)
            size = f"{frame.shape[1]}x{frame.shape[0]}"
            sys.stdout.write(f"{name}: {1 / best:.2f} frames/s at {size}, {close:.1f} dB\\n")
        except ApisrError as error:
            sys.stdout.write(f"{name}: {error}\\n")
        sys.stdout.flush()
"""


@dataclass
class Step:
    """One step and what became of it.

    Attributes:
        name: of the step and of its output file.
        command: what is run.
        limit_s: after so long it is stopped.
        seconds: how long it took.
        result: ``"ok"``, ``"failed (N)"``, ``"stopped"``, ``"not run"`` or ``"left out"``.
        figures: numbers that it found.
    """

    name: str
    command: list[str]
    limit_s: float
    seconds: float = 0.0
    result: str = "not run"
    figures: str = ""


def main() -> int:
    """Run the steps and write the summary; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for what is found")
    parser.add_argument("--device", default=None, help="device of torch and of the video; by default the card")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first")
    parser.add_argument("--quick", action="store_true", help="short steps, for a dry run on the processor")
    parser.add_argument("--again", action="store_true", help="run steps again that succeeded before")
    parser.add_argument("--only", action="append", metavar="STEP", help="these steps only; may be repeated")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="end after so long, the rest next time")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    output: Path = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if options.wheels is not None:
        install(options.wheels)
    size, frames = (QUICK_SIZE, QUICK_FRAMES) if options.quick else (CLIP_SIZE, CLIP_FRAMES)
    steps = planned(output, options.device or found_device(), quick=options.quick)
    names = [step.name for step in steps]
    unknown = sorted(set(options.only or []) - set(names))
    if unknown:
        parser.error(f"there is no step '{unknown[0]}'. There are: {', '.join(names)}.")
    before = {} if options.again else succeeded(output)
    chosen = [step for step in steps if not options.only or step.name in options.only]
    for number, step in enumerate(steps):
        kept = before.get(step.name)
        if kept is not None and kept.command == step.command:
            steps[number] = kept
            sys.stdout.write(f"{step.name}: done before, {kept.seconds} s. {kept.figures}\n")
    waiting = [step for step in steps if step in chosen and step.result != "ok"]
    if waiting:
        make_inputs(output / "work", size, frames)
    for step in waiting:
        run(step, output, left_s=end - time.monotonic())
        write_summary(steps, output)
    if all(step.result == "ok" for step in steps):
        shutil.rmtree(output / "work", ignore_errors=True)
    return int(any(step.result != "ok" for step in waiting))


def install(folder: Path) -> None:
    """Install, of the wheels in a folder, those of packages that are missing here: a torch that knows the card stays.

    One that does not suit this Python is named and does not stop the others.
    """
    carried = {path.name.split("-")[0].replace("_", "-").lower() for path in folder.glob("*.whl")}
    here = {str(found.name).replace("_", "-").lower() for found in importlib.metadata.distributions()}
    for name in sorted(carried - here):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--find-links"]
        done = subprocess.run([*command, str(folder), name], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stdout.write(f"{name} was not installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}\n")
    importlib.invalidate_caches()


def succeeded(output: Path) -> dict[str, Step]:
    """Return the steps of an earlier run into this folder that succeeded, by their names."""
    try:
        steps = json.loads((output / "summary.json").read_text(encoding="utf-8"))["steps"]
        found = [Step(**step) for step in steps]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {step.name: step for step in found if step.result == "ok"}


def found_device() -> str:
    """Return ``cuda`` where torch can use it, else ``cpu``."""
    if importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def planned(output: Path, device: str, *, quick: bool) -> list[Step]:
    """Return the steps in their order."""
    python = sys.executable
    work = output / "work"
    clip, pictures = clip_of(work, QUICK_SIZE if quick else CLIP_SIZE), work / "pictures"
    limit = 540.0 if quick else 150.0  # a processor needs longer, a busy one more so
    seconds = 20 if quick else 110
    upscale = [python, "-m", "apisr", "upscale", str(clip), "-o", str(work / "big.mkv"), "--overwrite", "--json"]
    train = [
        *(python, "-m", "apisr", "train", "apisr-x4-fast", "--json"),
        *("--set", f"data.folders={json.dumps([str(pictures)])}", "--set", f"run.max_seconds={seconds}"),
        *("--set", f"run.folder={json.dumps(str(work / 'runs'))}", "--set", f"run.steps={10 if quick else 2000}"),
    ]
    tests = ["tests/test_engines.py", "tests/test_engines_choice.py"]
    return [
        Step(
            "engines",
            [python, "-m", "pytest", "-q", *tests, *(["-k", "repeat or whole_numbers"] if quick else [])],
            limit,
        ),
        Step("doctor", [python, "-m", "apisr", "doctor", "--benchmark", "--json"], limit),
        Step("card", [python, "-c", CARD_PROGRAM, "256" if quick else "1080"], limit),
        Step("networks", [python, "-m", "benchmarks", "engines", "--dry-run", *(["--quick"] if quick else [])], limit),
        Step("video", [*upscale, "--device", device, "--reuse", "off"], limit),
        Step("training", train, limit),
    ]


def clip_of(work: Path, size: tuple[int, int]) -> Path:
    """Return the place of the clip of a size."""
    return work / f"clip-{size[0]}x{size[1]}.mkv"


def make_inputs(work: Path, size: tuple[int, int], frames: int) -> None:
    """Draw a clip whose every frame is new (nothing can be reused) and some pictures to train on."""
    import av
    import cv2
    import numpy as np

    width, height = size
    clip, pictures = clip_of(work, size), work / "pictures"
    if clip.exists():
        return
    pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    drawing = np.full((height, width + 8 * frames, 3), 200, np.uint8)
    for _ in range(60):
        corners = rng.integers(0, (drawing.shape[1], height), (5, 1, 2)).astype(np.int32)
        cv2.fillPoly(drawing, [corners], [int(v) for v in rng.integers(40, 255, 3)], cv2.LINE_AA)
        cv2.polylines(drawing, [corners], True, (25, 20, 30), 2, cv2.LINE_AA)
    partial = clip.with_name(f"partial-{clip.name}")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", 24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = np.ascontiguousarray(drawing[:, 8 * number : 8 * number + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    for number in range(8):
        left = int(rng.integers(0, drawing.shape[1] - width + 1))
        enlarged = cv2.resize(drawing[:, left : left + width], (1280, 720), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(pictures / f"{number}.png"), enlarged)
    partial.replace(clip)


def run(step: Step, output: Path, *, left_s: float) -> None:
    """Run a step in its limit, or in what is left of the call; its output goes into a file."""
    needed = NEEDS.get(step.name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        step.result, step.figures = "left out", f"{needed} is not installed"
        sys.stdout.write(f"{step.name}: {step.result}, {step.figures}.\n")
        return
    if left_s < LEAST_SECONDS:
        sys.stdout.write(f"{step.name}: no time is left; run the same command again.\n")
        return
    limit_s = min(step.limit_s, left_s)
    sys.stdout.write(f"{step.name}: at most {limit_s:.0f} s ... ")
    sys.stdout.flush()
    work = output / "work"
    environment = {**os.environ, "APISR_CACHE": str(work / "cache"), "PYTHONPATH": str(ROOT / "src")}
    environment.pop("PYTEST_ADDOPTS", None)  # a floor of coverage, for instance, is for the whole suite
    if step.name == "training":
        shutil.rmtree(work / "runs", ignore_errors=True)  # of a slice that was stopped: it is measured from its start
    start = time.monotonic()
    with (output / f"{step.name}.txt").open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            step.command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
            step.result = "ok" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            step.result = "stopped"
        finally:
            end_group(process)
    step.seconds = round(time.monotonic() - start, 1)
    step.figures = figures(step, (output / f"{step.name}.txt").read_text(encoding="utf-8", errors="replace"))
    sys.stdout.write(f"{step.result}, {step.seconds} s. {step.figures}\n")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started, if they still run."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


def figures(step: Step, text: str) -> str:
    """Return the numbers of a step in one line."""
    lines = [line for line in text.splitlines() if line.strip()]
    if step.name == "engines" and lines:
        return lines[-1].strip("= ")
    if step.name == "card" and lines:
        return "; ".join(lines)
    if step.name == "doctor" and step.result == "ok":
        rows = json.loads(text)["rows"]
        best = rows[0]
        return f"{best['engine']} {best['device']} {best['precision']}: {best['frames_per_s']} frames/s at 640x360"
    if step.name == "video" and step.result == "ok":
        frames = QUICK_FRAMES if f"{QUICK_SIZE[0]}x" in text else CLIP_FRAMES
        return f"about {frames / step.seconds:.2f} frames/s of the whole command"
    if step.name == "networks" and step.result == "ok":
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
        return "; ".join(f"{' '.join(row[:5])}: {row[-2]} frames/s" for row in rows[1:] if len(row) > 6)
    if step.name == "training" and step.result == "ok":
        speeds = re.findall(r"[\d.]+ it/s", text)
        done = re.findall(r'"step": *(\d+)', text)[-1]
        return f"{done} steps" + (f", {speeds[-1]}" if speeds else "")
    return ""


def write_summary(steps: list[Step], output: Path) -> None:
    """Write what was found as JSON and as a table."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "card": card(),
        "processor threads": os.cpu_count(),
        "versions": versions,
    }
    content = {"machine": machine, "steps": [asdict(step) for step in steps]}
    (output / "summary.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    rows = [f"| {step.name} | {step.result} | {step.seconds} | {step.figures} |" for step in steps]
    table = ["| step | result | s | found |", "|---|---|---|---|", *rows]
    head = f"{machine['date']}, {machine['card']}, {machine['platform']}, {versions}"
    (output / "summary.md").write_text("\n".join([head, "", *table]) + "\n", encoding="utf-8")


def card() -> str:
    """Return name, driver and memory of the NVIDIA cards, or that there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no NVIDIA card"
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return "; ".join(done.stdout.strip().splitlines()) or "nvidia-smi names no card"


if __name__ == "__main__":
    sys.exit(main())
