"""Full disks and limits: the run fails with a code, and nothing stands under the final name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SUFFIXES = [".jpg", ".png", ".tif", ".webp", ".avif", ".bmp", ".gif"]
WRITE = """
import sys
import numpy as np
from pathlib import Path
from apisr.core.errors import ApisrError
from apisr.image import Picture, write_picture
if len(sys.argv) > 3:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3)).astype(np.uint8)
frames = (noise, noise[::-1]) if sys.argv[2] == "animated" else (noise,)
try:
    write_picture(Path(sys.argv[1]), Picture(frames, (50.0,) * len(frames)), overwrite=True)
except ApisrError as error:
    sys.exit(f"{error.code}|{error.exit_code}")
"""


def write(path: Path, *arguments: str) -> str:
    """Write a large picture in a child and return the code of its error, empty if there was none."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(path), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0 or "|" in done.stderr, done.stderr
    return done.stderr.strip()


@pytest.mark.parametrize("kind", ["still", "animated"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_limit_of_file_size_is_named(tmp_path: Path, suffix: str, kind: str) -> None:
    if kind == "animated" and suffix not in (".png", ".webp", ".avif", ".gif"):
        pytest.skip("the format holds no animation")
    assert write(tmp_path / f"a{suffix}", kind, "20000") == "file-too-large|1"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"a{suffix}").write_bytes(b"mine")
    assert write(tmp_path / f"a{suffix}", kind, "20000") == "file-too-large|1"
    assert (tmp_path / f"a{suffix}").read_bytes() == b"mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 60 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("disks cannot be mounted on this system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a disk needs rights that this user does not have")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_named(small_disk: Path, suffix: str) -> None:
    assert write(small_disk / f"a{suffix}", "still") == "disk-full|1"
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_strip_is_not_black(tmp_path: Path, deep: bool) -> None:
    import numpy as np
    import tifffile

    from apisr.core.errors import InputError
    from apisr.image import read_picture

    pixels = np.full((40, 30, 3), 200, np.uint16 if deep else np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, rowsperstrip=10, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].aspage().tags["StripByteCounts"]
        tag.overwrite([*tag.value[:2], 0, tag.value[3]])
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert caught.value.code == "damaged-picture"
