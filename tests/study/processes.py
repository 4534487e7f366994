"""What tests of faults share: what came of a study, and a record of the injections."""

import json
import os
from pathlib import Path

RECORD = "HYPERGRADIENT_FAULTS"
"""Names the file to which `record` adds its lines; `benchmarks/faults.py` reads it."""


def record(fault: str, times: int, lost: int, repeated: int, message: str) -> None:
    """Note what an injected fault did: results lost, results repeated, and what was said."""
    if place := os.environ.get(RECORD):
        line = {"fault": fault, "times": times, "lost": lost, "repeated": repeated}
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"message": message}) + "\n")


def finished_at(store, runs):
    """When each finished run's status was written: another time is a repetition."""
    paths = {run.id: store.folder_of(run) / "status.json" for run in runs}
    return {run: path.stat().st_mtime_ns for run, path in paths.items() if path.exists()}


def numbers(store, runs):
    """All that was recorded but the time it took."""
    return {
        run.id: [{k: v for k, v in line.items() if k != "seconds"} for line in store.records(run)]
        for run in runs
    }


class Ledger:
    """Results that were there, and whether they still are."""

    def __init__(self, store, runs):
        self.store, self.runs = store, runs
        self.before = {}
        self.lost = self.repeated = 0

    def look(self):
        now = finished_at(self.store, self.runs)
        self.lost += len(self.before.keys() - now.keys())
        self.repeated += sum(
            now[run] != self.before[run] for run in self.before.keys() & now.keys()
        )
        whole = {run.id for run in self.runs if self.store.whole(run)}
        self.before = {run: at for run, at in now.items() if run in whole}
