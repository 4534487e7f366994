"""What the shell completes, asked of the command as a shell asks it."""

import os
import subprocess
import sys

import pytest

from hypergradient.functions import FUNCTIONS
from hypergradient.study import completion, extras
from hypergradient.study.landscape.methods import METHODS


def offered(*words: str) -> list[str]:
    """Return what bash is offered for the last word of a command line."""
    environment = os.environ | {
        "_HYPERGRADIENT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["hypergradient", *words]),
        "COMP_CWORD": str(len(words)),
    }
    script = "import sys; sys.argv[0] = 'hypergradient'; "
    script += "from hypergradient.study.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["run", "poster-"], ["poster-alpha0", "poster-heatmap"]),
        (["plan", "untuned", "--scale", "p"], ["paper"]),
        (["landscape", "ro"], ["rosenbrock"]),
        (["compare", "digits-m"], ["digits-mlp"]),
        (["compare", "digits-mlp", "--optimizer", "Prod"], ["Prodigy", "ProdigyPlus"]),
        (["landscape", "--methods", "gd,nag"], ["gd,nag", "gd,nag+"]),
    ],
)
def test_the_shell_completes(words: list[str], found: list[str]) -> None:
    assert offered(*words) == found


def test_the_names_are_those_there_are() -> None:
    assert set(completion.FUNCTIONS) == set(FUNCTIONS)
    assert set(completion.DESCENTS) <= set(METHODS)


def test_completion_needs_no_torch() -> None:
    script = "import sys; from hypergradient.study import completion as c; c.studies('p'); "
    script += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_extra_is_installed_from_where_the_package_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    checkout = tmp_path / "a b"
    source = checkout / "src" / "hypergradient"
    source.mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "SOURCE", source)
    assert extras.install("study") == f"pip install --editable '{checkout}[study]'"
    monkeypatch.chdir(checkout)
    assert extras.install("study") == "pip install --editable '.[study]'"
    monkeypatch.setattr(extras, "SOURCE", tmp_path / "site-packages" / "hypergradient")
    assert extras.install("study") == "pip install 'hypergradient[study]'"
