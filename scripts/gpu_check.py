"""Check a machine with a graphics card in one command, without a network: engines, speed, a video, a slice of training.

    python scripts/gpu_check.py OUT                          # everything, in less than ten minutes
    python scripts/gpu_check.py OUT --wheels wheels          # packages that the machine lacks, as wheels
    python scripts/gpu_check.py OUT --shards shards          # train on pictures that `apisr shards` degraded elsewhere
    python scripts/gpu_check.py OUT --quick                  # a dry run on the processor
    python scripts/gpu_check.py OUT --only card --only video

Every step is a process of its own with a time limit; one that fails, runs over or lacks a package does not stop the
others. OUT gets few files: `summary.md` and `summary.json` (the card, its driver, the versions, the date, what was
found), `output.txt` (what the steps printed) and `trained.safetensors`. Clips, caches and the training's run lie in the
work folder, by default OUT/work. The summary is written after every step, and the same command goes on where it
stopped: steps that succeeded are not run again (`--again` runs all), the others go on from what they have. The exit
code is 0 only if no step failed, ran over or was not reached.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("apisr", "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "ncnn", "av", "numpy", "lightning")
#: A clip of this size is made and upscaled, for so many frames.
CLIP_SIZE, CLIP_FRAMES, QUICK_SIZE, QUICK_FRAMES = (1920, 1080), 48, (320, 180), 6
QUICK_SPEED = ("--lines", "128", "--any-device", "--models", "apisr-x2-fast", "grl-x4")
#: All steps together; a step is not begun with less than this left.
WHOLE_S, QUICK_WHOLE_S, LEAST_S = 560.0, 3000.0, 15.0
#: What a step that is told to stop gets to write its checkpoint.
GRACE_S = 20.0
#: What the project cannot do without, and what brings it.
CORE = ("numpy", "cv2", "PIL", "tifffile", "onnxruntime", "typer", "rich", "pydantic", "platformdirs", "filelock")


@dataclass
class Step:
    """One step and what became of it.

    Attributes:
        name: of the step and of its output file.
        command: what is run.
        limit_s: after so long it is stopped.
        needs: modules without which it is left out.
        seconds: how long it took.
        result: ``"ok"``, ``"failed (N)"``, ``"stopped"``, ``"left out: ..."`` or ``"not reached"``.
        figures: what it found, a line each.
    """

    name: str
    command: list[str]
    limit_s: float
    needs: tuple[str, ...] = ()
    seconds: float = 0.0
    result: str = "not reached"
    figures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Places:
    """The folders: for what is found, and for what is needed on the way."""

    output: Path
    work: Path

    @property
    def site(self) -> Path:
        """Packages that were brought as wheels."""
        return self.work / "site"

    @property
    def run(self) -> Path:
        """The training's run."""
        return self.work / "runs" / "check"


def main() -> int:
    """Run the steps and write the summary; the exit code is 1 if one failed or was not reached."""
    options = parsed()
    places = Places(options.output.resolve(), (options.work or options.output / "work").resolve())
    places.output.mkdir(parents=True, exist_ok=True)
    places.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if options.wheels is not None:
        install(options.wheels, places)
    sys.path.insert(0, str(places.site))
    missing = lacking(CORE)
    if missing:
        sys.stderr.write(f"gpu_check: {', '.join(missing)} missing: bring the wheels and name them with --wheels.\n")
        return 2
    steps = planned(places, options)
    names = [step.name for step in steps]
    unknown = sorted(set(options.only or []) - set(names))
    if unknown:
        sys.stderr.write(f"gpu_check: there is no step '{unknown[0]}'. There are: {', '.join(names)}.\n")
        return 2
    chosen = [step for step in steps if not options.only or step.name in options.only]
    before = {} if options.again else succeeded(places)
    whole_s = options.seconds or (QUICK_WHOLE_S if options.quick else WHOLE_S)
    for number, step in enumerate(steps):
        kept = before.get(step.name)
        if kept is not None and kept.command == step.command:
            steps[number] = kept
            say(f"{step.name}: done before, {kept.seconds} s")
        elif step in chosen:
            attempt(step, places, whole_s - (time.monotonic() - began), quick=options.quick)
        write_summary(steps, places)
    considered = [step for step in steps if step.name in {one.name for one in chosen}]
    return int(any(step.result != "ok" and not step.result.startswith("left out") for step in considered))


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for what is found")
    parser.add_argument("--work", type=Path, help="folder for clips, caches and the run (default: OUT/work)")
    parser.add_argument("--device", help="device of the video; by default the card that torch finds")
    parser.add_argument("--wheels", type=Path, help="folder of wheels; they go into the work folder")
    parser.add_argument("--shards", type=Path, help="folder of pictures that were degraded ahead (apisr shards)")
    parser.add_argument("--train", default="apisr-x4-fast", help="what the training goes on from: preset and model")
    parser.add_argument("--seconds", type=float, help="for all steps together (default: 560)")
    parser.add_argument("--quick", action="store_true", help="short steps, for a dry run on the processor")
    parser.add_argument("--again", action="store_true", help="run steps again that succeeded before")
    parser.add_argument("--only", action="append", metavar="STEP", help="these steps only; may be repeated")
    return parser.parse_args()


def install(wheels: Path, places: Places) -> None:
    """Unpack wheels into the work folder; the machine's own packages stay as they are."""
    files = sorted(str(path) for path in wheels.glob("*.whl"))
    if not files:
        sys.stderr.write(f"gpu_check: no wheels in '{wheels}'.\n")
        sys.exit(2)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade"]
    subprocess.run([*command, "--target", str(places.site), *files], check=True)


def lacking(modules: tuple[str, ...]) -> list[str]:
    """Return the modules that are not installed."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def found_device() -> str:
    """Return ``cuda`` where torch can use it, else ``cpu``."""
    if lacking(("torch",)):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def planned(places: Places, options: argparse.Namespace) -> list[Step]:
    """Return the steps in their order: what only a card can tell comes first."""
    quick, python = bool(options.quick), sys.executable
    limit = 540.0 if quick else 150.0  # a processor needs longer, a busy one more so
    clip = places.work / "clip.mkv"
    upscale = [python, "-m", "apisr", "upscale", str(clip), "-o", str(places.work / "big.mkv"), "--overwrite", "--json"]
    tests = ["tests/test_engines.py", "tests/test_engines_choice.py", "-p", "no:cacheprovider"]
    speed = [python, "scripts/card_speed.py", str(places.work / "card.jsonl")]
    return [
        Step("card", [*speed, *(QUICK_SPEED if quick else [])], limit),
        Step("video", [*upscale, "--device", options.device or found_device(), "--reuse", "off"], limit, ("av",)),
        Step(
            "training", training_command(places, options), limit, ("torch", "lightning", "tensorboard", "safetensors")
        ),
        Step(
            "engines",
            [python, "-m", "pytest", "-q", *tests, *(["-k", "repeat or whole_numbers"] if quick else [])],
            limit,
            ("pytest",),
        ),
        Step("doctor", [python, "-m", "apisr", "doctor", "--benchmark", "--json"], limit),
        Step("networks", [python, "-m", "benchmarks", "engines", "--dry-run", *(["--quick"] if quick else [])], limit),
    ]


def training_command(places: Places, options: argparse.Namespace) -> list[str]:
    """Return the command that goes on from shipped weights, on shards or on drawn pictures."""
    quick = bool(options.quick)
    if options.shards is not None:
        data = [f"data.shards={json.dumps(str(options.shards.resolve()))}"]
    else:
        data = [f"data.folders={json.dumps([str(places.work / 'pictures')])}"]
        data += ["data.degradation=bicubic"] if lacking(("av",)) else []  # codecs of videos need PyAV
    values = [
        *data,
        *(f"model.init_from={json.dumps(options.train)}", f"run.name={json.dumps(places.run.name)}"),
        *(f"run.folder={json.dumps(str(places.run.parent))}", f"run.max_seconds={20 if quick else 100}"),
        *(f"run.steps={12 if quick else 5000}", f"checkpoint.every={4 if quick else 500}", "log.every=2"),
        *(["data.patch_px=128", "data.batch=2", "data.workers=0"] if quick else []),
    ]
    sets = [part for value in values for part in ("--set", value)]
    return [sys.executable, "-m", "apisr", "train", options.train, "--resume", "--json", *sets]


def attempt(step: Step, places: Places, left_s: float, *, quick: bool) -> None:
    """Run a step if its packages are here and time is left."""
    missing = lacking(step.needs)
    if missing:
        step.result = f"left out: {', '.join(missing)} not installed"
        say(f"{step.name}: {step.result}")
        return
    if left_s < LEAST_S:
        say(f"{step.name}: not reached in the time for all; the same command goes on here")
        return
    size, frames = (QUICK_SIZE, QUICK_FRAMES) if quick else (CLIP_SIZE, CLIP_FRAMES)
    if step.name in ("video", "training"):
        make_inputs(step.name, places, size, frames)
    run(step, places, min(step.limit_s, left_s))


def make_inputs(name: str, places: Places, size: tuple[int, int], frames: int) -> None:
    """Draw a clip whose every frame is new (nothing can be reused), or pictures to train on; once."""
    import cv2
    import numpy as np

    width, height = size
    rng = np.random.default_rng(5)
    drawing = np.full((height, width + 8 * frames, 3), 200, np.uint8)
    for _ in range(60):
        corners = rng.integers(0, (drawing.shape[1], height), (5, 1, 2)).astype(np.int32)
        cv2.fillPoly(drawing, [corners], [int(v) for v in rng.integers(40, 255, 3)], cv2.LINE_AA)
        cv2.polylines(drawing, [corners], True, (25, 20, 30), 2, cv2.LINE_AA)
    clip, pictures = places.work / "clip.mkv", places.work / "pictures"
    if name == "training" and not pictures.is_dir():
        pictures.mkdir()
        for number in range(8):
            left = int(rng.integers(0, drawing.shape[1] - width + 1))
            enlarged = cv2.resize(drawing[:, left : left + width], (1280, 720), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(pictures / f"{number}.png"), enlarged)
    if name == "video" and not clip.is_file():
        import av

        with av.open(str(clip), "w") as container:
            stream = container.add_stream("libx264", 24)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(frames):
                picture = np.ascontiguousarray(drawing[:, 8 * number : 8 * number + width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))


def run(step: Step, places: Places, limit_s: float) -> None:
    """Run a step in its limit; what it prints goes into a file of the work folder and into OUT/output.txt."""
    say(f"{step.name}: at most {limit_s:.0f} s ... ", end="")
    path = os.pathsep.join([str(places.site), str(ROOT / "src")])
    environment = {**os.environ, "APISR_CACHE": str(places.work / "cache"), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    printed = places.work / f"{step.name}.txt"
    start = time.monotonic()
    with printed.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            step.command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
            step.result = "ok" if code == 0 else f"failed ({code})"
        except subprocess.TimeoutExpired:
            step.result = "stopped"
        finally:
            end(process)
    step.seconds = round(time.monotonic() - start, 1)
    text = printed.read_text(encoding="utf-8", errors="replace")
    step.figures = figures(step, text, places)
    with (places.output / "output.txt").open("a", encoding="utf-8") as file:
        file.write(f"=== {step.name}: {step.result}, {step.seconds} s\n{text}\n")
    say(f"{step.result}, {step.seconds} s" + "".join(f"\n    {line}" for line in step.figures))


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and all that it started; a training writes a checkpoint first."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def figures(step: Step, text: str, places: Places) -> list[str]:
    """Return what a step found, a line each; nothing where its output cannot be read."""
    try:
        return FIGURES[step.name](step, text, places)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        return [f"no figures: {error!r}"] if step.result == "ok" else []


def card_figures(step: Step, text: str, places: Places) -> list[str]:
    """Every measured line, also of a step that was stopped."""
    lines: list[str] = []
    for line in (places.work / "card.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        name = f"{row['model']} {row['engine']} {row['device']} {row['precision']}"
        lines.append(
            f"{name}: {row['problem']}"
            if "problem" in row
            else f"{name}: {row['frames_per_s']} frames/s at {row['frame']}, {row['psnr_db']} dB, peak "
            f"{row['peak_mib']} MiB, replaces {row['core_seconds_a_second']} processor cores (torch fp32)"
        )
    return lines


def video_figures(step: Step, text: str, places: Places) -> list[str]:
    """The rate, and which stage the time went to."""
    result = json.loads(text[text.index("{") :])["files"][0]["result"]
    parts = ", ".join(f"{name} {value:.2f} s" for name, value in result["seconds"].items())
    return [f"{result['frames_out'] / result['seconds']['total']:.2f} frames/s; {parts}"]


def training_figures(step: Step, text: str, places: Places) -> list[str]:
    """How far it came; its weights go into OUT."""
    result = json.loads(text[text.rindex('{\n  "folder"') :])
    shutil.copyfile(result["weights"], places.output / "trained.safetensors")
    records = (places.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [json.loads(line) for line in records if "samples_per_s" in line]
    losses = ", ".join(f"{name} {value:.5f}" for name, value in result["losses"].items())
    fastest = max(rates, key=lambda record: record["samples_per_s"])
    speed = f"at best {fastest['it_per_s']:.2f} steps/s, {fastest['samples_per_s']:.1f} crops/s"
    return [f"step {result['step']}, {speed}; losses: {losses}"]


def doctor_figures(step: Step, text: str, places: Places) -> list[str]:
    """The table of the machine."""
    return [
        f"{row['engine']} {row['device']} {row['precision']}: {row['problem'] or row['frames_per_s']} frames/s, 640x360"
        for row in json.loads(text[text.index("{") :])["rows"]
    ]


def test_figures(step: Step, text: str, places: Places) -> list[str]:
    """How many tests passed."""
    return [text.strip().splitlines()[-1].strip("= ")]


def table_figures(step: Step, text: str, places: Places) -> list[str]:
    """The rows of the fastest engines: those that have goals."""
    return [line.strip("| ") for line in text.splitlines() if "wanted" in line and line.startswith("|")]


FIGURES = {
    "card": card_figures,
    "video": video_figures,
    "training": training_figures,
    "engines": test_figures,
    "doctor": doctor_figures,
    "networks": table_figures,
}


def succeeded(places: Places) -> dict[str, Step]:
    """Return the steps of an earlier run that succeeded, by their names."""
    for path in (places.output / "summary.json", places.work / "summary.json"):
        try:
            steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
            found = [Step(**{**step, "needs": tuple(step["needs"])}) for step in steps]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return {step.name: step for step in found if step.result == "ok"}
    return {}


def write_summary(steps: list[Step], places: Places) -> None:
    """Write what was found as JSON and as a table."""
    versions: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    machine = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "card": card(),
        "processor threads": os.cpu_count(),
        "versions": versions,
    }
    content = json.dumps({"machine": machine, "steps": [asdict(step) for step in steps]}, indent=2) + "\n"
    for folder in (places.output, places.work):
        (folder / "summary.json").write_text(content, encoding="utf-8")
    rows = [f"| {step.name} | {step.result} | {step.seconds} |" for step in steps]
    text = [
        ", ".join(f"{key}: {value}" for key, value in machine.items()),
        "",
        "| step | result | s |",
        "|---|---|---|",
    ]
    for step in steps:
        rows += ["", f"## {step.name}", "", *(f"- {line}" for line in step.figures)] if step.figures else []
    (places.output / "summary.md").write_text("\n".join([*text, *rows]) + "\n", encoding="utf-8")


def card() -> str:
    """Return name, driver and memory of the NVIDIA cards, or that there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no NVIDIA card"
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return "; ".join(done.stdout.strip().splitlines()) or "nvidia-smi names no card"


def say(text: str, *, end: str = "\n") -> None:
    """Show a line."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
