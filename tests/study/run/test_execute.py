"""Workers: each run is done once, whatever is killed; a crash is kept; nothing is repeated."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from processes import finished_at, numbers, record

from forking import Forked, fork_server, wait_until
from hypergradient.study.declare.load import load_study
from hypergradient.study.errors import StudyError
from hypergradient.study.run.claim import Claim
from hypergradient.study.run.execute import Progress, execute, look
from hypergradient.study.run.guard import MOST_DEATHS
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

COMMAND = [sys.executable, "-c", "from hypergradient.study.cli import main; main()"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture
def longer(study_file):
    """Twelve runs of a fraction of a second each."""
    return load_study(study_file(epochs=120)).runs()


def test_workers_do_what_one_process_does_and_nothing_twice(small, store, tmp_path):
    runs, seen, alone = small.runs(), [], Store(tmp_path / "alone")
    execute(runs, store, workers=2, report=seen.append)
    assert seen[0] == Progress(runs=12, finished=0, epochs=24, trained=0)
    assert seen[-1] == Progress(runs=12, finished=12, epochs=24, trained=24)
    work(runs, alone, None)
    assert numbers(store, runs) == numbers(alone, runs)
    assert len({(run.seed, store.status(run)["init_hash"]) for run in runs}) == 2
    before = finished_at(store, runs)
    assert len(before) == 12
    execute(runs, store, workers=2)
    assert finished_at(store, runs) == before


def test_progress_has_the_task_and_loss_of_the_last_epoch_written(small, store):
    runs = small.runs()
    with store.claim(runs[0]) as claim, claim.metrics([{"epoch": 0, "train_loss": 2.25}]):
        now = look(runs, runs, store)
    assert now.latest == "digits-logreg: training loss 2.25"
    with store.claim(runs[1]) as claim, claim.metrics([{"epoch": 1, "train_loss": None}]):
        os.utime(store.folder_of(runs[0]) / "metrics.jsonl", (0, 0))
        now = look(runs, runs, store)
    assert now.latest == "digits-logreg: training loss -"
    assert look(runs, [], store).latest == ""


def test_killed_workers_are_replaced_and_each_run_is_done(longer, store, tmp_path):
    """Kill -9 the worker twice, in the middle of a run."""
    kills = []

    def kill(now: Progress) -> None:
        busy = [run for run in longer if store.epochs_seen(run) and not store.finished(run)]
        if busy and now.finished >= 3 * len(kills) and len(kills) < 2:
            (victim,) = multiprocessing.active_children()
            os.kill(victim.pid, signal.SIGKILL)
            kills.append(victim.pid)

    execute(longer, store, workers=1, report=kill)
    assert len(kills) == 2
    assert store.missing(longer) == []
    undisturbed = Store(tmp_path / "undisturbed")
    work(longer, undisturbed, None)
    assert numbers(store, longer) == numbers(undisturbed, longer)
    record("kill -9 of a worker", len(kills), 0, 0, "none: another takes its place")


def be_command(path, out):
    execute(load_study(path).runs(), Store(out), workers=1)


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["kill-all", "kill-parent"])
def test_a_command_that_was_killed_resumes_without_repeating(study_file, tmp_path, send):
    path = study_file(epochs=120)
    runs, store = load_study(path).runs(), Store(tmp_path / "out")
    with Forked(be_command, path, store.folder) as process:
        wait_until(lambda: len(finished_at(store, runs)) >= 2)
        send(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resume(runs, store)
    whom = "a command and its workers" if send is os.killpg else "a command"
    record(f"kill -9 of {whom}", 1, 0, 0, "none: the same command resumes")


def resume(runs, store):
    """Train what is left after the end of a command, and see that what it finished is kept."""
    wait_until(lambda: all(store.idle(run) for run in runs))  # workers leave with their parent
    before = finished_at(store, runs)
    assert 2 <= len(before) < len(runs)
    work(runs, store, None)
    assert store.missing(runs) == []
    after = finished_at(store, runs)
    assert {run: after[run] for run in before} == before


def test_a_command_that_was_interrupted_says_so_and_resumes(study_file, tmp_path):
    path = study_file(epochs=120)
    runs, store = load_study(path).runs(), Store(tmp_path / "out")
    command = [*COMMAND, "run", str(path), "--out", str(store.folder), "--workers", "1"]
    with subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        wait_until(lambda: len(finished_at(store, runs)) >= 2)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=240)
    assert process.returncode == 130
    left = len(store.missing(runs))
    assert complaint.startswith(f"interrupted with {left} runs to do: the same command")
    assert len(complaint.splitlines()) == 1
    resume(runs, store)
    record("Ctrl-C", 1, 0, 0, "interrupted with N runs to do: the same command resumes")


def work_and_log(runs, store, log):
    """Be a worker that notes each run it finishes."""
    finish = Claim.finish

    def noted(claim, status):
        with log.open("a") as file:
            file.write(f"{claim.folder.name} {os.getpid()}\n")
        finish(claim, status)

    Claim.finish = noted
    work(runs, store, None)


def test_two_processes_share_a_folder_and_never_do_a_run_twice(longer, store, tmp_path):
    log = tmp_path / "log"
    process, work = fork_server().Process, (longer, store, log)
    both = [process(target=work_and_log, args=work) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    trained, by = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert sorted(trained) == sorted(run.id for run in longer)
    assert len(set(by)) == 2


def test_a_crash_is_kept_and_the_others_go_on(small, store):
    broken = small.runs()[3]
    folder = store.folder_of(broken)
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").symlink_to(folder / "no" / "such" / "place")
    work(small.runs(), store, None)
    assert store.status(broken)["state"] == "failed"
    assert "metrics.jsonl is a link" in (folder / "traceback.txt").read_text()
    assert store.missing(small.runs()) == [broken]
    (folder / "metrics.jsonl").unlink()
    execute(small.runs(), store, workers=1)
    assert store.missing(small.runs()) == []


def test_a_run_that_kills_its_process_each_time_is_given_up(small, store):
    run = small.runs()[0]
    store.folder_of(run).mkdir(parents=True)
    (store.folder_of(run) / "lock").write_bytes(b"x" * MOST_DEATHS)
    work([run], store, None)
    assert store.status(run)["state"] == "failed"
    assert "killed 3 times" in store.status(run)["error"]


def test_workers_that_cannot_work_end_the_command(small, store):
    run = small.runs()[0]
    store.folder_of(run).mkdir(parents=True)
    (store.folder_of(run) / "run.json").mkdir()  # so that the claim itself fails
    with pytest.raises(StudyError, match="cannot work"):
        execute([run], store, workers=1)
