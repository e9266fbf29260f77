"""Curation: from a 24-minute episode to its intra frames, speed and memory

A generated 1080p H.264 episode: drawings with the grain of paper, a new one every four seconds, moving on twos; a part
is encoded, and repeated by copying its packets until it has the length. The usual way (decode everything, keep the
frames of type I, write each as a PNG) is measured on the part and scaled by its length; the reader of intra frames
takes turns with it (the better of two runs each, every run in a process of its own). `apisr curate` is the whole
command with the classical score, from its start to its end: every intra frame of the film scored, the ten best written.
"peak MiB" is that of the largest process.

Run: python -m benchmarks curate --dry-run
     python benchmarks/curate.py scale --videos 562     two workers, killed in the middle, then continued
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from curate_clips import encode, scene, short_film

RATE = 24
SCENE_S = 4


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure the two ways to the intra frames on a part, and the whole command on one minute and on an episode."""
    part_s, episode_min = (8, 2) if quick else (24, 24)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        part = film(folder / "part.mp4", part_s)
        short, episode = repeat(part, folder / "minute.mkv", 60), repeat(part, folder / "episode.mkv", 60 * episode_min)
        ways = ("decode everything, keep type I, write PNGs", "read intra frames only")
        measured: dict[str, dict[str, float]] = {}
        for _ in range(1 if quick else 2):
            for way, task in zip(ways, ("everything", "intra"), strict=True):
                found = child([sys.executable, __file__, task, str(part)])
                if way not in measured or found["s"] < measured[way]["s"]:
                    measured[way] = found
        if measured[ways[0]]["frames"] != measured[ways[1]]["frames"]:
            raise RuntimeError(f"the two ways find different frames: {measured}")
        usual = measured[ways[0]]["s"] / part_s  # seconds per second of film
        rows = [_row(way, part_s, measured[way], episode_min, usual) for way in ways]
        for path, seconds in ((short, 60), (episode, 60 * episode_min)):
            command = [sys.executable, "-m", "apisr", "curate", str(path), "-o", f"{folder / path.stem}"]
            found = child([*command, "--score", "classical", "-q"])
            rows.append(_row("`apisr curate`, the whole command", seconds, found, episode_min, usual))
        size = episode.stat().st_size / 1e6
        rows[-1]["film"] = f"{rows[-1]['film']}, {size:.0f} MB"
        return rows


def _row(way: str, seconds: float, found: dict[str, float], episode_min: int, usual: float) -> dict[str, object]:
    minutes = seconds / 60
    return {
        "way": way,
        "film": f"{minutes:.3g} min",
        "s": found["s"],
        f"s for {episode_min} min": found["s"] * episode_min / minutes if minutes != 1 else None,
        "x the usual way": usual * seconds / found["s"],
        "peak MiB": round(found["peak_mib"]),
    }


def child(command: list[str]) -> dict[str, float]:
    """Run a command; its time (its own, if it prints one as JSON) and the peak memory of its largest process."""
    made = subprocess.run([sys.executable, "-c", _WATCH, *command], capture_output=True, text=True, check=True)
    found = json.loads(made.stdout)
    if found["code"]:
        raise RuntimeError(f"{' '.join(command)} ended with {found['code']}: {found['text'][-500:]}")
    own = json.loads(found["text"]) if found["text"].startswith("{") else {}
    return {"s": found["s"], "peak_mib": found["peak_mib"], **own}


#: Between this process and the one that is measured: a new process begins with the peak of the one that starts it.
_WATCH = """
import json, os, subprocess, sys, tempfile, time
with tempfile.TemporaryFile() as output:
    began = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=output, stderr=subprocess.STDOUT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    output.seek(0)
    text = output.read().decode(errors="replace")
code = process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps({"s": seconds, "peak_mib": usage.ru_maxrss / 1024, "code": code, "text": text}))
"""


def film(path: Path, seconds: int, *, width: int = 1920, height: int = 1080) -> Path:
    """Encode drawings with a new one every four seconds, H.264 with scene cuts as encoders place them."""

    def pictures() -> Iterator[np.ndarray]:
        grain = np.random.default_rng(0).normal(0, 5, (height, width, 1))
        for number in range(-(-seconds // SCENE_S)):
            drawn = scene(number, width=width, height=height, shapes=120)
            drawing = (drawn + grain).clip(0, 255).astype(np.uint8)
            for step in range(SCENE_S * RATE):
                yield np.roll(drawing, 3 * (step // 2), axis=1)

    return encode(path, pictures(), rate=RATE, preset="superfast", crf="22", g="240")


def repeat(part: Path, path: Path, seconds: int) -> Path:
    """Write the packets of a video again and again until it is so long; nothing is decoded."""
    with av.open(str(part)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        assert stream.time_base is not None
        length = round(Fraction(len(packets), RATE) / stream.time_base)
        stamps = [(packet.pts, packet.dts) for packet in packets]
        for number in range(round(seconds * RATE / len(packets))):
            for packet, (pts, dts) in zip(packets, stamps, strict=True):
                packet.stream = copy
                packet.time_base = stream.time_base
                packet.pts, packet.dts = pts + number * length, dts + number * length
                target.mux(packet)
    return path


def decode_everything(path: Path, folder: Path) -> int:
    """The usual way: decode all frames, keep those of type I, write each as a PNG."""
    number = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if int(frame.pict_type) == 1:
                frame.to_image().save(folder / f"{number:06d}.png")
                number += 1
    return number


def measure(task: str, path: Path) -> dict[str, float]:
    """Do one of the two ways in this process (for :func:`child`)."""
    from apisr.video.intra import IntraReader

    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        if task == "everything":
            frames = decode_everything(path, Path(name))
        else:
            with IntraReader(path, threads=os.cpu_count() or 1) as reader:
                frames = sum(1 for _ in reader)
        return {"s": time.perf_counter() - began, "frames": frames}


def scale(videos: int, workers: int) -> None:
    """Curate many small videos, kill everything in the middle, continue, and compare with a run in peace."""
    from apisr.curate.manifest import read_manifest

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        for number in range(videos):
            short_film(folder / "shelf" / f"{number // 100} シリーズ" / f"film {number}.mkv", number)
        print(json.dumps({"videos": videos, "drawn_and_encoded_s": round(time.perf_counter() - began, 1)}), flush=True)

        def command(target: str) -> list[str]:
            options = ["--count", "2", "--distance", "0.5", "--score", "classical", "--height", "keep", "-q"]
            return [
                sys.executable,
                "-m",
                "apisr",
                "curate",
                str(folder / "shelf"),
                "-o",
                str(folder / target),
                *options,
            ]

        began = time.perf_counter()
        process = subprocess.Popen([*command("killed"), "--workers", str(workers)], start_new_session=True)
        while len(list((folder / "killed" / "videos").glob("*.json"))) < videos // 2:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = len(list((folder / "killed" / "videos").glob("*.json")))
        subprocess.run([*command("killed"), "--workers", str(workers)], check=True, stdout=subprocess.DEVNULL)
        killed = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run(command("peace"), check=True, stdout=subprocess.DEVNULL)
        peace = time.perf_counter() - began
        rows, others = read_manifest(folder / "killed")[0], read_manifest(folder / "peace")[0]
        assert rows == others, "the killed and continued run differs from the run in peace"
        errors = [wrong(folder / "killed" / row.file, row.source, row.time_s) for row in rows]
        files = {
            path.relative_to(folder / "killed").as_posix() for path in (folder / "killed" / "images").rglob("*.png")
        }
        assert files == {row.file for row in rows}, "pictures without a row, or rows without a picture"
        print(
            json.dumps(
                {
                    "finished_when_killed": done,
                    "pictures": len(rows),
                    "sources": len({row.source_sha256 for row in rows}),
                    "duplicates": sum("duplicate" in row.flags for row in rows),
                    "largest_mean_error": round(max(errors), 2),
                    "killed_and_continued_s": round(killed, 1),
                    "in_peace_one_worker_s": round(peace, 1),
                }
            )
        )


def wrong(picture: Path, source: str, time_s: float, *, frames: int = 16, rate: int = 24) -> float:
    """Mean difference of a written picture from the drawing that was encoded at that time, in values of 255."""
    from apisr.image import read_rgb

    number, step = divmod(round(Fraction(time_s) * rate), frames)
    seed = int(Path(source).stem.split()[1])
    drawing = np.roll(scene(1000 * seed + number), step // 4, axis=1).astype(np.float32)
    return float(np.abs(read_rgb(picture).astype(np.float32) - drawing).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scale", "everything", "intra"))
    parser.add_argument("film", type=Path, nargs="?", help="for the two ways of reading")
    parser.add_argument("--videos", type=int, default=562)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.what == "scale":
        scale(given.videos, given.workers)
    else:
        print(json.dumps(measure(given.what, given.film)))
