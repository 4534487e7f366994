"""kill -9 of real processes at random moments: nothing is lost, repeated or different."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
from processes import Ledger, numbers, record

from forking import Forked, wait_until
from hypergradient.study.declare.load import load_study
from hypergradient.study.run import train_runs
from hypergradient.study.run.execute import execute
from hypergradient.study.run.guard import MOST_DEATHS, Leaving
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work

CHECKPOINT_SECONDS = 0.1
COMMAND = """
import sys
from pathlib import Path
from hypergradient.study.declare.load import load_study
from hypergradient.study.run.execute import execute
from hypergradient.study.run.guard import Leaving
from hypergradient.study.run.store import Store
if __name__ == "__main__":
    runs = load_study(Path(sys.argv[1])).runs()
    execute(runs, Store(Path(sys.argv[2])), workers=1, checkpoint_seconds=0.1)
"""


def start(study, out):
    """Start a command as a person does: a new interpreter, which spawns its worker."""
    script = out.with_name("command.py")
    script.write_text(COMMAND)
    return subprocess.Popen([sys.executable, script, study, out], start_new_session=True)


def be_command(study, out):
    runs = load_study(Path(study)).runs()
    execute(runs, Store(out), workers=2, checkpoint_seconds=CHECKPOINT_SECONDS)


def fork(study, out):
    return Forked(be_command, study, out)


def workers_of(pid):
    """Worker processes, without multiprocessing's resource tracker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return [child for child, line in lines.items() if b"resource_tracker" not in line]


def kill_at_random(start, study, out, kills, chance, delay):
    """Run a study, killing all, the command or a worker, and count what came of it."""
    store, runs = Store(out), load_study(study).runs()
    ledger = Ledger(store, runs)
    counts = dict.fromkeys(["all", "command", "worker"], 0)
    commands = checkpoints = 0

    def progress():
        return sum(store.epochs_seen(run) for run in runs), len(store.missing(runs))

    while store.missing(runs):
        commands += 1
        with start(study, out) as command:
            while sum(counts.values()) < kills and command.poll() is None:
                seen = progress()
                wait_until(lambda: progress() != seen or command.poll() is not None)  # noqa: B023
                if not commands and not checkpoints:  # the first has something to go on from
                    wait_until(lambda: any(out.glob("runs/*/checkpoint.pt")))
                time.sleep(chance.uniform(0, delay))
                if command.poll() is not None:
                    break
                checkpoints += sum(1 for _ in out.glob("runs/*/checkpoint.pt"))
                kind = chance.choice([*counts])
                victims = workers_of(command.pid)
                if kind == "worker" and not victims:
                    continue
                counts[kind] += 1
                if kind == "worker":
                    os.kill(chance.choice(victims), signal.SIGKILL)
                else:
                    {"all": os.killpg, "command": os.kill}[kind](command.pid, signal.SIGKILL)
                    command.wait()
        wait_until(lambda: all(store.idle(run) for run in runs))  # workers leave with their parent
        ledger.look()
        assert commands < kills + 10
    assert ledger.lost == ledger.repeated == 0
    return counts, checkpoints


KILLED = {
    "all": "a command and its workers",
    "command": "a command",
    "worker": "a worker",
}


def record_kills(counts):
    said = "none: the same command resumes"
    for kind, times in counts.items():
        message = "none: another takes its place" if kind == "worker" else said
        record(f"kill -9 of {KILLED[kind]}", times, 0, 0, message)


def test_killed_at_a_random_moment(study_file, tmp_path):
    study, out = study_file(epochs=100), tmp_path / "out"
    counts, checkpoints = kill_at_random(start, study, out, 1, random.Random(0), 0.3)  # noqa: S311
    assert sum(counts.values()) == 1
    assert checkpoints > 0
    runs, undisturbed = load_study(study).runs(), Store(tmp_path / "undisturbed")
    work(runs, undisturbed, None)
    assert numbers(Store(out), runs) == numbers(undisturbed, runs)
    record_kills(counts)


def test_killed_forty_times(study_file, tmp_path):
    """The same study in folder after folder, until there have been that many kills."""
    study, chance, kills = study_file(epochs=60), random.Random(1), 0  # noqa: S311
    runs, undisturbed = load_study(study).runs(), Store(tmp_path / "undisturbed")
    work(runs, undisturbed, None)
    for attempt in count():
        out = tmp_path / f"out{attempt}"
        counts, _ = kill_at_random(fork, study, out, 40 - kills, chance, 0.1)
        kills += sum(counts.values())
        assert numbers(Store(out), runs) == numbers(undisturbed, runs)
        record_kills(counts)
        if kills == 40:
            break
        assert attempt < 40


class Stop(Leaving):
    """Ends a worker's work as a signal does."""


def test_a_damaged_checkpoint_costs_time_and_no_more(study_file, tmp_path, monkeypatch):
    """Truncated anywhere the run starts anew; whole, it goes on; its numbers are the same."""
    (run, *_), store = load_study(study_file(epochs=20)).runs(), Store(tmp_path / "out")
    undisturbed = Store(tmp_path / "undisturbed")
    work([run], undisturbed, None)
    place = store.folder_of(run) / "checkpoint.pt"

    def stop():
        if store.epochs_seen(run) == 10:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(train_runs, "leave_if_alone", stop)
        with pytest.raises(Stop):
            work([run], store, None, checkpoint_seconds=0.0)
    kept = place.read_bytes()
    for size in (*range(0, len(kept), len(kept) // 4), len(kept)):
        place.write_bytes(kept[:size])
        metrics = store.folder_of(run) / "metrics.jsonl"
        metrics.write_bytes(metrics.read_bytes()[: 100 * size // len(kept)])
        work([run], store, None)
        assert numbers(store, [run]) == numbers(undisturbed, [run])
        assert not place.exists()
        (store.folder_of(run) / "status.json").unlink()


def test_a_checkpoint_forgives_the_deaths_before_it(small, tmp_path):
    """A run that gets further between kills is never given up."""
    store, run = Store(tmp_path), small.runs()[0]
    with store.claim(run) as claim:
        assert claim.deaths == 0
    (store.folder_of(run) / "lock").write_bytes(b"x" * (MOST_DEATHS - 1))
    with store.claim(run) as claim:
        assert claim.deaths == MOST_DEATHS - 1
        claim.got_further()
        assert (store.folder_of(run) / "lock").stat().st_size == 1
