"""The command line as people meet it: what it prints, what it writes, and how it ends on bad input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import Ran, Run

from apisr.cli import COMMANDS, completing, main
from apisr.cli.failures import failure_of
from apisr.image import read_picture, write_picture
from apisr.upscale import tiles
from apisr.upscale.job import Job, failed_result
from apisr.weights import list_models
from apisr.weights.model import SOFT_TWIN, VIVID


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.png"
    write_picture(path, np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    return path


def one_line(ran: Ran, exit_code: int, *says: str, code: str = "") -> None:
    """Check that a command ended with one error line that names what is wrong, and with the right codes."""
    assert ran.returncode == exit_code, (ran.returncode, ran.stdout, ran.stderr)
    lines = [line for line in ran.stderr.splitlines() if line.startswith("apisr: error:")]
    assert len(lines) == 1, ran.stderr
    assert "Traceback" not in ran.stderr
    for part in says:
        assert part in lines[0], lines[0]
    if code:
        assert ran.code == code


def test_help_version_and_no_arguments(apisr: Run) -> None:
    assert "upscale" in apisr("--help").stdout
    assert apisr("--version").stdout.startswith("apisr ")
    assert apisr("upscale", "--help").returncode == 0


def test_a_picture_beside_its_input(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    done = apisr("upscale", picture, "--model", tiny_x2)
    assert done.returncode == 0, done.stderr
    assert "1 picture upscaled" in done.stdout
    assert read_picture(picture.with_name("a_x2.png")).pixels.shape == (40, 60, 3)


def test_a_folder_keeps_its_tree_and_ignores_other_files(
    apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path
) -> None:
    folder = picture.parent
    write_picture(folder / "unter ordner" / "ü b.webp", np.zeros((4, 4, 3), np.uint8))
    (folder / "notes.txt").write_text("no picture")
    done = apisr("upscale", folder, "-o", tmp_path / "out", "--model", tiny_x2, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [file["status"] for file in report["files"]] == ["done", "done"]
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert made == ["a.png", "unter ordner/ü b.webp"]
    again = json.loads(apisr("upscale", folder, "-o", tmp_path / "out", "--model", tiny_x2, "--json").stdout)
    assert [file["status"] for file in again["files"]] == ["skipped", "skipped"]


def test_a_bad_file_does_not_stop_a_batch(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    (picture.parent / "0bad.png").write_text("hello")
    done = apisr("upscale", picture.parent, "-o", tmp_path / "out", "--model", tiny_x2)
    one_line(done, 1, "0bad.png", "not a picture")
    assert read_picture(tmp_path / "out" / "a.png").pixels.shape == (40, 60, 3)
    assert "1 failed" in done.stdout


def test_other_factor_height_and_format(apisr: Run, picture: Path, tiny_x4: Path, tmp_path: Path) -> None:
    assert apisr("upscale", picture, "-o", tmp_path / "b.webp", "--scale", "3", "--model", tiny_x4).returncode == 0
    assert read_picture(tmp_path / "b.webp").pixels.shape == (60, 90, 3)
    assert (
        apisr(
            "upscale", picture, "-o", tmp_path / "o", "--height", "50", "--format", "tif", "--model", tiny_x4
        ).returncode
        == 0
    )
    assert read_picture(tmp_path / "o" / "a.tif").pixels.shape == (50, 75, 3)


def test_dry_run_writes_nothing(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    done = apisr("upscale", picture, "--model", tiny_x2, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "30x20 -> 60x40" in done.stdout
    assert "memory" in done.stdout
    assert [path.name for path in picture.parent.iterdir()] == ["a.png"]


def test_a_dry_run_goes_on_past_a_bad_file(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    """As the run does; a bad file that is alone ends with its own exit code."""
    bad = picture.with_name("0.png")
    bad.write_bytes(b"")
    done = apisr("upscale", picture.parent, "--model", tiny_x2, "--dry-run")
    assert done.returncode == 1
    assert "30x20 -> 60x40" in done.stdout
    assert [line for line in done.stderr.splitlines() if "error" in line] == [
        f"apisr: error: cannot read '{bad}': the file is empty (0 bytes)."
    ]
    told = apisr("upscale", picture.parent, "--model", tiny_x2, "--dry-run", "--json").json()
    assert [Path(file["source"]).name for file in told["files"]] == ["a.png"]
    assert [(Path(file["source"]).name, file["code"]) for file in told["failed"]] == [("0.png", "empty-file")]
    one_line(apisr("upscale", bad, "--model", tiny_x2, "--dry-run"), 2, code="empty-file")


def test_without_a_tile_the_memory_decides(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(picture, np.zeros((600, 700, 3), np.uint8), overwrite=True)
    monkeypatch.setattr(tiles, "total_memory", lambda: 2**32)

    def planned(*options: str) -> float:
        with pytest.raises(SystemExit) as end:
            main(["upscale", str(picture), "--model", "grl-x4", "--dry-run", "--json", *options])
        assert end.value.code in (0, None)
        return float(json.loads(capsys.readouterr().out)["files"][0]["memory_bytes"]) / 2**20

    assert planned() < 1500 < 6000 < planned("--tile", "512")


def test_quiet_prints_nothing(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    done = apisr("upscale", picture, "--model", tiny_x2, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.png"], ["missing.png", "no such file"]),
        (["{dir}/empty"], ["no pictures or videos"]),
        (["{picture}", "--scale", "99"], ["0.1 to 16", "99"]),
        (["{picture}", "--scale", "2", "--height", "100"], ["--scale and --height"]),
        (["{picture}", "--model", "no-such-model"], ["no-such-model"]),
        (["{picture}", "--model", "{dir}/text.onnx"], ["text.onnx"]),
        (["{picture}", "--device", "quantum"], ["quantum", "cpu"]),
        (["{picture}", "--tile", "none"], ["--tile"]),
        (["{picture}", "--no-such-option"], ["no-such-option"]),
        (["{picture}", "-o", "{dir}/out.xyz"], [".xyz"]),
        (["{picture}", "-o", "{picture}"], ["the input itself"]),
        (["{dir}/zero.png"], ["empty (0 bytes)"]),
        (["{dir}/cut.jpg"], ["cut.jpg", "damaged, cut off"]),
        (["{dir}/odd.png"], ["not a picture"]),
        (["n" * 5000], ["5000 bytes", "255"]),
        (["{picture}", "-o", "ö" * 200 + ".png"], ["404 bytes", "255"]),
        (["{picture}", "--model", "m" * 5000], ["bytes", "255"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    apisr: Run, picture: Path, tmp_path: Path, tiny_x2: Path, arguments: list[str], says: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "zero.png").touch()
    (tmp_path / "odd.png").write_text("a text")
    write_picture(tmp_path / "whole.jpg", np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    filled = [argument.format(dir=tmp_path, picture=picture) for argument in arguments]
    model = [] if "--model" in arguments else ["--model", str(tiny_x2)]
    before = sorted(tmp_path.rglob("*"))
    one_line(apisr("upscale", *filled, *model, cwd=tmp_path), 2, *says)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_shipped_model_is_refused(
    apisr: Run, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped models are copied, one byte is changed, and the copy is used."""
    import shutil

    from apisr.weights import model as apisr_weights

    shipped = tmp_path / "shipped"
    shutil.copytree(apisr_weights.SHIPPED, shipped)
    content = bytearray((shipped / "apisr-x2.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (shipped / "apisr-x2.onnx").chmod(0o644)
    (shipped / "apisr-x2.onnx").write_bytes(content)
    monkeypatch.setattr(apisr_weights, "SHIPPED", shipped)
    one_line(apisr("upscale", picture), 2, "apisr-x2", "SHA-256")


def test_existing_output_is_refused_and_left(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    target = picture.with_name("a_x2.png")
    target.write_bytes(b"mine")
    one_line(apisr("upscale", picture, "-o", target, "--model", tiny_x2), 2, "exists", "--overwrite")
    assert target.read_bytes() == b"mine"
    assert apisr("upscale", picture, "-o", target, "--model", tiny_x2, "--overwrite").returncode == 0
    assert read_picture(target).pixels.shape == (40, 60, 3)


def test_two_inputs_of_one_output_are_refused(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    write_picture(picture.with_suffix(".webp"), np.zeros((4, 4, 3), np.uint8))
    done = apisr("upscale", picture.parent, "-o", tmp_path / "o", "--format", "png", "--model", tiny_x2)
    one_line(done, 2, "both become")


def test_an_unwritable_folder(
    apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    folder = mounted("ro,size=1m") if os.geteuid() == 0 else locked  # permissions do not bind the administrator
    one_line(apisr("upscale", picture, "-o", folder / "b.png", "--model", tiny_x2), 2, "no permission")


def test_a_really_full_disk(
    apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    write_picture(tmp_path / "big.png", np.random.default_rng(0).integers(0, 256, (400, 600, 3)).astype(np.uint8))
    disk = mounted("size=256k")
    done = apisr("upscale", tmp_path / "big.png", "-o", disk / "out.png", "--model", tiny_x2)
    one_line(done, 1, "out.png", "the disk is full")
    assert list(disk.iterdir()) == []


def test_a_folder_under_a_file_cannot_be_written(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    one_line(apisr("upscale", picture, "-o", picture / "b.png", "--model", tiny_x2), 2, "is a file")


def test_a_full_disk_leaves_nothing_behind(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "big.png", np.random.default_rng(0).integers(0, 256, (400, 600, 3)).astype(np.uint8))

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        done = apisr("upscale", tmp_path / "big.png", "-o", tmp_path / "out.png", "--model", tiny_x2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    one_line(done, 1, "out.png")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


def test_ctrl_c_leaves_nothing_under_the_final_name(picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "big.png", np.zeros((3000, 4000, 3), np.uint8))
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "apisr",
            "upscale",
            str(tmp_path / "big.png"),
            "-o",
            str(tmp_path / "out.png"),
            "--model",
            str(tiny_x2),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out.partial.png").exists() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert not (tmp_path / "out.png").exists()
    assert not (tmp_path / "out.partial.png").exists()


def test_doctor(apisr: Run) -> None:
    found = json.loads(apisr("doctor", "--json").stdout)
    assert found["video encoders"]["libx264"] == "yes"
    assert "cpu" in found["devices"]["onnx"]


def test_a_clip_with_its_sound(apisr: Run, tiny_x2: Path, tmp_path: Path) -> None:
    """The example clip from end to end: frames, times, sound, and the same pictures with and without exact reuse."""
    import av

    clip = Path(__file__).resolve().parent.parent / "examples" / "clip.mkv"
    shown: dict[str, list[tuple[object, bytes]]] = {}
    for reuse in ("exact", "off"):
        target = tmp_path / f"{reuse}.mkv"
        done = apisr(
            *("upscale", clip, "-o", target, "--model", tiny_x2, "--reuse", reuse, "--hold", "off"),
            *("--preview", "1.5s@0", "--codec", "ffv1", "--json"),
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)["files"][0]["result"]
        assert result["frames_in"] == result["frames_out"] == 36
        with av.open(str(target)) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"]
            shown[reuse] = [(frame.time, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]
    assert shown["exact"] == shown["off"]
    with av.open(str(clip)) as container:
        times = [frame.time for _, frame in zip(range(36), container.decode(video=0), strict=False)]
    assert [time for time, _ in shown["exact"]] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--codec", "no-such-codec"], "no-such-codec"),
        (["--preview", "x@y"], "a time like"),
        (["--start", "5", "--end", "2"], "an end after the start"),
        (["--encoder-option", "tune"], "KEY=VALUE"),
        (["--native-resolution", "small"], "--native-resolution"),
        (["--pix-fmt", "yuv999"], "yuv999"),
    ],
)
def test_bad_video_options_are_one_line(
    apisr: Run, tiny_x2: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    clip = Path(__file__).resolve().parent.parent / "examples" / "clip.mkv"
    one_line(apisr("upscale", clip, "-o", tmp_path / "out.mkv", "--model", tiny_x2, *options), 2, says)
    assert not list(tmp_path.iterdir())


def test_numbered_pictures_become_a_video_and_the_other_way_round(apisr: Run, tiny_x2: Path, tmp_path: Path) -> None:
    import av

    for number in range(5):
        write_picture(tmp_path / f"in/{number:05d}.png", np.full((32, 48, 3), 40 * number, np.uint8))
    done = apisr(
        *("upscale", tmp_path / "in/%05d.png", "-o", tmp_path / "out.mkv", "--rate", "25", "--model", tiny_x2),
        *("--codec", "ffv1", "--hold", "off"),
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [float(frame.time or 0) for frame in container.decode(video=0)] == [0, 0.04, 0.08, 0.12, 0.16]
    done = apisr("upscale", tmp_path / "out.mkv", "-o", tmp_path / "large/%03d.png", "--model", tiny_x2)
    assert done.returncode == 0, done.stderr
    made = sorted((tmp_path / "large").glob("*.png"))
    assert len(made) == 5
    assert read_picture(made[0]).pixels.shape == (128, 192, 3)
    one_line(apisr("upscale", tmp_path / "in/%05d.png", "--model", tiny_x2), 2, "-o")
    one_line(apisr("upscale", tmp_path / "no/%05d.png", "-o", tmp_path / "x.mkv", "--model", tiny_x2), 2, "no picture")


COMMANDS_WITH_HELP = [
    path.split() for path in (*COMMANDS, "models list", "models show", "models fetch", "models verify")
]


@pytest.mark.parametrize("path", COMMANDS_WITH_HELP, ids=" ".join)
def test_every_help_has_examples_and_no_type_of_flags(apisr: Run, path: list[str]) -> None:
    shown = apisr(*path, "--help").stdout
    assert "<bool>" not in shown
    examples = shown.split("Examples:")[1]
    assert examples.count(f"apisr {' '.join(path)}") >= (3 if len(path) == 1 and path != ["doctor"] else 1)


def test_alone_the_program_shows_help_and_ends_well(apisr: Run) -> None:
    alone = apisr()
    assert alone.returncode == 0
    assert alone.stdout == apisr("--help").stdout


def test_usage_errors_name_the_help_of_the_command_and_the_value(apisr: Run) -> None:
    one_line(apisr("upscale", "x.png", "--tile", "none"), 2, "'none'", "Try: apisr upscale --help", code="usage")
    one_line(apisr("modles"), 2, "Did you mean 'models'?", code="usage")
    one_line(apisr("upscale", "x.png", "--format", "jpq"), 2, "'jpq'", "Did you mean 'jpg'?", code="usage")


@pytest.mark.parametrize("scale", ["2", "x2", "2x", "X2"])
def test_factors_as_people_write_them(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path, scale: str) -> None:
    done = apisr("upscale", picture, "-o", tmp_path / "o.png", "-s", scale, "-m", tiny_x2, "--format", "PNG")
    assert done.returncode == 0, done.stderr
    assert read_picture(tmp_path / "o.png").pixels.shape == (40, 60, 3)


def test_patterns_are_expanded(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    write_picture(picture.with_name("b.png"), np.zeros((4, 4, 3), np.uint8))
    done = apisr("upscale", picture.parent / "*.png", "-o", tmp_path / "out", "-m", tiny_x2, "--json")
    assert [Path(file["source"]).name for file in done.json()["files"]] == ["a.png", "b.png"]
    one_line(apisr("upscale", tmp_path / "*.tif", "-m", tiny_x2), 2, "*.tif", code="no-match")


def test_results_are_the_documented_models(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    from apisr.upscale.results import RunReport

    (picture.parent / "notes.txt").write_text("left out")
    done = apisr("upscale", picture.parent, "-o", tmp_path / "out", "-m", tiny_x2, "--json")
    report = RunReport.model_validate_json(done.stdout)
    assert report.files[0].status == "done"
    assert report.left_out == {picture.parent / "notes.txt": "other-kind"}


def test_progress_as_json_lines(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    done = apisr("upscale", picture, "-o", tmp_path / "o.png", "-m", tiny_x2, "--progress", "json", "--json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["kind"] for event in events if event["kind"] != "advanced"][:1] == ["started"]
    assert events[-1]["kind"] == "ended"
    assert done.json()["files"][0]["status"] == "done"


def test_settings_files_and_profiles(
    apisr: Run, picture: Path, tiny_x4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apisr.cli.settings.user_file", lambda: tmp_path / "home" / "apisr.toml")
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "apisr.toml").write_text("[upscale]\nscale = 3\nquality = 50\n")
    (here / "apisr.toml").write_text('[upscale]\nformat = "tif"\ncrf = 12\n[profiles.mine.upscale]\nscale = "x1.5"\n')
    settings = apisr("config", "upscale", "--json", cwd=here).json()["values"]["upscale"]
    assert settings["scale"] == {"value": 3, "origin": str(tmp_path / "home" / "apisr.toml")}
    assert settings["crf"]["value"] == 12
    options = ("-m", tiny_x4, "--engine", "onnx", "-o", tmp_path / "out")
    assert apisr("upscale", picture, *options, cwd=here).returncode == 0  # --crf of the file does not disturb pictures
    assert read_picture(tmp_path / "out" / "a.tif").pixels.shape == (60, 90, 3)
    assert apisr("upscale", picture, *options, "--profile", "mine", "--format", "png", cwd=here).returncode == 0
    assert read_picture(tmp_path / "out" / "a.png").pixels.shape == (30, 45, 3)
    one_line(apisr("upscale", picture, *options, "--crf", "9", cwd=here), 2, code="option-does-not-apply")
    one_line(apisr("upscale", picture, "--profile", "mien", cwd=here), 2, "'mine'", code="unknown-profile")
    (here / "apisr.toml").write_text("[upscale]\ncfr = 3\n")
    one_line(apisr("upscale", picture, cwd=here), 2, "'cfr'", "'crf'", code="unknown-setting")
    assert apisr("upscale", "--help", cwd=here).returncode == 0


def test_a_folder_is_watched(apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    (picture.parent / "growing.png").touch()  # empty: somebody is about to write it
    done = apisr("watch", picture.parent, "-o", tmp_path / "out", "-m", tiny_x2, "--once", "--every", "0.1")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    one_line(apisr("watch", picture, "-o", tmp_path / "out"), 2, code="no-such-folder")


def test_a_picture_and_a_video_through_pipes(picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    """The program between two processes of ffmpeg, as in the documents."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not on this machine")
    clip = Path(__file__).resolve().parent.parent / "examples" / "clip.mkv"
    program = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", "-m", str(tiny_x2), "--engine", "onnx"]
    read = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(clip),
        "-frames:v",
        "5",
        "-pix_fmt",
        "yuv420p",
        "-f",
        "yuv4mpegpipe",
        "-",
    ]
    write = ["ffmpeg", "-v", "error", "-i", "-", "-c:v", "ffv1", str(tmp_path / "out.mkv")]
    stream = subprocess.run(read, capture_output=True, check=True).stdout
    large = subprocess.run(program, input=stream, capture_output=True, check=True).stdout
    subprocess.run(write, input=large, check=True)
    import av

    with av.open(str(tmp_path / "out.mkv")) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(1280, 720)] * 5
    assert [round(float(frame.time or 0) * 24000 / 1001) for frame in frames] == [0, 1, 2, 3, 4]


def test_a_picture_through_a_pipe(apisr: Run, picture: Path, tiny_x2: Path) -> None:
    one_line(apisr("upscale", "-", "-o", "-", stdin=b""), 2, code="empty-input")
    one_line(apisr("upscale", "-", "-o", "-", stdin=b"no picture at all"), 2, code="bad-pipe")
    one_line(apisr("upscale", "-", picture, "-o", "-"), 2, code="bad-pipe")


def test_names_that_steer_a_terminal_are_shown(apisr: Run, tiny_x2: Path, tmp_path: Path) -> None:
    bad = tmp_path / "a\x1b[31m\n.png"
    bad.write_text("hello")
    done = apisr("upscale", bad, "-o", tmp_path / "o.png", "-m", tiny_x2)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b[31m" in done.stderr


@pytest.mark.parametrize("target", ["o.png", "o.tif"])
@pytest.mark.parametrize("rest", [[], ["--dry-run"]])
def test_a_size_beyond_the_memory_is_a_bad_argument(
    apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path, target: str, rest: list[str]
) -> None:
    size = ["--height", 99999999]
    done = apisr("upscale", picture, "-o", tmp_path / target, "-m", tiny_x2, "--engine", "onnx", "-q", *size, *rest)
    one_line(done, 2, "--height 99999999", "Give a smaller number")
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("rest", [[], ["--dry-run"], ["--quiet"], ["--progress", "lines", "--verbose"]])
def test_a_line_break_in_a_name_breaks_no_line(
    apisr: Run, picture: Path, tiny_x2: Path, tmp_path: Path, rest: list[str]
) -> None:
    good, bad = tmp_path / "two\nlines.png", tmp_path / "forged\napisr: error: a.png"
    write_picture(good, read_picture(picture))
    bad.write_text("hello")
    done = apisr("upscale", good, bad, "-o", tmp_path / "o\nut", "-m", tiny_x2, "--engine", "onnx", *rest)
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    assert "forged\\x0aapisr" in printed
    assert not [line for line in printed.splitlines() if line.startswith(("lines", "ut", "apisr: error: a.png"))]


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "no\nsuch.png", "-o", "o.png"],
        ["upscale", "a.png", "--tile", "1\n2"],
        ["upscale", "a.png", "--to\ntal"],
        ["enhance", "no\nsuch.png", "-o", "o.png"],
        ["degrade", "no\nsuch", "-p", "bicubic", "-s", "2", "-o", "o"],
        ["evaluate", "no\nsuch.png", "--metrics", "niqe", "-o", "r"],
        ["models", "show", "no\nsuch"],
        ["no\nsuch"],
    ],
)
def test_a_line_break_in_an_argument_is_shown(apisr: Run, tmp_path: Path, arguments: list[str]) -> None:
    done = apisr(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert any(word in done.stderr for word in ("\\x0a", "\\n")), done.stderr


def test_a_closed_standard_error_and_output_do_no_harm(picture: Path, tiny_x2: Path, tmp_path: Path) -> None:
    line = f"'{sys.executable}' -m apisr upscale '{picture}' -o '{tmp_path / 'o.png'}' -m '{tiny_x2}' --engine onnx"
    assert subprocess.run(["bash", "-c", f"{line} >&- 2>&-"], check=False).returncode == 0
    assert read_picture(tmp_path / "o.png").pixels.shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (PermissionError(13, "Permission denied", "a.png"), 1, "system"),
        (OSError(36, "File name too long", "a/" + "n" * 300), 2, "name-too-long"),
        (MemoryError(), 1, "out-of-memory"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "bad-text"),
        (KeyboardInterrupt(), 130, "cancelled"),
    ],
)
def test_errors_of_the_system_are_known(error: BaseException, exit_code: int, code: str) -> None:
    failure = failure_of(error)
    assert (failure.exit_code, failure.code) == (exit_code, code)
    assert "unexpected" not in failure.line


def test_models_say_of_a_twin_which_model_uses_it(apisr: Run) -> None:
    rows = {row["name"]: row["for"] for row in json.loads(apisr("models", "--json").stdout)}
    soft = {model.name for model in list_models() if model.card.get(SOFT_TWIN)}
    assert "apisr-x2" in soft
    for name in soft:
        assert rows[f"{name}{VIVID}"] == f"sharpens soft sources; {name} uses it where needed"


def test_completion_knows_models_codecs_presets_and_profiles() -> None:
    assert completing.models("grl") == ["grl-x4", "grl-x4-vivid"]
    assert completing.words(completing.ENCODERS)("libx26") == ["libx264", "libx265"]
    assert "paper-stage1" in completing.presets("apisr.train")("paper")
    assert completing.profiles("d") == ["dvd"]
    assert "psnr,ssim" in completing.metrics("psnr,ss")


def test_the_pages_made_from_the_program(script: Callable[[str], ModuleType]) -> None:
    """The reference of commands and results can be made, and names every command and every result."""
    site = script("site")
    pages = site.pages()
    for name in COMMANDS:
        assert f"## apisr {name}" in pages["reference/commands.md"]
    for name in site.result_models():
        assert f"## apisr {name} --json" in pages["reference/results.md"]
    assert "`--tile`" in pages["reference/commands.md"]
    assert "apisr-x2" in pages["reference/cards.md"]


@pytest.mark.parametrize("error", [MemoryError(), ImportError("libssl.so: failed to map segment from shared object")])
def test_too_little_memory_is_called_that(tmp_path: Path, error: Exception) -> None:
    """Libraries that are loaded late fail first where the address space is limited."""
    assert failure_of(error).code == "out-of-memory"
    job = Job(tmp_path / "a.png", tmp_path / "b.png", "picture")
    assert failed_result(job, error).code == "out-of-memory"
