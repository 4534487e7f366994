"""Inject every fault that the tests know, and write the table in docs/faults.md.

    python benchmarks/faults.py

The tests assert what the table says; each adds a line for what it injected.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
FILES = ("kills", "execute", "dask_pool", "three_commands", "disk", "damage")
ATTACKS = ("clean", "dask_local", "orphans", "own_code")
TESTS = [
    *(f"tests/study/run/test_{name}.py" for name in FILES + ATTACKS),
    "tests/study/test_hostile.py",
    "tests/study/tasks/test_download.py",
]
HEAD = "| fault | times injected | results lost | results repeated | message shown |\n"


def table(lines: list[dict[str, object]]) -> str:
    """A row for each fault, with sums over what the tests have recorded."""
    rows: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        counts = rows.setdefault((line["fault"], line["message"]), [0, 0, 0])
        for place, name in enumerate(("times", "lost", "repeated")):
            counts[place] += line[name]
    body = [
        f"| {fault.replace('<', '&lt;')} | {' | '.join(map(str, counts))} | {message} |\n"
        for (fault, message), counts in sorted(rows.items())
        if counts[0]
    ]
    return HEAD + "|---|---|---|---|---|\n" + "".join(body)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
        environment = os.environ | {"HYPERGRADIENT_FAULTS": str(record)}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode:
            sys.exit("a fault was not survived, or a test is broken: the table is as it was")
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    write(lines)


def write(lines: list[dict[str, object]]) -> None:
    """Put the table and the number of kills into the page."""
    kills = sum(line["times"] for line in lines if str(line["fault"]).startswith("kill"))
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split("<!-- table -->\n", 1)
    after = rest.split("<!-- end of table -->\n", 1)[1]
    inner = f"{table(lines)}\n{kills} kills in all.\n"
    PAGE.write_text(
        f"{before}<!-- table -->\n{inner}<!-- end of table -->\n{after}", encoding="utf-8"
    )
    print(inner)


if __name__ == "__main__":
    main()
