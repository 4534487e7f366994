"""Types: a file that uses every option is clean for the strictest checkers, and it runs."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest

import hypergradient
from hypergradient.engine.options import RuleName
from hypergradient.engine.rules import RULES
from hypergradient.optimizers.bases import BASES, BaseName
from hypergradient.optimizers.untuned import BaseWithoutRate

USER = Path(__file__).with_name("typing_user.py")
TYPOS = Path(__file__).with_name("typing_typos.py")


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(*command: str, folder: Path) -> set[int]:
    """Return the lines of `TYPOS` that a checker has an error for."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"typing_typos\.py:(\d+).*error", done.stdout)
    return {int(line) for line in found}


def typos() -> set[int]:
    lines = TYPOS.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# typo")}


def test_types_name_every_entry_of_the_tables() -> None:
    assert set(get_args(BaseName)) == BASES.keys()
    assert set(get_args(BaseWithoutRate)) == hypergradient.Untuned.known_bases.keys()
    assert set(get_args(RuleName)) == RULES.keys()


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
    assert refused(sys.executable, "-m", "mypy", "--strict", str(TYPOS), folder=root) == typos()


def test_pyright_is_content_and_refuses_typos(tmp_path: Path) -> None:
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if pyright is None:
        pytest.skip("pyright is not installed")
    source = Path(hypergradient.__file__).parents[1]  # which need not be the installed one
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(source)]}))
    command = (pyright, "--pythonpath", sys.executable)
    shutil.copy(USER, tmp_path)
    run(*command, folder=tmp_path)
    shutil.copy(TYPOS, tmp_path)
    assert refused(*command, folder=tmp_path) == typos()
