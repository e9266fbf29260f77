"""Train in slices on a machine that is lent for minutes: pack what one slice needs, run it there, bring the state back.

    python scripts/pack_slice.py pack CONFIG -o slice --data pictures     # here: a folder of less than 64 MiB
    bash slice/slice.sh OUT                                               # there: trains, splits its checkpoint
    python scripts/pack_slice.py collect OUT --config CONFIG              # here: the checkpoint joins the run
    ... and so on: `pack` takes the run's last checkpoint along.

The folder holds the package's source, the configuration, as many pictures as fit (lossless WebP, spread evenly over the
given ones), wheels if any are given, and the last checkpoint. The other machine needs Python with PyTorch; nothing is
fetched there. The slice stops by itself after the given seconds with a checkpoint, which comes back in parts of at most
16 MiB. So that stage 2 fits too, the discriminator travels in 16 bits and without its first moments (they are back
after some twenty steps); the generator, its mean and its optimiser travel exactly.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from apisr.core.errors import ApisrError, InputError
from apisr.image import read_rgb, write_picture
from apisr.train.checkpoint import State, checkpoint_path, list_checkpoints, load_checkpoint
from apisr.train.config import load_config, to_toml
from apisr.train.data.pictures import find_training_pictures

ROOT = Path(__file__).resolve().parent.parent
PART_BYTES = 16 * 2**20 - 4096
_SCRIPT = """#!/bin/bash
# Runs one slice: bash slice.sh OUT. The checkpoint comes back as OUT/part-NN, the records as OUT/metrics.jsonl.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?give a folder for what comes back}
mkdir -p "$out"
if compgen -G "$here/wheels/*.whl" > /dev/null; then
  python3 -m pip install -q --no-index --no-deps "$here"/wheels/*.whl
fi
export PYTHONPATH="$here/src"
cd "$here"
python3 -m apisr train config.toml --resume
python3 scripts/pack_slice.py split "runs/@NAME@" -o "$out"
"""

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def pack(
    config: Annotated[str, typer.Argument(help="A TOML file or a preset, as for `apisr train`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")],
    data: Annotated[list[Path], typer.Option("--data", help="Folders of pictures.")],
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder of wheels that the other machine lacks.")] = None,
    seconds: Annotated[float, typer.Option(help="When the slice stops.")] = 540.0,
    limit_mib: Annotated[float, typer.Option(help="Size of the folder.")] = 62.0,
) -> None:
    """Make the folder of one slice."""
    if output.exists():
        raise InputError(f"'{output}' exists. Give another folder with -o.", code="output-exists")
    chosen = load_config(config, sets=sets or [])
    run = chosen.run_folder
    output.mkdir(parents=True)
    shutil.copytree(
        ROOT / "src", output / "src", ignore=shutil.ignore_patterns("__pycache__", "*.onnx", "*.egg-info", "runs")
    )
    (output / "scripts").mkdir()
    shutil.copy2(Path(__file__), output / "scripts")
    if wheels is not None:
        shutil.copytree(wheels, output / "wheels")
    here = chosen.model_copy(
        update={
            "run": chosen.run.model_copy(update={"folder": Path("runs"), "max_seconds": seconds}),
            "data": chosen.data.model_copy(update={"folders": (Path("data"),), "scenes": None, "shards": None}),
        }
    )
    (output / "config.toml").write_text(to_toml(here), encoding="utf-8")
    checkpoints = list_checkpoints(run)
    step = 0
    if checkpoints:
        step = checkpoints[-1][0]
        target = checkpoint_path(output / "runs" / chosen.run.name, step)
        target.parent.mkdir(parents=True)
        torch.save(compacted(load_checkpoint(checkpoints[-1][1])), target)
    (output / "slice.sh").write_text(_SCRIPT.replace("@NAME@", chosen.run.name), encoding="utf-8")
    count, of = _pack_pictures(find_training_pictures(data), output, limit_mib * 2**20)
    total = _bytes_in(output) / 2**20
    typer.echo(f"{output}: {total:.1f} MiB, {count} of {of} pictures, from step {step}, stops after {seconds:.0f} s")


@app.command()
def split(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the parts go.")],
) -> None:
    """Cut the last checkpoint of a run into parts that can be sent back."""
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        raise InputError(f"'{run}' has no checkpoint.", code="no-checkpoint")
    whole = output / "whole.pt"
    torch.save(compacted(load_checkpoint(checkpoints[-1][1])), whole)
    content = whole.read_bytes()
    whole.unlink()
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        (output / f"part-{number:02d}").write_bytes(content[start : start + PART_BYTES])
    shutil.copy2(run / "metrics.jsonl", output / "metrics.jsonl")
    typer.echo(f"step {checkpoints[-1][0]}: {len(content) / 2**20:.1f} MiB in {output}")


@app.command()
def collect(
    parts: Annotated[Path, typer.Argument(help="Folder with part-NN.")],
    config: Annotated[str, typer.Option(help="The configuration of the run.")],
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
) -> None:
    """Join the parts into a checkpoint of the run here."""
    files = sorted(parts.glob("part-[0-9][0-9]"))
    if not files:
        raise InputError(f"no part-NN in '{parts}'.", code="no-parts")
    chosen = load_config(config, sets=sets or [])
    folder = chosen.run_folder / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    joined = folder / "joined.partial.pt"
    joined.write_bytes(b"".join(path.read_bytes() for path in files))
    try:
        state = load_checkpoint(joined)
    except ApisrError:
        joined.unlink()
        raise
    target = checkpoint_path(chosen.run_folder, int(state["step"]))
    joined.replace(target)
    if not (chosen.run_folder / "config.toml").is_file():
        (chosen.run_folder / "config.toml").write_text(to_toml(chosen), encoding="utf-8")
    records = parts / "metrics.jsonl"
    if records.is_file():
        with (chosen.run_folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(records.read_text(encoding="utf-8"))
    typer.echo(f"{target}: step {state['step']}")


def compacted(state: State) -> State:
    """A checkpoint with the discriminator in 16 bits and its first moments at zero (an empty tensor says so)."""
    small = dict(state)
    if "discriminator" not in small:
        return small
    small["discriminator"] = {
        key: value.half() if value.is_floating_point() else value for key, value in small["discriminator"].items()
    }
    optimizer = small["discriminator_optimizer"]
    small["discriminator_optimizer"] = {
        **optimizer,
        "state": {
            key: {
                **entry,
                "exp_avg": torch.zeros((), dtype=torch.float32).expand(entry["exp_avg"].shape),
                "exp_avg_sq": entry["exp_avg_sq"].bfloat16(),
            }
            for key, entry in optimizer["state"].items()
        },
    }
    return small


def _pack_pictures(paths: tuple[Path, ...], output: Path, limit_bytes: float) -> tuple[int, int]:
    folder = output / "data"
    folder.mkdir()
    used = _bytes_in(output)
    order = np.random.default_rng(0).permutation(len(paths))
    count = 0
    for index in order:
        target = folder / f"{index:05d}.webp"
        write_picture(target, read_rgb(paths[int(index)]))
        size = target.stat().st_size
        if used + size > limit_bytes:
            target.unlink()
            if count == 0:
                raise InputError(
                    f"not one picture fits into {limit_bytes / 2**20:.0f} MiB beside the code and checkpoint.",
                    code="slice-too-small",
                )
            break
        used, count = used + size, count + 1
    return count, len(paths)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    try:
        app()
    except ApisrError as error:
        sys.stderr.write(f"pack_slice: error: {error}\n")
        sys.exit(error.exit_code)
