"""The tables as files, with checksums, so that damage is seen."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from hypergradient.study.files import as_text, atomic_write, quarantine, sha256, write_text

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

TABLES = ("runs.parquet", "runs.csv", "epochs.parquet", "epochs.csv")

SUMS = "SHA256SUMS"
"""The tables' checksums, as ``sha256sum --check`` reads them."""


def write_tables(runs: pl.DataFrame, epochs: pl.DataFrame, folder: Path) -> None:
    """Write ``runs`` and ``epochs`` into ``folder``, each as Parquet and CSV, and their sha256.

    Of the tables that are there, those that are damaged are kept aside.
    """
    for path in damaged_tables(folder):
        quarantine(path)
    writers: tuple[Any, ...] = (
        runs.write_parquet,
        as_text(runs).write_csv,
        epochs.write_parquet,
        as_text(epochs).write_csv,
    )
    sums = []
    for name, write in zip(TABLES, writers, strict=True):
        write(content := BytesIO())
        with atomic_write(folder / name) as partial:
            partial.write_bytes(content.getbuffer())  # here a full disk is an OSError
        sums.append(f"{sha256(content.getbuffer())}  {name}\n")
    write_text(folder / SUMS, "".join(sums))


def foreign_files(folder: Path) -> list[Path]:
    """Return the files in a results folder that tables and report would replace, if not our own."""
    if (folder / SUMS).exists() or (folder / "runs").is_dir():
        return []
    return [folder / name for name in (*TABLES, "report.html") if (folder / name).exists()]


def damaged_tables(folder: Path) -> list[Path]:
    """Return the tables that are not, to the byte, what was written."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    written = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = [folder / name for name in TABLES if name in written and (folder / name).is_file()]
    return [path for path in there if sha256(path.read_bytes()) != written[path.name]]
