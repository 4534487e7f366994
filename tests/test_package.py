"""The package as people look at it: help, completion, version, and as a module that runs."""

import pydoc
import subprocess
import sys

import hypergradient


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "hypergradient", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_help_and_completion_show_every_public_name() -> None:
    text = pydoc.render_doc(hypergradient, renderer=pydoc.plaintext)
    for name in hypergradient.__all__:
        assert f"class {name}(" in text
        assert name in dir(hypergradient)
    assert "hypergrad_lr: beta, the step size of the learning rate's own update" in text


def test_the_version_is_said_by_the_package_and_by_its_command() -> None:
    assert run("--version") == f"hypergradient {hypergradient.__version__}\n"
    assert hypergradient.__version__.count(".") == 2


def test_the_package_runs_as_the_command() -> None:
    assert "demo" in run("list")
