"""The benchmark of a step on a GPU, tiny and in the interpreter, so that it does not rot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to time")

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu_step.py"


def test_it_writes_a_row_for_every_optimizer(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--tiny", "--device", "cpu", "--folder", str(tmp_path)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu_step.json").read_text())["rows"]
    assert len(rows) == 12
    for name, row in rows.items():
        assert "failed" not in row, row
        assert name == "copy" or row["step"]["kernels"]["ms"] > 0
