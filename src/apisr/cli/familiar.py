"""What people type who know other programs, and what it is called here.

>>> hint_for_option("--gpu-id", ["upscale", "a.png", "--gpu-id", "0"])
'Here it is --device cuda:0.'
>>> hint_for_command("gui")
"Here it is 'apisr app'."
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

#: Options of other upscalers, by what is said of them; those of one letter are taken where nothing else has them.
_OPTIONS = {
    "Inputs stand alone: apisr upscale IN -o OUT.": "-i --input --input-path",
    "Here it is --model.": "-n --model-name --model_name --model-path --model_path",
    "Here it is --device cuda:0.": "-g --gpu --gpu-id --gpu_id --gpuid",
    "Here it is --scale.": "--outscale --upscale --factor",
    "Here it is --height; the width follows.": (
        "--width --resolution --target-height --target-size --target-resolution --output-size --size"
    ),
    "Here it is --dry-run.": "--estimate --estimate-time --info --plan --simulate",
    "Here it is -o.": "--out --out-dir --outdir --output-dir --output_dir --output-path --output_path --output-folder",
    "Here it is --precision fp16, or fp32, bf16.": "--fp16 --half --fp32 --bf16",
    "Here it is --tile.": "-t --tile-size --tile_size --tilesize",
    "Here it is --format for pictures and --container for videos.": "-f --ext --extension --output-format",
    "Here it is --tta.": "-x --tta-mode",
    "Cleaning is learned and has no dial; --strength goes from faithful to vivid.": (
        "-dn --denoise --denoise-strength --denoise_strength --noise --noise-level --noise_level"
    ),
    "Here it is --overwrite.": "-y --yes --force",
    "Here it is --workers.": "-j --jobs --num_process_per_gpu --batch-size --batch_size",
    "An interrupted run goes on by itself.": "--resume --continue",
    "Outputs that were made before are skipped by themselves.": "--skip-existing --skip_existing",
    "Folders are searched with all that is below them.": "--recursive",
    "Here it is --engine.": "--backend",
    "What does not change is computed once by itself (--reuse, --hold).": "--dedup --dedupe",
    "Here it is --codec.": "-c --encoder --vcodec --encode_method",
    "Any option of the encoder: --encoder-option b=8M.": "--bitrate",
    "Frames keep their times; --rate is for numbered pictures.": "--fps",
    "Here they are --start and --end.": "--inpoint --outpoint --ss --to",
    "Sound and everything else is kept by itself.": "--audio --copy-audio --keep-audio",
    "Transparency is kept by itself.": "--alpha_upsampler --alpha-upsampler",
    "Speed is measured by 'apisr doctor --benchmark'.": "--benchmark",
}
_COMMANDS = {
    "apisr app": "gui ui web serve server",
    "apisr models": "list list-models",
    "apisr models fetch": "download fetch",
    "apisr --version": "version",
    "apisr upscale IN --dry-run": "info probe",
    "apisr export": "convert",
    "apisr upscale IN": "run video image enlarge",
}


def hint_for_option(name: str, line: Sequence[str]) -> str:
    """Return what an unknown option of ``apisr upscale`` or ``apisr watch`` is called here, empty if nothing is known.

    Args:
        name: as the parser found it: ``-d`` of ``-dn``.
        line: the command line.
    """
    if not line or line[0] not in ("upscale", "watch"):
        return ""
    if any(not argument.startswith("--") and Path(argument).exists() for argument in line if argument.startswith(name)):
        return "Of a file whose name begins with a dash, write ./ before it."
    typed = {argument.partition("=")[0] for argument in line if argument.startswith(name)}
    return next((advice for advice, names in _OPTIONS.items() if typed & set(names.split())), "")


def hint_for_command(name: str) -> str:
    """Return what an unknown command is called here, or what to do with a file; empty if nothing is known."""
    if Path(name).exists():
        return "To upscale it: apisr upscale " + (f"'{name}'" if " " in name else name)
    found = next((ours for ours, names in _COMMANDS.items() if name in names.split()), None)
    return f"Here it is '{found}'." if found else ""
