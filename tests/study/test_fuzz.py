"""Whatever a study file or a command line says, the answer is a result or a line of what is wrong.

`HYPERGRADIENT_EXAMPLES=5000 pytest tests/study/test_fuzz.py` draws that many, other ones each time.
"""

import contextlib
import copy
import io
import json
import math
import string
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from test_cli import COMMAND

from hypergradient.study import cli
from hypergradient.study.declare.grid import MOST_RUNS
from hypergradient.study.declare.load import built_in_studies, load_study
from hypergradient.study.errors import StudyError
from hypergradient.study.run import execute as execution
from hypergradient.study.run import plan as planning
from hypergradient.study.tasks.data.load import ENVIRONMENT_VARIABLE, load_data
from thorough import thorough

STUDIES = [path.read_text(encoding="utf-8") for path in built_in_studies().values()]
COMMANDS = ["list", "plan", "run", "status", "report", "clean", "landscape", "demo", "walk", ""]
OPTIONS = ["--scale", "--data-dir", "--out", "--workers", "--steps", "--start", "--box"]
OPTIONS += ["--methods", "--yes", "--help", "--version", "-x", "--"]
CROWD = range(2000)  # four such lists are more combinations than there is time for
NUMBERS = [0, -1, 1, 2, 10**30, 10**400, -(10**400), 0.1, -0.0, 1e308, 5e-324, math.nan, math.inf]
WORDS = ["", "none", "SGD", "AdamW-HD", "LBFGS", "SparseAdam", "Optimizer", "lr_scheduler", "Muon"]
WORDS += ["digits-logreg", "mnist-mlp", "no.such:thing", "math:sqrt", "math:pi", "gone.py:x", ":"]
WORDS += ["builtins:print", "builtins:dict", "a\nb", "\x1b[31m", "Ω≈ç√", "\0", "../..", "x" * 5000]
KEYS = [
    "lr",
    "hypergrad_lr",
    "capturable",
    "differentiable",
    "params",
    "momentum",
    "betas",
    "",
    "é\n",
]

junk = st.recursive(
    st.sampled_from([*NUMBERS, *WORDS, True, False, CROWD])
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


def toml(value: Any) -> str:
    """A value as TOML has it, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | range):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def places(content: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """All places in nested tables and lists."""
    pairs: Any = ()
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, list):
        pairs = enumerate(content)
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, *path, key)


@st.composite
def studies(draw: st.DrawFn) -> str:
    """A built-in study in which some values are others, gone, or new."""
    content = copy.deepcopy(tomllib.loads(draw(st.sampled_from(STUDIES))))
    content.pop("published", None)
    if draw(st.booleans()):
        content["tasks"] = ["digits-logreg"]
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(content))
        if not found:
            break
        *above, last = draw(st.sampled_from(found))
        at = content
        for key in above:
            at = at[key]
        how = draw(st.sampled_from(["set", "set", "grid", "delete", "add"]))
        if how == "delete":
            del at[last]
        elif how == "add" and isinstance(at, dict):
            at[draw(st.text(max_size=5) | st.sampled_from(KEYS))] = copy.deepcopy(draw(junk))
        elif how == "grid":
            at[last] = dict.fromkeys(draw(st.lists(st.sampled_from(KEYS), max_size=5)), CROWD)
        else:
            at[last] = copy.deepcopy(draw(junk))
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in content.items())


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """The bytes of a study with a part of them cut, doubled or replaced."""
    whole = draw(st.sampled_from(STUDIES)).encode()
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + 200)))
    middle = draw(
        st.binary(max_size=40)
        | st.sampled_from([b"", whole[start:end] * 2, b"[" * 5000, b"{a=" * 3000])
    )
    return whole[:start] + middle + whole[end:]


def assert_clear(message: str) -> None:
    lines = message.splitlines()
    assert lines
    assert all(line.isprintable() and len(line) < 1200 for line in lines), message
    assert "Traceback" not in message


files = studies().map(str.encode) | torn() | st.binary(max_size=200)


@thorough(100)
@given(files)
def test_any_study_file_is_read_or_refused_in_lines(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_bytes(content)
    try:
        study = load_study(path)
    except StudyError as error:
        told = str(error)
        event("refused")
        assert_clear(told)
        assert all(line.startswith(f"{path}: ") for line in told.splitlines())
    else:
        event("read")
        runs = study.runs()
        assert 0 < len(runs) <= MOST_RUNS
        assert len({run.id for run in runs}) == len(runs)


arguments = st.lists(
    st.sampled_from(OPTIONS)
    | st.sampled_from(
        ["demo", "fuzz.toml", "tuning-logreg", "beale", "gd,adam+", "a:b", "1", "out"]
    )
    | st.sampled_from([str(number) for number in NUMBERS if abs(number) < 1e40])
    | st.sampled_from([word for word in WORDS if "\0" not in word])
    | st.text(string.printable, max_size=6),
    max_size=5,
)


@pytest.fixture(scope="module")
def nothing_heavy() -> Iterator[None]:
    """No training, no descent, and probes of one step."""
    with (
        mock.patch.object(execution, "execute"),
        mock.patch.object(planning, "PROBE_SECONDS", 0.0),
        mock.patch("hypergradient.study.landscape.lab.explore"),
        mock.patch("hypergradient.study.landscape.lab.write", return_value="page"),
    ):
        yield


@pytest.mark.usefixtures("nothing_heavy")
@thorough(60)
@given(st.sampled_from(COMMANDS), arguments, files)
def test_any_command_line_is_answered(
    tmp_path_factory: Any, command: str, rest: list[str], content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "commands"
    folder.mkdir(exist_ok=True)
    (folder / "fuzz.toml").write_bytes(content)
    (folder / "empty").mkdir(exist_ok=True)
    code, complaint = call(folder, [command, *rest])
    event(f"{command} {code}")
    assert code in {0, 1, 2}
    assert "Traceback" not in complaint
    if code == 2:
        assert complaint.strip()


def call(folder: Path, line: list[str]) -> tuple[int, str]:
    """The exit code and complaint of a command line in this process; no terminal to ask."""
    out, err = io.StringIO(), io.StringIO()
    load_data.cache_clear()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["hypergradient", *line]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        mock.patch.dict("os.environ", {ENVIRONMENT_VARIABLE: str(folder / "empty")}),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    ended = end.value.code
    return (ended if isinstance(ended, int) else 0 if ended is None else 1), err.getvalue()


MANY = "grid = {lr = %s, momentum = %s, dampening = %s, weight_decay = %s}" % ((list(CROWD),) * 4)
HEAD = 'title = "x"\ntasks = ["digits-logreg"]\nepochs = 1\nbatch_size = 1\n'
REFUSED = {
    "grid of 10^13": (
        f'{HEAD}seeds = [0]\n[[methods]]\nnames = ["SGD"]\n{MANY}',
        "more than 100,000",
    ),
    "seeds": (
        f'{HEAD}seeds = {list(range(200_000))}\n[[methods]]\nnames = ["SGD"]\ngrid = {{lr = 1}}',
        "200,000 runs are more than 100,000",
    ),
    "deep": ("a = " + "[" * 50_000, "nested too deeply"),
    "digits": (f"seeds = [{'9' * 5000}]", "fuzz.toml: "),
    "huge": (f"{HEAD}seeds = [{10**30}]\nmethods = []", "seeds.0: "),
    "binary": ("\udcff\udcfe\0", "fuzz.toml: "),
    "control": ('"\\u001b[31m\\n" = 1', "\\x1b[31m"),
    "raises": (
        f'{HEAD}seeds = [0]\nmethods = [{{names = "builtins:dict", grid = {{lr = 1}}}}]',
        "dict",
    ),
    "no task": ('tasks = ["math:sqrt"]', "math:sqrt"),
}


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_would_never_end_or_crash_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "fuzz.toml").write_text(content, encoding="utf-8", errors="surrogateescape")
    code, complaint = call(tmp_path, ["plan", "fuzz.toml"])
    assert code == 2
    assert_clear(complaint)
    assert said in complaint


LINES = [
    ["plan", "fuzz.toml", "--out", "o" * 5000],
    ["status", "x" * 5000 + ".toml"],
    ["run", "fuzz.toml", "--out", "\udcff/\n"],
    ["landscape", "beale", "--steps", str(10**12)],
]


@pytest.mark.parametrize("line", LINES, ids=["long out", "long study", "odd out", "no end"])
def test_a_real_process_says_it_too(tmp_path: Path, line: list[str]) -> None:
    (tmp_path / "fuzz.toml").write_text('title = "no more"', encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, *line], capture_output=True, cwd=tmp_path, check=False, timeout=100
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.strip()
