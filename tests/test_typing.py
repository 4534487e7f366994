"""Types: a file that uses every option is clean for the strictest checkers, and it runs."""

import runpy
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest

import hypergradient

USER = Path(__file__).with_name("typing_user.py")


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_users_file_runs_and_names_every_option() -> None:
    runpy.run_path(str(USER))
    text = USER.read_text(encoding="utf-8")
    for name in ("SGDHD", "AdamHD", "AdamWHD"):
        used = text.split(f"{name}(\n", 1)[1].split("\n)\n", 1)[0]
        for option in signature(getattr(hypergradient, name)).parameters.keys() - {"params"}:
            if option != "decoupled_weight_decay":  # that is AdamWHD
                assert f"    {option}=" in used, (name, option)


def test_mypy_is_content_even_when_strict() -> None:
    root = Path(__file__).parents[1]  # whose cache has torch already
    run(sys.executable, "-m", "mypy", "--strict", str(USER), folder=root)


def test_pyright_is_content(tmp_path: Path) -> None:
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if pyright is None:
        pytest.skip("pyright is not installed")
    run(pyright, "--pythonpath", sys.executable, str(USER), folder=tmp_path)
