"""The programs of `make gpu`, tiny and on the CPU, so that they do not rot."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from forking import Forked

ROOT = Path(__file__).parents[2]


@cache
def commands() -> dict[str, list[str]]:
    """What `make gpu TINY=1` would run after these tests, by program."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make here")
    shown = [make, "--dry-run", "--old-file", ".venv/dev", "gpu", "TINY=1"]
    done = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines() if "benchmarks/" in line]
    return {Path(line[1]).stem: line[1:] for line in lines}


def rows_of(part: str, folder: Path) -> dict[str, Any]:
    """The rows that a program writes, none of which may say that it failed."""
    program, *options = commands()[part]
    own = [option.replace("results/gpu", str(folder)) for option in options]
    with Forked(be_program, ROOT / program, own, folder) as process:
        assert process.wait() == 0, (folder / "said").read_text()
    rows: dict[str, Any] = json.loads((folder / f"{part}.json").read_text())["rows"]
    for row in rows.values():
        assert "failed" not in row, row
    return rows


def be_program(program: Path, options: list[str], folder: Path) -> None:
    """Do as Python does with a program; what it prints goes into a file."""
    os.environ["TRITON_INTERPRET"] = "1"
    os.chdir(folder)
    sys.argv = [str(program), *options]
    sys.path.insert(0, str(program.parent))
    with ExitStack() as stack, (folder / "said").open("w") as said:
        stack.enter_context(redirect_stdout(said))
        stack.enter_context(redirect_stderr(said))
        if find_spec("triton"):
            from interpreter import replaced_once  # noqa: PLC0415

            stack.enter_context(replaced_once())
        runpy.run_path(str(program), run_name="__main__")


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


def test_a_stack_of_the_study_is_trained_and_goes_on_where_it_was(tmp_path: Path) -> None:
    rows = rows_of("gpu_study", tmp_path)
    (trained,) = (row for row in rows.values() if "runs" in row)
    assert {run["epoch"] for run in trained["runs"]} == {3}
    assert {run["method"] for run in trained["runs"]} == {"SGDN", "SGDN-HD"}
    assert len({run["train_loss"] for run in trained["runs"]}) == len(trained["runs"]) == 4
    path = tmp_path / "gpu_study.json"
    content = json.loads(path.read_text())
    for name in [name for name, row in content["rows"].items() if "runs" in row]:
        del content["rows"][name]  # as after an interrupt
    path.write_text(json.dumps(content))
    again = [row for row in rows_of("gpu_study", tmp_path).values() if "runs" in row]
    assert [row["runs"] for row in again] == [trained["runs"]]


def test_every_program_of_make_gpu_has_a_test() -> None:
    tested = Path(__file__).read_text()
    assert len(commands()) == 4
    assert all(f'rows_of("{part}"' in tested for part in commands())
