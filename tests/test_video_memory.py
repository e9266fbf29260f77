"""Memory does not depend on the length of a video."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import av
import pytest
from video_clips import make_clip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
def test_ten_times_the_frames_need_no_more_memory(tmp_path: Path) -> None:
    piece = make_clip(tmp_path / "piece.mkv", frames=100, size=(192, 128), options={"g": "50", "bf": "0"})
    peaks: list[float] = []
    for times in (2, 20):
        source = _repeated(piece, tmp_path / f"{times}.mkv", times)
        program = textwrap.dedent(
            f"""
            import sys
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from video_clips import Nearest
            from apisr.upscale.options import VideoOptions
            from video_clips import upscale_video
            options = VideoOptions(preset="ultrafast", segment_frames=100)
            source, target = Path({str(source)!r}), Path({str(tmp_path / f"{times}_x2.mkv")!r})
            done = upscale_video(source, target, Nearest, options, scale=2)
            status = Path("/proc/self/status").read_text()
            print(done.frames_out, int(status.split("VmHWM:")[1].split()[0]) / 1024)
            """
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        frames, peak = done.stdout.split()
        assert int(frames) == 100 * times
        peaks.append(float(peak))
    assert peaks[1] < peaks[0] + 25, f"peak MiB: {peaks}"


def _repeated(piece: Path, target: Path, times: int) -> Path:
    with av.open(str(piece)) as container, av.open(str(target), "w") as out:
        contents = [(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for number in range(times * len(contents)):
            data, key = contents[number % len(contents)]
            packet = av.Packet(data)
            packet.pts = packet.dts = number * 40
            packet.time_base = copy.time_base
            packet.is_keyframe = key
            packet.stream = copy
            out.mux(packet)
    return target
