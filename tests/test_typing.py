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


def refused(*command: str, folder: Path) -> list[tuple[str, int]]:
    """Return the lines of either file that a checker has an error for."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = re.findall(r"(\w+)\.py:(\d+).*error", done.stdout)
    assert found, done.stdout + done.stderr
    return [(stem, int(line)) for stem, line in found]


def only_typos() -> list[tuple[str, int]]:
    """Return the lines of `TYPOS` that are to be refused; of `USER` there are none."""
    lines = TYPOS.read_text(encoding="utf-8").splitlines()
    return [(TYPOS.stem, number) for number, line in enumerate(lines, 1) if line.endswith("# typo")]


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


def test_mypy_is_content_even_when_strict_and_refuses_typos() -> None:
    root = Path(__file__).parents[1]  # whose cache has torch already
    command = (sys.executable, "-m", "mypy", "--strict", str(USER), str(TYPOS))
    assert sorted({*refused(*command, folder=root)}) == only_typos()


def test_pyright_is_content_and_refuses_typos(tmp_path: Path) -> None:
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if pyright is None:
        pytest.skip("pyright is not installed")
    source = Path(hypergradient.__file__).parents[1]  # which need not be the installed one
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(source)]}))
    shutil.copy(USER, tmp_path)
    shutil.copy(TYPOS, tmp_path)
    found = refused(pyright, "--pythonpath", sys.executable, folder=tmp_path)
    assert sorted({*found}) == only_typos()
