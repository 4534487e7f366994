"""Runs a minute: one grid of 42 runs by `hypergradient run` and as a user would do it instead.

    python benchmarks/throughput.py [--runs 42] [--epochs 5] [--data-dir DIR]

Logistic regression on MNIST, `grid.toml`: the same data, epochs and batch size for all, an
evaluation on the test images after each epoch, 2 processes where there is a choice. Each is one
command, timed from its start to its end: imports, reading the data and, for `hypergradient run`,
tables, figures and report included. The fastest two also run it with one epoch a run, where what
does not depend on epochs weighs most. A way that does not end well is reported as such.
"""

import argparse
import csv
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recording import FOLDER, Recording

HERE = Path(__file__).parent
TIME_LIMIT = 420.0  # seconds a way; the slowest takes three minutes on two cores
SHORT, OPTUNA = ", 1 epoch", "Optuna, GridSampler"
WAYS = {
    "DataLoader loops": ("by_hand.py", None),
    OPTUNA: ("by_optuna.py", "optuna"),
    "Ray Tune": ("by_ray.py", "ray"),
}


def timed(command: list[str], limit: float = TIME_LIMIT, **more: Any) -> tuple[float, str]:
    """Run a command and return its seconds and why it failed, or nothing."""
    began = time.perf_counter()
    # Its whole process group ends with it; Ray and others start processes of their own.
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )
    try:
        _, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        end_group(process)
        return time.perf_counter() - began, f"it was not done after {limit:.0f} s"
    seconds = time.perf_counter() - began
    if process.returncode:
        lines = errors.strip().splitlines() or [f"it ended with code {process.returncode}"]
        return seconds, lines[-1][:200]
    return seconds, ""


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process that this one started, and what that has started."""
    import signal  # noqa: PLC0415

    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def by_harness(workers: int, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the grid by the command line, into an empty folder."""
    study = write_grid(folder, chosen)
    command = [sys.executable, "-c", "from hypergradient.study.cli import main; main()"]
    command += ["run", str(study), "--workers", str(workers), "--out", str(folder / "results")]
    if chosen.data_dir:
        command += ["--data-dir", str(chosen.data_dir)]
    seconds, failure = timed(command)
    runs = folder / "results" / "runs.csv"
    losses = read_losses(runs, "train_loss_final") if runs.exists() else {}
    return row(seconds, failure, losses)


def write_grid(folder: Path, chosen: argparse.Namespace) -> Path:
    text = (HERE / "grid.toml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^epochs = .*$", f"epochs = {chosen.epochs}", text)
    if chosen.runs < 42:  # a smaller one, to try this program
        text = text.replace(", 1e-3, 1e-2, 1e-1]", "]").split("[[methods]]")
        text = "[[methods]]".join(text[:2])
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return path


def by_script(script: str, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one of the other ways, a program beside this one."""
    out = folder / "results.csv"
    command = [sys.executable, str(HERE / script), "--out", str(out), "--runs", str(chosen.runs)]
    command += ["--epochs", str(chosen.epochs)]
    if chosen.data_dir:
        command += ["--data-dir", str(chosen.data_dir.resolve())]
    seconds, failure = timed(command)
    return row(seconds, failure, read_losses(out, "train_loss") if out.exists() else {})


def read_losses(path: Path, column: str) -> dict[str, float | None]:
    """Return the training loss of each setting, by its two rates; None where it diverged."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        f"{float(r['lr']):g} {float(r.get('hypergrad_lr') or 0):g}": finite(r[column]) for r in rows
    }


def finite(text: str) -> float | None:
    value = float(text or "nan")
    return value if abs(value) < float("inf") else None


def row(seconds: float, failure: str, losses: dict[str, float | None]) -> dict[str, Any]:
    """Return a row: runs a minute count each setting once, however often it was trained."""
    if failure or not losses:
        return {"cannot_run": failure or "it left no results", "seconds": seconds}
    return {
        "seconds": seconds,
        "runs": len(losses),
        "runs_a_minute": 60 * len(losses) / seconds,
        "losses": losses,
    }


def ways(chosen: argparse.Namespace) -> dict[str, Callable[[Path], dict[str, Any]]]:
    """Return each way to run the grid by its name, ours first."""
    every: dict[str, Callable[[Path], dict[str, Any]]] = {
        "hypergradient run": lambda folder: by_harness(2, chosen, folder),
        "hypergradient run, 1 process": lambda folder: by_harness(1, chosen, folder),
    }
    for name, (script, package) in WAYS.items():
        if package and importlib.util.find_spec(package) is None:
            every[name] = lambda _, package=package: {"cannot_run": f"{package} is not installed"}
        else:
            every[name] = lambda folder, script=script: by_script(script, chosen, folder)
    short = argparse.Namespace(**{**vars(chosen), "epochs": 1})
    every[f"hypergradient run{SHORT}"] = lambda folder: by_harness(2, short, folder)
    if WAYS[OPTUNA][1] and importlib.util.find_spec(WAYS[OPTUNA][1]):
        every[f"{OPTUNA}{SHORT}"] = lambda folder: by_script(WAYS[OPTUNA][0], short, folder)
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    recording = Recording("throughput", chosen.folder, runs=chosen.runs, epochs=chosen.epochs)
    for name, way in ways(chosen).items():
        with tempfile.TemporaryDirectory() as folder:
            recording.measure(name, lambda way=way, folder=folder: way(Path(folder)))


if __name__ == "__main__":
    main()
