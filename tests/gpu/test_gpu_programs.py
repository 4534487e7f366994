"""The programs of `make gpu`, tiny and on the CPU, so that they do not rot."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def rows_of(part: str, folder: Path) -> dict[str, Any]:
    """The rows that a program writes, none of which may say that it failed."""
    program = str(BENCHMARKS / f"{part}.py")
    command = [sys.executable, program, "--tiny", "--device", "cpu", "--folder", str(folder)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows: dict[str, Any] = json.loads((folder / f"{part}.json").read_text())["rows"]
    for row in rows.values():
        assert "failed" not in row, row
    return rows


def test_the_step_table_has_a_row_for_every_optimizer(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to time")
    rows = rows_of("gpu_step", tmp_path)
    assert len(rows) == 12
    for name, row in rows.items():
        assert name == "copy" or row["step"]["kernels"]["ms"] > 0


def test_whole_training_steps_are_timed(tmp_path: Path) -> None:
    for row in rows_of("gpu_training", tmp_path).values():
        assert row["training step"]["Untuned"]["ms"] > row["optimizer step"]["Untuned"]["ms"] > 0


def test_a_language_model_trains_by_each_optimizer(tmp_path: Path) -> None:
    rows = rows_of("gpu_language_model", tmp_path)
    for row in rows.values():
        assert row["step"][-1] == 3
        assert row["validation loss"][-1] < 5.6  # of 256 bytes that are equally likely: 5.55
    assert len({tuple(row["validation loss"]) for row in rows.values()}) == len(rows)
