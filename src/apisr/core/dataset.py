"""Which pictures of a dataset are accepted: the little of :mod:`apisr.curate` that every command needs to know.

A folder with a ``manifest.parquet`` is a dataset. Its manifest says of every picture whether it was accepted; commands
that read folders take the accepted ones and name the others. Reading it needs the extra ``curate``.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from apisr.core.errors import InputError, MissingExtra
from apisr.core.files import path_inside
from apisr.core.memory import check_memory
from apisr.core.text import printable

#: What makes a folder a dataset.
MANIFEST_NAME = "manifest.parquet"
_COLUMNS = ["file", "decision"]
_MAX_NAME_BYTES = 4096


def read_decisions(folder: Path) -> dict[Path, bool]:
    """Read which pictures of a dataset are accepted.

    Args:
        folder: the dataset; its manifest exists.

    Returns:
        File of every picture -> whether it was accepted, in the order of the manifest.

    Raises:
        MissingExtra: the package that reads manifests is not installed.
        InputError: not a manifest (``bad-manifest``), or one whose names lead out of the folder (``path-outside``).
    """
    path = folder / MANIFEST_NAME
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        where = printable(folder)
        purpose = f"to read which pictures of the dataset '{where}' are accepted (name '{where}/images' for all)"
        raise MissingExtra("curate", purpose) from error
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.metadata.num_rows
            check_memory(rows * _MAX_NAME_BYTES, what=f"the manifest '{path}' ({rows} rows)", advice="Split it.")
            records = cast("list[dict[str, object]]", file.read(columns=_COLUMNS, use_threads=False).to_pylist())
        named = [(record["file"], record["decision"]) for record in records]
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise not_a_manifest(path, reason) from error
    return {path_inside(folder, str(name)): decision == "accept" for name, decision in named if name}


def not_a_manifest(path: Path, reason: str) -> InputError:
    """Return what is said of a file that is not a manifest, or a damaged one."""
    return InputError(
        f"cannot read '{printable(path)}': it is not a manifest of apisr curate ({printable(reason)[:200]}).",
        code="bad-manifest",
    )
