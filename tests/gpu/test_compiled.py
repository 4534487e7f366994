"""Law: Triton's compiler takes every kernel, for GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: there is no compiler")


def test_every_kernel_can_be_compiled_for_a_gpu(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    own = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    paths = f"{tests}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, str(tests / "gpu" / "compile_for_gpu.py")],
        env={**os.environ, **own, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
