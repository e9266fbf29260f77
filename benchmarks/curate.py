"""Curation: speed of reading intra frames, memory, and a shelf of 562 videos with a kill in the middle.

    python benchmarks/curate.py speed --minutes 4      against decoding everything and writing PNGs
    python benchmarks/curate.py memory                 peak memory of a short and a long video
    python benchmarks/curate.py scale --videos 562     two workers, killed in the middle, then continued

Figures are ratios of runs on the same machine, one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
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


def film(path: Path, minutes: float, *, width: int = 1920, height: int = 1080) -> Path:
    """An episode: a new drawing every four seconds, moving on twos, H.264 with scene cuts as encoders place them."""

    def pictures() -> Iterator[np.ndarray]:
        for number in range(round(minutes * 60 / 4)):
            drawing = scene(number, width=width, height=height, shapes=120)
            for step in range(96):
                yield np.roll(drawing, 3 * (step // 2), axis=1)

    return encode(path, pictures(), preset="superfast", crf="20", g="240")


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


def speed(minutes: float, given_film: Path | None) -> None:
    """Compare the ways to get at the intra frames of one episode, and time a whole curation."""
    from apisr.curate.pipeline import curate
    from apisr.curate.settings import load_settings
    from apisr.video.intra import IntraReader

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = given_film or film(folder / "film.mkv", minutes)
        (folder / "png").mkdir()
        began, cpu = time.perf_counter(), time.process_time()
        all_frames = decode_everything(path, folder / "png")
        slow, slow_cpu = time.perf_counter() - began, time.process_time() - cpu
        began, cpu = time.perf_counter(), time.process_time()
        with IntraReader(path, threads=os.cpu_count() or 1) as reader:
            intra = sum(1 for _ in reader)
        fast, fast_cpu = time.perf_counter() - began, time.process_time() - cpu
        minutes = float(reader.statistics.last_time) / 60
        began, cpu = time.perf_counter(), time.process_time()
        outcome = curate([path], folder / "set", settings=load_settings(overrides={"score": "classical"}))
        whole, whole_cpu = time.perf_counter() - began, time.process_time() - cpu
        assert intra == all_frames, (intra, all_frames)
        result = {
            "minutes": round(minutes, 2),
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "intra_frames": intra,
            "decode_everything_s": round(slow, 2),
            "intra_reader_s": round(fast, 2),
            "reader_times_faster": round(slow / fast, 1),
            "whole_curation_s": round(whole, 2),
            "curation_times_faster": round(slow / whole, 1),
            "processor_s": [round(slow_cpu, 2), round(fast_cpu, 2), round(whole_cpu, 2)],
            "pictures": outcome.pictures,
            "curation_of_24_minutes_s": round(whole * 24 / minutes, 1),
        }
        print(json.dumps(result))


def memory() -> None:
    """Peak memory of curating one short and one long video of the same size."""
    with tempfile.TemporaryDirectory() as name:
        for minutes in (0.5, 3.0):
            path = film(Path(name) / f"film{minutes}.mkv", minutes, width=1280, height=720)
            command = [
                sys.executable,
                "-m",
                "apisr",
                "curate",
                str(path),
                "-o",
                f"{name}/set{minutes}",
                "--score",
                "classical",
            ]
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            print(json.dumps({"minutes": minutes, "peak_megabytes": round(max(before, after) / 1024)}))


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
    parser.add_argument("what", choices=("speed", "memory", "scale"))
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--film", type=Path, help="a file of that length instead of one that is made")
    parser.add_argument("--videos", type=int, default=562)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if given.what == "speed":
            speed(given.minutes, given.film)
        elif given.what == "memory":
            memory()
        else:
            scale(given.videos, given.workers)
