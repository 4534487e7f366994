"""The command: what goes wrong is one clear line each and exit code 2, before any training."""

import importlib.metadata
import subprocess
import sys
from contextlib import ExitStack

import polars as pl
import pytest

from hypergradient.study import cli
from hypergradient.study.declare.load import BUILT_IN, load_study
from hypergradient.study.extras import install
from hypergradient.study.run import execute as execution
from hypergradient.study.run import plan, worker
from hypergradient.study.run.execute import Progress
from hypergradient.study.run.progress import plain_lines, time
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.status import in_full

BUILT_IN = BUILT_IN.glob("*.toml")
COMMAND = [sys.executable, "-c", "from hypergradient.study.cli import main; main()"]


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("trains"))


BAD = {
    "unknown-study": (["run", "tuning-logrge"], "did you mean tuning-logreg?"),
    "unknown-study-far": (["run", "zzz"], "choose from demo, drop-in, "),
    "no-file": (["run", "here.toml"], "no study file here.toml"),
    "syntax": (["run", "broken.toml"], "broken.toml: "),
    "no-scale": (["run", "demo", "--scale", "huge"], "demo has no scale 'huge'; declared: none"),
    "no-data": (["run", "tuning-logreg", "--data-dir", "empty"], "--data-dir"),
    "damaged-data": (["run", "tuning-logreg", "--data-dir", "damaged"], "is damaged: "),
    "file-in-the-way": (["demo", "--out", "broken.toml"], "cannot write to broken.toml"),
    "file-above": (["demo", "--out", "broken.toml/x"], "cannot write to broken.toml/x"),
    "not-writable": (["demo", "--out", "/proc/results"], "cannot write to /proc/results"),
}


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_exit_code_2(command, tmp_path, arguments, said):
    (tmp_path / "broken.toml").write_text("title = [")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bhello")
    code, _, complaint = command(*arguments)
    assert code == 2
    assert said in complaint
    assert len(complaint.splitlines()) == 1


@pytest.mark.usefixtures("no_training")
def test_an_invalid_study_is_a_line_an_error(command, tmp_path):
    (tmp_path / "bad.toml").write_text('tasks = ["x"]\nmethods = []\nseeds = [0]\nepochs = 0\n')
    code, _, complaint = command("run", "bad.toml")
    assert code == 2
    lines = complaint.splitlines()
    places = [line.split(": ")[1] for line in lines]
    assert sorted(places) == ["batch_size", "epochs", "methods", "tasks.0", "title"]


@pytest.mark.parametrize("arguments", [["run"], ["run", "demo", "--workers", "0"], ["walk"]])
def test_usage_errors_have_exit_code_2(command, arguments):
    assert command(*arguments)[0] == 2


def test_list_names_the_studies(command):
    code, shown, _ = command("list")
    assert code == 0
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.stem for path in BUILT_IN)
    (heatmap,) = (line for line in lines if line.startswith("poster-heatmap"))
    assert heatmap.endswith("(paper, laptop)")
    needed = {line.split()[0]: line[19:47].strip() for line in lines}
    assert needed["poster-heatmap"] == needed["network-mnist"] == "MNIST"
    assert needed["untuned"] == "CIFAR-10, MNIST, extra bench"
    assert needed["demo"] == "-"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "tuning-logreg", "--data-dir", "no/such"],
        ["run", "tuning-logreg", "--data-dir", "no/such", "--out", "deep/er"],
        ["report", "demo", "--out", "typo"],
        ["landscape", "beel", "--out", "deep/typo"],
    ],
)
def test_a_mistake_leaves_nothing_behind(command, tmp_path, arguments):
    code, _, complaint = command(*arguments)
    assert code == 2
    assert len(complaint.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_study_from_declaration_to_report(command, study_file, tmp_path, monkeypatch):
    """The real thing; then a resume, which trains nothing."""
    out = tmp_path / "out"
    arguments = ["run", str(study_file()), "--out", str(out), "--workers", "1"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "small: 12 runs, 0 of them done" in done.stdout
    assert "12 runs: 12 done" in done.stdout
    assert (out / "report.html").stat().st_size > 10_000
    assert len(pl.read_parquet(out / "runs.parquet")) == 12
    assert len(pl.read_csv(out / "epochs.csv")) == 12 * 3
    assert "writing the report" in done.stdout
    monkeypatch.setattr(worker, "work", lambda *_: pytest.fail("trains"))
    written = []

    def write_report(*_, **__):
        written.append("report")
        (out / "report.html").write_text("anew")

    monkeypatch.setattr("hypergradient.study.report.page.write_report", write_report)
    code, shown, _ = command(*arguments)
    assert (code, written) == (0, [])
    assert "small: 12 runs, 12 of them done" in shown
    assert "12 runs: 12 done" in shown
    (out / "report.html").write_text("damaged")
    command(*arguments)
    assert written == ["report"]
    command(*arguments)
    assert written == ["report"]
    command("report", *arguments[1:4])
    assert written == ["report"] * 2
    path = study_file()
    path.write_text(path.read_text().replace('title = "Small"', 'title = "Other"'))
    command(*arguments)
    assert written == ["report"] * 3


def test_a_failed_run_is_shown_and_the_exit_code_is_1(command, study_file, monkeypatch):
    def crash(*_):
        raise RuntimeError("out of luck")

    def in_this_process(runs, store, *, data_dir, **_):
        work(runs[:-1], store, data_dir)
        monkeypatch.setattr("hypergradient.study.run.train_runs.train_runs", crash)
        work(runs, store, data_dir)

    monkeypatch.setattr(execution, "execute", in_this_process)
    monkeypatch.setattr("hypergradient.study.report.page.write_report", lambda *_, **__: None)
    code, shown, complaint = command("run", study_file(), "--out", "out")
    assert code == 1
    assert "11 done, 1 failed" in shown
    assert complaint.startswith("failed: digits-logreg SGD-HD lr=0.001 hypergrad_lr=0.001 seed=1")
    assert "RuntimeError: out of luck" in complaint
    assert len(complaint.splitlines()) == 1


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr("hypergradient.study.report.page.write_report", lambda *_, **__: None)


def test_plan_counts_the_runs_and_measures_the_missing(command, study_file, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PROBE_SECONDS", 0.0)
    arguments = (study_file(epochs=3), "--out", "out", "--workers", "2")
    code, shown, _ = command("plan", *arguments)
    loading, first, heads, *rows, last = shown.splitlines()
    assert loading == "loading torch and the study"
    assert (code, first) == (0, "small: 12 runs, 0 of them done")
    assert heads.split()[:3] == ["task", "method", "runs"]
    assert {tuple(row.split()[:3]) for row in rows} == {
        ("digits-logreg", "SGD", "4"),
        ("digits-logreg", "Adam", "4"),
        ("digits-logreg", "SGD-HD", "4"),
    }
    assert last.startswith("about ")
    assert last.endswith("with 2 processes")
    assert not (tmp_path / "out").exists()
    runs = load_study(study_file(epochs=3)).runs()
    work(runs, Store(tmp_path / "out"), None)
    assert command("plan", *arguments)[1] == f"{loading}\nsmall: 12 runs, 12 of them done\n"


@pytest.mark.usefixtures("no_report")
def test_status_report_and_clean(command, study_file, tmp_path):
    path, store = study_file(), Store(tmp_path / "out")
    runs = load_study(path).runs()
    nothing = f"nothing was run in out: hypergradient plan {path} counts the runs to do\n"
    assert command("status", path, "--out", "out")[1] == nothing
    assert not (tmp_path / "out").exists()
    assert command("clean", path, "--out", "out")[1].startswith("nothing to delete")
    work(runs[:5], store, None)
    _, failed, damaged, unfinished, spare = runs[:5]
    (store.folder_of(failed) / "status.json").unlink()
    with store.claim(failed) as claim:
        claim.fail("ValueError: no luck")
    (store.folder_of(damaged) / "metrics.jsonl").write_text("{}\n")
    (store.folder_of(unfinished) / "status.json").unlink()
    (store.folder_of(spare) / "checkpoint.pt").write_bytes(b"x")

    with store.claim(runs[5]):
        _, shown, _ = command("status", path, "--out", "out")
    counts, damage, training, failure = shown.splitlines()
    assert counts == "small: 12 runs: 1 damaged, 2 done, 1 failed, 7 to do, 1 training"
    assert damage == f"damaged: {in_full(damaged)}: trained anew by the next command"
    assert training == f"training: {in_full(runs[5])}: 0 of 2 epochs"
    assert failure.startswith(f"failed: {in_full(failed)}: ValueError: no luck")

    code, shown, _ = command("report", path, "--out", "out")
    assert (code, shown.splitlines()[1:]) == (
        0,
        ["writing the report", "3 of 12 runs are in out/report.html"],
    )
    assert len(pl.read_parquet(tmp_path / "out" / "runs.parquet")) == 3

    _, shown, _ = command("clean", path, "--out", "out", "--yes")
    kinds = [line.split(",")[0] for line in shown.splitlines()]
    assert kinds == ["damaged: 1 runs", "done", "failed: 1 runs", "unfinished: 2 runs"]
    assert [store.whole(run) for run in runs[:5]] == [True, False, False, False, True]
    assert not (store.folder_of(spare) / "checkpoint.pt").exists()
    left = {path.name for run in (failed, damaged) for path in store.folder_of(run).iterdir()}
    assert left == {"lock"}
    assert command("clean", path, "--out", "out")[1].startswith("nothing to delete")


def test_runs_of_a_stack_are_one_line_of_the_status(command, study_file, tmp_path):
    path, store = study_file(), Store(tmp_path / "out")
    runs = load_study(path).runs()[:5]
    with ExitStack() as claims:
        for number, run in enumerate(runs):
            claim = claims.enter_context(store.claim(run))
            claims.enter_context(claim.metrics([{"epoch": e} for e in range(1 + (number > 0))]))
        _, shown, _ = command("status", path, "--out", "out")
    assert shown.splitlines()[1:] == [
        "training: digits-logreg: 5 runs of SGD, Adam, SGD-HD: 0 to 1 of 2 epochs"
    ]


def test_clean_asks_and_leaves_what_is_being_trained(command, study_file, tmp_path, monkeypatch):
    path, store = study_file(), Store(tmp_path / "out")
    run = load_study(path).runs()[0]
    with store.claim(run) as claim:
        claim.fail("ValueError: no luck")
    asked = []
    monkeypatch.setattr(cli.typer, "confirm", asked.append)
    command("clean", path, "--out", "out")
    assert asked == ["Delete these files?"]
    assert store.status(run)["state"] == "failed"
    with store.lock(run):
        _, shown, _ = command("clean", path, "--out", "out", "--yes")
    assert shown.startswith("nothing to delete")
    assert store.status(run)["state"] == "failed"


def test_status_can_be_watched_until_all_is_done(command, study_file, tmp_path, monkeypatch):
    path, store = study_file(), Store(tmp_path / "out")
    runs, waits = load_study(path).runs(), []

    def wait(seconds):
        waits.append(seconds)
        work(runs[: 6 * len(waits)], store, None)

    monkeypatch.setattr(cli.time, "sleep", wait)
    _, shown, _ = command("status", path, "--out", "out", "--watch")
    assert [line.split(": ")[-1] for line in shown.splitlines()] == [
        *(f"hypergradient plan {path} counts the runs to do", "6 done, 6 to do", "12 done")
    ]


@pytest.mark.parametrize("missing", ["typer", "pydantic"])
def test_a_missing_extra_is_one_line(missing):
    script = f"import sys; sys.modules[{missing!r}] = None; {COMMAND[-1]}"
    done = subprocess.run(
        [sys.executable, "-c", script, "demo"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"{missing} is not installed: {install('study')}\n"


def test_plain_lines_estimate_the_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    show = plain_lines()
    for seconds, trained in ((0, 50), (5, 60), (10, 70), (12, 74), (20, 90), (25, 100)):
        now[0] = 100.0 + seconds
        show(Progress(runs=10, finished=trained // 10, epochs=100, trained=trained))
    now[0] = 135.0
    show(Progress(10, 9, 100, 95, latest="\x1b[2J.py: training loss 0.5"))
    assert capsys.readouterr().out.splitlines() == [
        "7/10 runs, about 15 s left",
        "9/10 runs, about 5 s left",
        "9/10 runs, about 4 s left, \\x1b[2J.py: training loss 0.5",
    ]


def test_importing_the_optimizers_does_not_import_the_harness():
    script = "import sys, hypergradient; print([m for m in sys.modules if 'study' in m])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_entry_point_exists():
    (entry,) = (
        point
        for point in importlib.metadata.entry_points(group="console_scripts")
        if point.name == "hypergradient"
    )
    assert entry.load() is cli.main


def test_the_last_collection_is_skipped_unless_triton_would_report_it(monkeypatch):
    calls = []
    monkeypatch.setattr(cli.gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setitem(sys.modules, "triton", None)
    cli.skip_last_collection()
    assert calls == []
    monkeypatch.delitem(sys.modules, "triton")
    cli.skip_last_collection()
    assert calls == ["freeze"]
