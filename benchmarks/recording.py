"""Raw numbers of a part as JSON beside the figures, with when, where and of what they were made.

A part that is interrupted goes on where it was; one whose code has changed begins anew.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "benchmarks"
CODE = ("src", "benchmarks", "pyproject.toml")


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def code() -> str:
    """Return what identifies the code measured: its trees, and what is not committed yet."""
    status = git("status", "--porcelain", "--", *CODE)
    changes = git("diff", "HEAD", "--", *CODE) + status if status else ""
    trees = "\n".join(git("rev-parse", f"HEAD:{path}") for path in CODE)
    return subprocess.run(
        ["git", "hash-object", "--stdin"],
        input=f"{trees}\n{changes}",
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()


def commit() -> str:
    """Return the commit's abbreviation, and whether the code differs from it."""
    changed = " with changes" if git("status", "--porcelain", "--", *CODE) else ""
    return git("rev-parse", "--short", "HEAD") + changed


def machine() -> str:
    """Return the processor's name and the number of cores this process may use."""
    import os  # noqa: PLC0415

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name.strip()}, {cores} cores, {platform.system()}"


def surroundings() -> dict[str, str]:
    return {
        "commit": commit(),
        "code": code(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


class Recording:
    """The rows of a part, each under a key, on disk as soon as it is measured.

    Args:
        part: The file's name without its suffix.
        folder: Where it is.
        settings: What else the numbers depend on; other settings begin anew.
    """

    def __init__(self, part: str, folder: Path = FOLDER, **settings: Any) -> None:
        self.path = folder / f"{part}.json"
        self.made = surroundings() | {"settings": settings}
        self.rows: dict[str, Any] = {}
        before = read(part, folder)
        if before and all(before["made"][key] == self.made[key] for key in ("code", "settings")):
            self.made, self.rows = before["made"], before["rows"]

    def measure(self, key: str, measure: Callable[[], Any]) -> Any:
        """Return the row of that key, measured now unless it is there already."""
        if key not in self.rows:
            print(f"{self.path.stem}: {key} ...", file=sys.stderr, flush=True)
            began = time.perf_counter()
            self.rows[key] = measure()
            self.write()
            print(f"    {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        return self.rows[key]

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        text = json.dumps({"made": self.made, "rows": self.rows}, indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self.path)


def read(part: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """Return a part's content, or None where it was never measured."""
    path = folder / f"{part}.json"
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
