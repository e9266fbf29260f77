"""Damaged manifests, records, settings, configurations and reports: each is read, or refused in one line.

``python -m tests.fuzz datasets --count 5000`` runs a long round.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import tempfile
from pathlib import Path

from apisr.curate.dataset import keep_settings
from apisr.curate.manifest import Row, write_manifest
from apisr.curate.records import VideoRecord, write_record
from apisr.curate.settings import PRESETS, load_settings
from apisr.evaluate import EvaluateOptions, evaluate, write_report
from apisr.image import write_picture

from .child import decode_in_children
from .damage import Figures
from .mutate import mutate

_WORDS = (
    b"\x00",
    b"\xff\xfe",
    b"[" * 400,
    b"{" * 400,
    b"1e999",
    b"-1",
    b"null",
    b"../",
    b'"',
    b"\x1b[2J",
    b"\n",
    b"nan",
)


def valid_files() -> dict[str, bytes]:
    """Return one good file of each sort, by name."""
    import numpy as np

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row = Row(id="a-1", source="a.mkv", source_sha256="0" * 64, file="images/v/a-1.png", hash="0123456789abcdef")
        rows = [row, dataclasses.replace(row, id="a-2", flags=("bars",), nudity=0.25, decision="accept")]
        write_manifest(folder, rows, settings_json=load_settings().model_dump_json())
        record = VideoRecord(
            source="a.mkv",
            source_sha256="0" * 64,
            size_bytes=1000,
            modified_ns=1,
            codec="h264",
            width=64,
            height=36,
            duration_s=1.5,
            packets={"I": 2, "P": 9},
            packet_total_bytes={"I": 700, "P": 300},
            packet_histogram={"I": {38: 2}, "P": {20: 9}},
            undecodable=0,
            left_out={"black": 1},
            scores=(0.25, 0.5),
            native_height=36,
            native_kernel=None,
            native_confidence=0.0,
            rows=tuple(rows),
            fingerprints=(bytes(1024), bytes(range(256)) * 4),
        )
        write_record(folder, "record", record)
        keep_settings(folder, load_settings())
        picture = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        write_picture(folder / "one" / "a.png", picture)
        write_picture(folder / "two" / "a.png", picture // 2)
        made = evaluate(folder / "one", reference=folder / "two", options=EvaluateOptions(metrics=["psnr", "ssim"]))
        json_file, _ = write_report(made, folder / "report")
        return {
            "manifest.parquet": (folder / "manifest.parquet").read_bytes(),
            "record.json": (folder / "videos" / "record.json").read_bytes(),
            "settings.json": (folder / "settings.json").read_bytes(),
            "report.json": json_file.read_bytes(),
            "config.toml": PRESETS.text("reference").encode(),
        }


def fuzz_datasets(count: int, *, seed: int, memory_mb: int = 3072, keep: Path | None = None) -> Figures:
    """Damage files and read them; each gives its own folder, as a dataset has one manifest.

    Args:
        count: how many.
        seed: of the damages.
        memory_mb: limit of the process that reads.
        keep: folder for the files that were neither read nor refused.
    """
    draw = random.Random(seed)
    seeds = valid_files()
    names = sorted(seeds)
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        paths: list[Path] = []
        for number in range(count):
            name = names[number % len(names)]
            path = Path(folder) / str(number) / name
            path.parent.mkdir()
            path.write_bytes(_damaged(seeds[name], draw, text=not name.endswith(".parquet")))
            paths.append(path)
        for outcome in decode_in_children(paths, memory_mb=memory_mb, what="datasets"):
            figures.counts[outcome.path.name, outcome.kind] += 1
            if outcome.kind not in ("read", "refused"):
                figures.bad.append(outcome)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(outcome.path, keep / f"{outcome.path.parent.name}-{outcome.path.name}")
    return figures


def _damaged(content: bytes, draw: random.Random, *, text: bool) -> bytes:
    if text and draw.random() < 0.5:
        at = draw.randrange(len(content))
        return content[:at] + draw.choice(_WORDS) + content[at + draw.choice((0, 0, 1, 5)) :]
    return mutate(content, draw)
