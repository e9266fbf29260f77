"""What CONTRIBUTING says about adding things is true: every diff there applies, touches one file, and works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Heading in CONTRIBUTING -> a program that fails unless what was added is there and does its work.
TRIALS = {
    "A metric": """
import numpy as np
from apisr.metrics.registry import open_metric
dark = np.full((32, 32, 3), 100, np.uint8)
assert open_metric("brightness").score(dark + 5, dark) == 5
""",
    "A network": """
import torch
from apisr.networks.registry import architecture
network = architecture("espcn")
module = network.build({"scale": 4})
assert network.detect(module.state_dict()) == {"scale": 4}
assert module(torch.rand(1, 3, 8, 9)).shape == (1, 3, 32, 36)
""",
    "An engine": """
import sys
import numpy as np
from apisr.engines import ENGINES, open_engine
assert "reference" in ENGINES
picture = np.random.default_rng(0).random((1, 3, 32, 40), np.float32)
outputs = [open_engine(sys.argv[1], engine=name, device="cpu", precision="fp32").run(picture)
           for name in ("reference", "onnx")]
assert np.abs(outputs[0] - outputs[1]).max() < 1e-4
""",
    "A codec of the degradation": """
import numpy as np
from apisr.degrade.codecs import round_trip
picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
assert round_trip(picture, "mpeg1", quantizer=4).picture.shape == picture.shape
""",
    "A container": """
from pathlib import Path
from apisr.video.containers.registry import container_of
assert container_of(Path("a.3gp")).muxer == "3gp"
""",
    "A video encoder": """
from apisr.video.encoders import ENCODERS
assert ENCODERS["utvideo"].lossless
""",
}


def diffs() -> dict[str, str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^### ([^\n]+)\n(?:(?!^### ).)*?```diff\n(.*?)```", text, re.M | re.S)
    return dict(found)


def test_every_diff_is_tried() -> None:
    assert diffs().keys() == TRIALS.keys()


@pytest.mark.parametrize("heading", TRIALS)
def test_a_diff_of_one_file_is_enough(heading: str, tmp_path: Path, tiny_x2: Path) -> None:
    diff = diffs()[heading]
    assert len(re.findall(r"^\+\+\+ ", diff, re.M)) == 1
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        ["git", "apply", "--recount", "--unidiff-zero", "-C1", "-"],
        input=diff,
        text=True,
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-c", TRIALS[heading], str(tiny_x2)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
