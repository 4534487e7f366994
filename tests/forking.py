"""Processes forked from one that has imported torch: a new interpreter takes 3 s to do so."""

import multiprocessing
import os
import time
from multiprocessing.context import ForkServerContext
from types import SimpleNamespace

from hypergradient.study.run import local_pool

PRELOADED = [
    "pytest",
    "torch._dynamo",  # which torch imports with the first optimizer, in 2 s
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    *(f"hypergradient.study.{name}" for name in ("run.train_runs", "cli", "results.collect")),
]


def fork_server() -> ForkServerContext:
    """Return the way to start processes that this process's server forks.

    It has one server, which imports what is asked for before its first fork; so all tests ask here.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server


def wait_until(condition, seconds=240):
    """Look again and again, but for a fifth of the time at most."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        assert began < deadline, "waited too long"
        time.sleep(max(0.01, 4 * (time.monotonic() - began)))


class Forked:
    """A process forked from one that has imported torch, so that dozens start in seconds.

    Its workers are forked in turn, where those of a command started by a person are spawned.

    Args:
        target: What it does.
        arguments: What with.
    """

    def __init__(self, target, *arguments):
        self.process = fork_server().Process(target=be_forked, args=(target, *arguments))
        self.process.start()
        self.pid = self.process.pid
        wait_until(lambda: self.poll() is not None or os.getpgid(self.pid) == self.pid)

    def poll(self):
        return self.process.exitcode

    def wait(self):
        self.process.join()
        return self.process.exitcode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()


def be_forked(target, *arguments):
    os.setsid()
    local_pool.multiprocessing = SimpleNamespace(
        get_context=lambda _: multiprocessing.get_context("fork"),
    )
    target(*arguments)
