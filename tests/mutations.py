"""Whether the tests catch faults: each of faults.toml is made in a copy, and its tests must fail.

    python tests/mutations.py                 # all, and the table in docs/mutations.md
    python tests/mutations.py --only native   # those whose words or file have "native" in them

It is not part of the test suite, as it runs some of it once for each fault.
"""

import argparse
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "mutations.md"
LIMIT = 300  # seconds; a fault that makes a test hang is caught, too
HEADER = """# Faults that the tests catch

Made by `make mutations`. Each row is a fault that is made by hand in a copy of the code
(`tests/faults.toml`), and the test that fails first. All of these tests pass without a fault.

| fault | in | caught by |
|---|---|---|
"""


@dataclass(frozen=True)
class Fault:
    """A fault, and the tests that are to catch it."""

    what: str
    file: str
    old: str
    new: str
    tests: str

    def make(self, tree: Path) -> str:
        """Make the fault in a tree, and return the text that was there.

        Raises:
            SystemExit: the text that it replaces does not occur, or not once.
        """
        path = tree / "src" / "hypergradient" / self.file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise SystemExit(
                f"{self.what!r}: {self.old!r} occurs {count} times in {self.file}, not once: "
                "adapt tests/faults.toml to the code"
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text

    def undo(self, tree: Path, text: str) -> None:
        """Put back what `make` returned."""
        (tree / "src" / "hypergradient" / self.file).write_text(text, encoding="utf-8")


def faults() -> list[Fault]:
    """Return all faults."""
    with (ROOT / "tests" / "faults.toml").open("rb") as file:
        return [Fault(**each) for each in tomllib.load(file)["fault"]]


def run(tree: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Run tests in a tree; return pytest's exit status, and the first that failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # a fault may be as long and as old as what was compiled
        "XDG_CACHE_HOME": str(tree / "cache"),
        "OMP_NUM_THREADS": "1",
        "HYPERGRADIENT_PROFILE": "quick to fail",
    }
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no end within {LIMIT} s"
    if done.returncode < 0:  # the fault was one of memory
        return 1, f"{signal.Signals(-done.returncode).name}, which ended pytest"
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return done.returncode, failed[1] if failed else done.stdout[-300:] + done.stderr[-300:]


def copy_of_the_tree(folder: Path) -> Path:
    """Copy what tests need of the working tree."""
    tree = folder / "tree"

    def skipped(of: str, names: list[str]) -> set[str]:
        made = {"results", "results-untuned"} if Path(of) == ROOT else set()
        return {name for name in names if name.startswith((".", "__py")) or name in made}

    shutil.copytree(ROOT, tree, ignore=skipped)
    (tree / "cache").mkdir(mode=0o700)
    return tree


def main() -> int:
    """Make each fault, and print who catches it; return 1 if one survives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="words of the faults to make")
    parser.add_argument("--no-check", action="store_true", help="trust that the tests pass now")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    options = parser.parse_args()
    only = options.only
    chosen = [each for each in faults() if only in f"{each.what} {each.file}"]
    with tempfile.TemporaryDirectory() as folder:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for i in range(options.jobs):
            trees.put(copy_of_the_tree(Path(folder) / str(i)))
        tree = trees.get()
        for each in chosen:  # before any is run
            each.undo(tree, each.make(tree))
        for tests in dict.fromkeys(() if options.no_check else (e.tests for e in chosen)):
            status, what = run(tree, shlex.split(tests))
            if status:
                raise SystemExit(f"without a fault, {tests} does not pass: {what}")
        trees.put(tree)

        def caught_by(fault: Fault) -> str | None:
            """Make a fault in a tree that is free; return the test that failed, or None."""
            tree = trees.get()
            text = fault.make(tree)
            status, what = run(tree, shlex.split(fault.tests))
            fault.undo(tree, text)
            trees.put(tree)
            caught = status == 1  # 0: all pass; others: pytest could not run them
            print(f"{'caught  ' if caught else 'SURVIVED'} {fault.what}: {what}", flush=True)
            return what if caught else None

        with ThreadPoolExecutor(options.jobs) as pool:
            names = [*pool.map(caught_by, chosen)]
    survived = names.count(None)
    rows = [
        f"| {fault.what} | `{fault.file}` | {f'`{name}`' if name else '**nothing**'} |"
        for fault, name in zip(chosen, names, strict=True)
    ]
    print(f"{len(chosen) - survived} of {len(chosen)} faults are caught")
    if not only:
        TABLE.write_text(HEADER + "\n".join(rows).replace("\\", "/") + "\n", encoding="utf-8")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
