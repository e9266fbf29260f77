"""How work is done on the command line: several inputs, names that people know, what is said before, during, after."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from conftest import Ran, Run

from apisr.cli import build
from apisr.cli.commands import COMMANDS
from apisr.cli.familiar import _COMMANDS, _OPTIONS
from apisr.image import read_picture, write_picture
from apisr.video.rgb import plane_arrays

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """Return a folder with two folders of one drawing each."""
    generator = np.random.default_rng(0)
    for name in ("one/a.png", "two/b.png"):
        write_picture(tmp_path / "in" / name, generator.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    return tmp_path / "in"


def refused(ran: Ran, code: str, *says: str) -> None:
    assert (ran.returncode, ran.code) == (2, code), ran.stderr
    assert len([line for line in ran.stderr.splitlines() if line.startswith("apisr: error:")]) == 1
    assert all(part in ran.stderr for part in says), ran.stderr


@pytest.mark.parametrize("command", ["enhance", "degrade"])
def test_patterns_and_several_inputs(apisr: Run, drawings: Path, tmp_path: Path, command: str) -> None:
    for number, inputs in enumerate(
        (
            [drawings / "*" / "*.png"],
            [drawings / "one", drawings / "two" / "b.png"],
            [drawings / "one", drawings / "t*"],
        )
    ):
        out = tmp_path / f"out{number}"
        done = apisr(command, *inputs, "-o", out)
        assert done.returncode == 0, done.stderr
        assert {"a.png", "b.png"} <= {path.name for path in out.iterdir()}
    refused(apisr(command, drawings / "*.tif", "-o", tmp_path / "no"), "no-match", "*.tif")


def test_several_pictures_cannot_become_one_file(apisr: Run, drawings: Path, tmp_path: Path) -> None:
    refused(apisr("enhance", drawings / "one", drawings / "two", "-o", tmp_path / "o.png"), "one-output", "o.png")
    assert apisr("enhance", drawings / "one" / "*.png", "-o", tmp_path / "o.png").returncode == 0
    assert read_picture(tmp_path / "o.png").pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("APISR_x2", "apisr-x2"),
        ("APISR x4 max", "apisr-x4-max"),
        ("grl", "grl-x4"),
    ],
)
def test_names_that_people_know(apisr: Run, drawings: Path, asked: str, meant: str) -> None:
    scale = ["--scale", "4"] if meant.endswith("x4") else []
    done = apisr("upscale", drawings / "one", "--model", asked, "--dry-run", "--json", *scale)
    assert done.returncode == 0, done.stderr
    assert done.json()["files"][0]["model"].startswith(meant)


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        ("apisr-x3", "no-such-model", "Did you mean 'apisr-x"),
        ("realesrgan", "no-such-model", "Did you mean 'realesrgan-anime-6b'?"),
        ("animevideov3", "model-not-fetched", "apisr models fetch realesr-animevideov3"),
        ("RealESRGAN_x4plus_anime_6B", "model-not-fetched", "apisr models fetch realesrgan-anime-6b"),
        ("4x_APISR_GRL_GAN_generator", "model-not-fetched", "apisr models fetch apisr-grl-x4"),
    ],
)
def test_a_model_that_is_not_here(
    apisr: Run, drawings: Path, tmp_path: Path, asked: str, code: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    refused(apisr("upscale", drawings / "one", "--model", asked), code, says)


def test_internals_are_said_only_when_asked_for(apisr: Run, tiny_x2: Path, tmp_path: Path) -> None:
    line = (
        "upscale",
        EXAMPLES / "clip.mkv",
        "-m",
        tiny_x2,
        "--engine",
        "onnx",
        "--preview",
        "0.5s",
        "--preset",
        "ultrafast",
    )
    plain = apisr(*line, "-o", tmp_path / "plain.mkv")
    verbose = apisr(*line, "-o", tmp_path / "verbose.mkv", "--verbose")
    assert plain.returncode == verbose.returncode == 0, plain.stderr + verbose.stderr
    internals = ("hold filter", "reuse:", "busy:", "onnx (cpu")
    assert not [word for word in internals if word in plain.stderr + plain.stdout]
    assert all(word in verbose.stderr for word in internals), verbose.stderr
    assert "join" not in plain.stderr


def test_ctrl_c_says_how_far_and_what_the_next_run_does(tiny_x2: Path, tmp_path: Path) -> None:
    line = ["upscale", str(EXAMPLES / "clip.mkv"), "-o", str(tmp_path / "o.mkv"), "--model", "apisr-x2-fast"]
    with subprocess.Popen(
        [sys.executable, "-m", "apisr", *line, "--engine", "onnx", "--reuse", "off", "--progress", "json"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        assert running.stderr is not None
        events = (json.loads(event) for event in running.stderr if event.startswith("{"))
        assert any(event["stage"] == "upscale" and event["done"] >= 1 for event in events)
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130, rest
    last = rest.splitlines()[-1]
    assert last.startswith("apisr: stopped at frame ")
    assert last.endswith("of 120; the same command begins again, for no segment is complete.")
    assert not (tmp_path / "o.mkv").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--quality", "80", "--format", "png"],
        ["--workers", "2"],
        ["--source", "soft", "--model", "apisr-x2-vivid"],
    ],
)
def test_options_that_can_do_nothing_are_refused(apisr: Run, drawings: Path, options: list[str]) -> None:
    refused(apisr("upscale", drawings, *options, "--dry-run"), "cannot-apply", options[0])


def test_options_of_settings_files_need_not_apply(apisr: Run, drawings: Path) -> None:
    (drawings / "apisr.toml").write_text('[upscale]\nquality = 80\nworkers = 2\nsource = "soft"\nscale = 4\n')
    done = apisr("upscale", drawings / "one", "--dry-run", "--json", cwd=drawings)
    assert done.returncode == 0, done.stderr
    assert done.json()["files"][0]["model"].startswith("apisr-x4")
    assert apisr("upscale", drawings / "one", "--format", "webp", "--quality", "80", "--dry-run").returncode == 0
    assert apisr("upscale", drawings / "one", "--source", "soft", "--dry-run").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--modle", "x"], "Did you mean '--model'? Try: apisr upscale --help"),
        (["--threads", "abc"], "expected a whole number, got 'abc'. Try: apisr upscale --help"),
        (["--crf", "x"], "expected a number, got 'x'."),
        (["--engine", "onx"], "'onx' is not one of 'auto', 'onnx'"),
    ],
)
def test_usage_errors_are_plain(apisr: Run, arguments: list[str], says: str) -> None:
    ran = apisr("upscale", "a.png", *arguments)
    refused(ran, "usage", says)
    assert "Value error" not in ran.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["upscale", "-i", "a.png", "-o", "b.png"], "Inputs stand alone: apisr upscale IN -o OUT."),
        (["upscale", "a.png", "-n", "realesr-animevideov3"], "Here it is --model."),
        (["upscale", "a.png", "-dn", "0.5"], "--strength goes from faithful to vivid."),
        (["upscale", "a.png", "--gpu-id=1"], "Here it is --device cuda:0."),
        (["upscale", "a.png", "--target-size", "1080p"], "Here it is --height; the width follows."),
        (["upscale", "a.png", "--estimate"], "Here it is --dry-run."),
        (["upscale", "a.png", "--output-dir", "b"], "Here it is -o."),
        (["upscale", "a.png", "--overwrit"], "Did you mean '--overwrite'?"),
        (["gui"], "Here it is 'apisr app'."),
        ([str(EXAMPLES / "scene.png")], f"To upscale it: apisr upscale {EXAMPLES / 'scene.png'}."),
    ],
)
def test_words_of_other_programs(apisr: Run, line: list[str], says: str) -> None:
    refused(apisr(*line), "usage", says)


def test_a_file_whose_name_begins_with_a_dash_is_not_an_option(
    apisr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(EXAMPLES / "scene.png", tmp_path / "-dash.png")
    monkeypatch.chdir(tmp_path)
    refused(apisr("upscale", "-dash.png"), "usage", "write ./ before it")


def test_lines_may_be_written_as_people_write_them(apisr: Run, tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    assert apisr("upscale", EXAMPLES / "scene.png", "-o", target, "--height", "90p").returncode == 0
    assert read_picture(target).pixels.shape[0] == 90
    refused(apisr("upscale", "a.png", "--height", "big"), "usage", "expected a number of lines like 1080 or 2160")


@pytest.mark.parametrize("option", ["--face-enhance", "--denois-x", "--suffix"])
def test_nothing_far_off_is_suggested(apisr: Run, option: str) -> None:
    ran = apisr("upscale", "a.png", option)
    refused(ran, "usage", f"No such option: {option}. Try: ")


def test_words_of_other_programs_lead_to_options_that_exist() -> None:
    command = typer.main.get_command(build(["upscale"])).commands["upscale"]  # type: ignore[attr-defined]
    ours = {option for parameter in command.params for option in parameter.opts}
    for said, names in _OPTIONS.items():
        assert {word for word in re.findall(r"--[a-z-]+", said) if word != "--benchmark"} <= ours, said
        assert not ours & set(names.split()), names
    for line, names in _COMMANDS.items():
        assert not set(COMMANDS) & set(names.split())
        assert line.split()[1] in {*COMMANDS, "--version"}


def y4m(frames: int, *, deep: bool = False) -> bytes:
    """Return a stream of 64x48 noise with an aspect and a chroma position."""
    header = b"YUV4MPEG2 W64 H48 F24000:1001 Ip A32:27 " + (b"C420p10" if deep else b"C420mpeg2") + b"\n"
    generator = np.random.default_rng(0)
    samples = 64 * 48 * 3 // 2
    picture = (
        generator.integers(64, 900, samples).astype("<u2")
        if deep
        else generator.integers(16, 235, samples).astype("u1")
    )
    return header + frames * (b"FRAME\n" + picture.tobytes())


@pytest.mark.parametrize("deep", [False, True])
def test_a_stream_keeps_its_header_but_for_the_size(tiny_x2: Path, deep: bool) -> None:
    line = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", "-m", str(tiny_x2), "--engine", "onnx"]
    done = subprocess.run(line, input=y4m(3, deep=deep), capture_output=True, check=True)
    source = y4m(1, deep=deep).partition(b"\n")[0]
    assert done.stdout.partition(b"\n")[0] == source.replace(b"W64 H48", b"W128 H96")
    assert len(done.stdout) == len(source.replace(b"W64 H48", b"W128 H96")) + 1 + 3 * (
        6 + (2 if deep else 1) * 128 * 96 * 3 // 2
    )


def planes(path: Path) -> list[np.ndarray]:
    """Return the samples of all frames of a video, as they are stored."""
    with av.open(str(path)) as container:
        return [plane for frame in container.decode(video=0) for plane in plane_arrays(frame)]


@pytest.mark.parametrize(
    ("words", "samples"),
    [
        (b"C420jpeg XYSCSS=420JPEG XCOLORRANGE=FULL", 1.5),
        (b"C420mpeg2 XCOLORRANGE=LIMITED", 1.5),
        (b"C420paldv", 1.5),
        (b"C422", 2),
        (b"C444", 3),
        (b"Cmono", 1),
    ],
)
def test_a_stream_has_the_colours_of_the_file(
    apisr: Run, tiny_x2: Path, tmp_path: Path, words: bytes, samples: float
) -> None:
    """Range and place of colour are those that the header states: the samples are those of the same file."""
    noise = np.random.default_rng(0).integers(16, 235, int(64 * 48 * samples)).astype("u1")
    source = b"YUV4MPEG2 W64 H48 F24:1 Ip A1:1 " + words + b"\n" + 2 * (b"FRAME\n" + noise.tobytes())
    (tmp_path / "in.y4m").write_bytes(source)
    model = ["-m", tiny_x2, "--engine", "onnx"]
    done = apisr("upscale", tmp_path / "in.y4m", "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--hold", "off", *model)
    assert done.returncode == 0, done.stderr
    line = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", *map(str, model)]
    (tmp_path / "out.y4m").write_bytes(subprocess.run(line, input=source, capture_output=True, check=True).stdout)
    for ours, files in zip(planes(tmp_path / "out.y4m"), planes(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(ours, files)


def test_an_interlaced_stream_is_refused(tiny_x2: Path) -> None:
    line = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", "-m", str(tiny_x2), "--engine", "onnx"]
    stream = y4m(1).replace(b" Ip ", b" It ")
    refusal = subprocess.run(line, input=stream, capture_output=True, check=False)
    assert (refusal.returncode, refusal.stdout) == (2, b"")
    assert b"--deinterlace off" in refusal.stderr
    taken = subprocess.run([*line, "--deinterlace", "off"], input=stream, capture_output=True, check=True)
    assert b" It " in taken.stdout.partition(b"\n")[0]


def test_a_stream_that_players_would_take_for_another_matrix_says_so(apisr: Run, tiny_x2: Path) -> None:
    header = b"YUV4MPEG2 W64 H300 F24:1 Ip A1:1 C420jpeg\n"
    line = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", "-m", str(tiny_x2), "--engine", "onnx"]
    frame = b"FRAME\n" + bytes(64 * 300 * 3 // 2)
    done = subprocess.run(line, input=header + frame, capture_output=True, check=True)
    assert b"-colorspace bt470bg" not in done.stderr  # 300 lines are taken for 525-line video
    assert b"-colorspace smpte170m" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "picture", "says"),
    [
        (["--crf", "3"], False, "--crf can do nothing for a y4m stream"),
        (["--format", "webp"], False, "--format can do nothing"),
        (["--dry-run"], False, "--dry-run can do nothing"),
        (["--hold", "off"], False, "--hold can do nothing"),
        (["--workers", "2"], True, "--workers can do nothing for a picture in a pipe"),
        (["--json"], True, "--json can do nothing"),
    ],
)
def test_options_that_can_do_nothing_in_a_pipe_are_refused(
    apisr: Run, drawings: Path, arguments: list[str], picture: bool, says: str
) -> None:
    content = (drawings / "one" / "a.png").read_bytes() if picture else y4m(1)
    refused(apisr("upscale", "-", "-o", "-", *arguments, stdin=content), "cannot-apply", says)


def test_a_picture_between_a_pipe_and_a_file(apisr: Run, drawings: Path, tiny_x2: Path, tmp_path: Path) -> None:
    source, model = drawings / "one" / "a.png", ["-m", tiny_x2, "--engine", "onnx"]
    done = apisr("upscale", source, "-o", tmp_path / "file.png", *model)
    assert done.returncode == 0, done.stderr
    done = apisr("upscale", "-", "-o", tmp_path / "piped.png", *model, stdin=source.read_bytes())
    assert done.returncode == 0, done.stderr
    assert "standard input -> " in done.stderr
    line = [sys.executable, "-m", "apisr", "upscale", str(source), "-o", "-", *map(str, model)]
    (tmp_path / "out.png").write_bytes(subprocess.run(line, capture_output=True, check=True).stdout)
    expected = read_picture(tmp_path / "file.png").pixels
    for name in ("piped.png", "out.png"):
        np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-"], "Say with -o where"),
        (["{clip}", "-o", "-"], "it is a video"),
        (["{folder}", "-o", "-"], "it is not a file"),
        (["-", "-o", "{folder}/out.mkv"], "a y4m stream goes to standard output"),
    ],
)
def test_what_a_pipe_does_not_take(apisr: Run, drawings: Path, arguments: list[str], says: str) -> None:
    names = {"clip": EXAMPLES / "clip.mkv", "folder": drawings}
    ran = apisr("upscale", *[argument.format(**names) for argument in arguments], stdin=y4m(1))
    refused(ran, "bad-pipe", says)


def test_a_stream_that_breaks_off_is_an_error(tiny_x2: Path) -> None:
    line = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", "-m", str(tiny_x2), "--engine", "onnx"]
    done = subprocess.run(line, input=y4m(3)[:-100], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(b"apisr: error: standard input broke off in frame 3")
    whole = subprocess.run(line, input=y4m(2), capture_output=True, check=True)
    assert done.stdout == whole.stdout


def test_a_reader_that_goes_away_ends_the_program_quietly(tiny_x2: Path) -> None:
    line = [sys.executable, "-m", "apisr", "upscale", "-", "-o", "-", "-m", str(tiny_x2), "--engine", "onnx"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.close()
        _, errors = running.communicate(y4m(200), timeout=120)
    assert running.returncode == 1
    assert b"error" not in errors


def test_a_broken_picture_in_a_pipe_is_called_standard_input(apisr: Run, drawings: Path) -> None:
    ran = apisr("upscale", "-", "-o", "-", stdin=(drawings / "one" / "a.png").read_bytes()[:900])
    assert ran.returncode == 2
    assert "standard input" in ran.stderr
    assert "/" not in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("[upscale]\ncrf = 'high'\n", "usage", "a settings file or profile says 'high'"),
        ("[profiles.my]\nupscale = 3\n", "unknown-setting", "'upscale' is not a table"),
        ("[upscal]\ncrf = 3\n", "unknown-setting", "Did you mean 'upscale'?"),
    ],
)
def test_bad_settings_say_where_they_are(apisr: Run, drawings: Path, text: str, code: str, says: str) -> None:
    (drawings / "apisr.toml").write_text(text)
    refused(apisr("upscale", drawings / "one", "--dry-run", cwd=drawings), code, says)
