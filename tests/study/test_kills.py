"""kill -9 of real processes at random moments: nothing is lost, repeated or different."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hypergradient.study import execute as engine
from hypergradient.study import spec
from hypergradient.study.store import Store

COMMAND = """
import sys
from pathlib import Path
from hypergradient.study import execute, spec
from hypergradient.study.store import Store
if __name__ == "__main__":
    runs = spec.load(Path(sys.argv[1])).runs()
    execute.execute(runs, Store(Path(sys.argv[2])), workers=2, checkpoint_seconds=0.1)
"""


def start(study, out):
    script = out.with_name("command.py")
    script.write_text(COMMAND)
    return subprocess.Popen([sys.executable, script, study, out], start_new_session=True)


def children(pid):
    """Worker processes, and multiprocessing's resource tracker."""
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def finished_at(store, runs):
    """When each finished run's status was written: another time is a repetition."""
    paths = {run.id: store.folder_of(run) / "status.json" for run in runs}
    return {run: path.stat().st_mtime_ns for run, path in paths.items() if path.exists()}


def numbers(store, runs):
    return {
        run.id: [{k: v for k, v in line.items() if k != "seconds"} for line in store.records(run)]
        for run in runs
    }


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def kill_at_random(study, out, kills, seed):
    """Run a study, killing all, the command or a worker, and count what came of it."""
    store, runs = Store(out), spec.load(study).runs()
    chance = random.Random(seed)  # noqa: S311
    before: dict[str, int] = {}
    counts = {"kills": 0, "commands": 0, "repeated": 0, "lost": 0, "checkpoints": 0}

    def progress():
        return sum(store.epochs_seen(run) for run in runs), len(finished_at(store, runs))

    def compare():
        now = finished_at(store, runs)
        counts["repeated"] += sum(now[run] != before[run] for run in before.keys() & now.keys())
        counts["lost"] += len(before.keys() - now.keys())
        whole = {run.id for run in runs if store.whole(run)}
        before.update({run: at for run, at in now.items() if run in whole})

    while store.missing(runs):
        counts["commands"] += 1
        with start(study, out) as command:
            while counts["kills"] < kills and command.poll() is None:
                seen = progress()
                wait_until(lambda: progress() != seen or command.poll() is not None)  # noqa: B023
                if not counts["kills"]:  # the first comes when there is something to go on from
                    wait_until(lambda: any(out.glob("runs/*/checkpoint.pt")))
                time.sleep(chance.uniform(0, 0.3) if counts["kills"] else 0)
                if command.poll() is not None:
                    break
                counts["checkpoints"] += sum(1 for _ in out.glob("runs/*/checkpoint.pt"))
                counts["kills"] += 1
                kind = chance.choice(["all", "command", "worker"])
                if kind == "worker":
                    os.kill(chance.choice(children(command.pid)[1:]), signal.SIGKILL)
                else:
                    {"all": os.killpg, "command": os.kill}[kind](command.pid, signal.SIGKILL)
                    command.wait()
        wait_until(lambda: all(store.idle(run) for run in runs))  # workers leave with their parent
        compare()
        assert counts["commands"] < kills + 10
    return counts


def test_killed_at_random_moments(study_file, tmp_path):
    study = study_file(epochs=150)
    counts = kill_at_random(study, tmp_path / "out", kills=3, seed=0)
    assert counts["kills"] == 3
    assert counts["repeated"] == counts["lost"] == 0
    assert counts["checkpoints"] > 0
    runs, undisturbed = spec.load(study).runs(), Store(tmp_path / "undisturbed")
    engine.work(runs, undisturbed, None)
    assert numbers(Store(tmp_path / "out"), runs) == numbers(undisturbed, runs)


class Stop(BaseException):
    """Ends a worker's work as a signal does."""


def test_a_damaged_checkpoint_costs_time_and_no_more(study_file, tmp_path, monkeypatch):
    """Truncated anywhere the run starts anew; whole, it goes on; its numbers are the same."""
    (run, *_), store = spec.load(study_file(epochs=20)).runs(), Store(tmp_path / "out")
    undisturbed = Store(tmp_path / "undisturbed")
    engine.work([run], undisturbed, None)
    place = store.folder_of(run) / "checkpoint.pt"

    def stop():
        if store.epochs_seen(run) == 10:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(engine, "leave_if_alone", stop)
        with pytest.raises(Stop):
            engine.work([run], store, None, checkpoint_seconds=0.0)
    kept = place.read_bytes()
    for size in (*range(0, len(kept), len(kept) // 4), len(kept)):
        place.write_bytes(kept[:size])
        metrics = store.folder_of(run) / "metrics.jsonl"
        metrics.write_bytes(metrics.read_bytes()[: 100 * size // len(kept)])
        engine.work([run], store, None)
        assert numbers(store, [run]) == numbers(undisturbed, [run])
        assert not place.exists()
        (store.folder_of(run) / "status.json").unlink()


def test_a_checkpoint_forgives_the_deaths_before_it(small, tmp_path):
    """A run that gets further between kills is never given up."""
    store, run = Store(tmp_path), small.runs()[0]
    with store.claim(run) as claim:
        assert claim.deaths == 0
    (store.folder_of(run) / "lock").write_bytes(b"x" * (engine.MOST_DEATHS - 1))
    with store.claim(run) as claim:
        assert claim.deaths == engine.MOST_DEATHS - 1
        claim.got_further()
        assert (store.folder_of(run) / "lock").stat().st_size == 1
