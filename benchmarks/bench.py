"""All benchmarks, and docs/benchmarks.md from their raw numbers: what `make bench` runs.

    python benchmarks/bench.py [--only peers throughput ...] [--data-dir DIR]

Each part is a program beside this one and leaves its numbers in docs/benchmarks/PART.json at once:
an interrupted command goes on where it was, and measures anew what was measured of other code.
`--only document` draws and writes from the numbers that are there. Run it on a machine that does
nothing else.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import document
from recording import FOLDER, Recording

HERE = Path(__file__).parent
MEASURED = ("peers", "throughput", "overhead", "growth")  # each records its own numbers
PRINTED = ("step", "stacking", "gdtuo", "convex")  # these print Markdown, which is recorded
WITH_DATA = ("throughput", "overhead")


def printed(part: str, folder: Path) -> None:
    """Run a program that prints Markdown, and keep it."""

    def run() -> str:
        command = [sys.executable, str(HERE / f"{part}.py")]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    Recording(part, folder).measure("printed", run)


def measured(part: str, folder: Path, data_dir: Path | None) -> None:
    command = [sys.executable, str(HERE / f"{part}.py"), "--folder", str(folder)]
    if data_dir and part in WITH_DATA:
        command += ["--data-dir", str(data_dir)]
    subprocess.run(command, check=True)


def main() -> None:
    there = [part for part in (*PRINTED, *MEASURED) if (HERE / f"{part}.py").exists()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*there, "document"], metavar="PART")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the numbers and figures")
    parser.add_argument("--page", type=Path, default=FOLDER.with_suffix(".md"))
    chosen = parser.parse_args()
    began = time.perf_counter()
    failed = []
    for part in chosen.only or there:
        if part == "document":
            continue
        try:
            if part in PRINTED:
                printed(part, chosen.folder)
            else:
                measured(part, chosen.folder, chosen.data_dir)
        except subprocess.CalledProcessError as error:
            failed.append(f"{part} ended with code {error.returncode}")
    document.write(chosen.folder, chosen.page)
    print(f"{chosen.page}; {(time.perf_counter() - began) / 60:.1f} min")
    if failed:
        sys.exit("; ".join(failed))


if __name__ == "__main__":
    main()
