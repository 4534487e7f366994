"""The tables as files, with checksums, so that damage is seen."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from hypergradient.study.files import as_text, atomic_write, quarantine, sha256, write_text

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

TABLES = ("runs.parquet", "runs.csv", "epochs.parquet", "epochs.csv")

SUMS = "SHA256SUMS"
"""The tables' checksums, as ``sha256sum --check`` reads them."""

REPORT, DRAWN = "report.html", "report.sha256"
"""The report, and the checksums of what it was made of and of itself."""


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


def is_drawn(folder: Path, of: str) -> bool:
    """Return whether the report there was made of the tables there, and of ``of``."""
    try:
        written = (folder / DRAWN).read_text(encoding="utf-8", errors="replace")
        figures = (folder / "figures").is_dir()
        return figures and written == _drawn(folder, of)
    except OSError:
        return False


def note_drawn(folder: Path, of: str) -> None:
    """Note that the report there was made of the tables there, and of ``of``."""
    with suppress(FileNotFoundError):  # somebody has deleted it already
        write_text(folder / DRAWN, _drawn(folder, of))


def _drawn(folder: Path, of: str) -> str:
    source = of.encode() + (folder / SUMS).read_bytes()
    return f"{sha256(source)}  source\n{sha256((folder / REPORT).read_bytes())}  {REPORT}\n"


def foreign_files(folder: Path) -> list[Path]:
    """Return the files in a results folder that tables and report would replace, if not our own."""
    if (folder / SUMS).exists() or (folder / "runs").is_dir():
        return []
    return [folder / name for name in (*TABLES, REPORT) if (folder / name).exists()]


def damaged_tables(folder: Path) -> list[Path]:
    """Return the tables that are not, to the byte, what was written."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    written = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = [folder / name for name in TABLES if name in written and (folder / name).is_file()]
    return [path for path in there if sha256(path.read_bytes()) != written[path.name]]
